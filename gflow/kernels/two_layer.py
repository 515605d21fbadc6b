r"""H* of a two-layer ReLU network with only the first layer trained.

f(x) = m^{-1/2} Σ_r a_r σ(w_r·x), w_r ~ N(0, I), a_r = ±1 fixed, m → ∞:

    H*(x, x') = x·x' (π − θ)/(2π),   θ the angle between x and x'

(Du et al. 2019, arXiv:1810.02054, eq. 3). Kernel flow with it is the flow of the
**sum** ½Σ(u − y)². Nothing is divided by the input dimension.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.losses import require_finite


def two_layer_relu_gram(x1: Tensor, x2: Tensor | None = None) -> Tensor:
    """Gram matrix of H*(x, x') = x·x' (π − arccos(x·x'/‖x‖‖x'‖))/(2π).

    Parameters
    ----------
    x1 : Tensor, shape (n1, d)
        Points, one a row; any norm (the theory takes ‖x‖ = 1).
    x2 : Tensor, shape (n2, d), optional
        Further points; x1 itself by default, then symmetric with exact diagonal ‖x‖²/2.

    Returns
    -------
    Tensor, shape (n1, n2)

    Raises
    ------
    InputError
        If the points are not finite matrices with the same number of columns.

    Examples
    --------
    >>> import torch
    >>> two_layer_relu_gram(torch.eye(2, dtype=torch.float64)).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    other = x1 if x2 is None else x2
    for name, x in (("x1", x1), ("x2", other)):
        if x.ndim != 2:
            raise InputError(f"{name} must have shape (n, d), got {tuple(x.shape)}")
        require_finite(name, x)
    if x1.shape[1] != other.shape[1]:
        raise InputError(
            f"x1 and x2 must have the same columns, got {x1.shape[1]} and {other.shape[1]}"
        )
    inner = x1 @ other.mT
    norms = x1.norm(dim=1)[:, None] * other.norm(dim=1)
    cosine = (inner / torch.where(norms > 0, norms, torch.ones_like(norms))).clamp(-1.0, 1.0)
    gram = inner * (math.pi - torch.arccos(cosine)) / (2 * math.pi)
    if x2 is None:
        gram = 0.5 * (gram + gram.mT)
        gram.diagonal().copy_(0.5 * x1.square().sum(dim=1))
    return gram
