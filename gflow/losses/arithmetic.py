"""Arithmetic that the losses share, on tensors and on arrays."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import shared_array


def inner(a: Any, b: Any) -> Any:
    """Compute ⟨a, b⟩ of the matrices of two tensors, or of two arrays.

    Parameters
    ----------
    a, b : Tensor, shape (..., m, n), or ndarray, shape (m, n)

    Returns
    -------
    Tensor, shape (...), or float

    Examples
    --------
    >>> float(inner(np.eye(2), np.ones((2, 2))))
    2.0
    """
    return np.vdot(a, b) if isinstance(a, np.ndarray) else (a * b).sum(dim=(-2, -1))


def square(x: Any) -> Any:
    """Compute ‖x‖²_F of each matrix of a tensor, or of one array.

    Examples
    --------
    >>> square(torch.eye(2)).item()
    2.0
    """
    return inner(x, x)


def with_arrays(loss: Any, of: type) -> Any:
    """Return a loss with arrays in place of its tensors, on the same memory.

    Parameters
    ----------
    loss : Loss
    of : type
        Its class. A subclass may have other methods, which arrays do not suit.

    Returns
    -------
    Loss or None
        None for a subclass, for members with data of their own, and for data of other devices.

    Examples
    --------
    >>> from gflow.losses import SquaredDistance
    >>> loss = SquaredDistance(torch.eye(2, dtype=torch.float64))
    >>> float(with_arrays(loss, SquaredDistance)(np.zeros((2, 2))))
    1.0
    """
    is_shared = shared_array(loss.reference_tensor) is not None
    if loss.members or type(loss) is not of or not is_shared:
        return None
    arrays = copy.copy(loss)
    for name, value in vars(loss).items():
        if isinstance(value, Tensor):
            setattr(arrays, name, shared_array(value))
    return arrays


def triangular(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (R, QᵀY, c) of X = QR, with ½‖X Z − Y‖² = ½‖R Z − QᵀY‖² + c.

    Parameters
    ----------
    X : Tensor, shape (..., n, d)
    Y : Tensor, shape (..., n, k)

    Returns
    -------
    tuple of Tensor, shapes (..., d, d), (..., d, k) and (...)

    Examples
    --------
    >>> _, _, rest = triangular(torch.ones(2, 1), torch.tensor([[1.0], [3.0]]))
    >>> round(rest.item(), 6)     # ½((1 − 2)² + (3 − 2)²)
    1.0
    """
    Q, R = torch.linalg.qr(X)
    projected = Q.mT @ Y
    return R, projected, 0.5 * square(Y - Q @ projected)
