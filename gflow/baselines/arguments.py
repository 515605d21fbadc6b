"""Arguments and results of baselines: data of any unit and dtype, computed in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from gflow.checks import require_finite, require_float, require_nonempty
from gflow.errors import InputError


def require_data(name: str, value: object) -> Tensor:
    """Return data as a tensor without a graph; raise InputError if it is empty or not finite.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        A floating-point tensor or NumPy array.

    Returns
    -------
    Tensor

    Raises
    ------
    InputError
        If it is of another kind, has no entries, or has one that is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> require_data("targets", np.ones(2)).dtype
    torch.float64
    """
    data = require_float(name, value).detach()
    require_nonempty(name, data)
    require_finite(name, data)
    return data


def require_precision(name: str, data: Tensor) -> None:
    """Raise InputError where data are of half precision, in which torch finds no eigenvalues.

    Parameters
    ----------
    name : str
        What the data are, for the message.
    data : Tensor
        Floating-point numbers.

    Raises
    ------
    InputError
        If they have fewer than 32 bits.

    Examples
    --------
    >>> require_precision("measurements", torch.ones(2))
    """
    if torch.finfo(data.dtype).bits < 32:
        raise InputError(f"{name} must be float32 or float64, got {data.dtype}; use x.float()")


def require_samples(inputs: object, targets: object) -> tuple[Tensor, Tensor]:
    """Return inputs and targets as tensors; raise InputError unless their shapes fit.

    Parameters
    ----------
    inputs : object
        A tensor or NumPy array of shape (n, d).
    targets : object
        One of shape (n,).

    Returns
    -------
    tuple of Tensor
        Inputs and targets.

    Raises
    ------
    InputError
        If shapes do not fit, or an argument is empty or not finite.

    Examples
    --------
    >>> X, y = require_samples(torch.ones(3, 2), torch.ones(3))
    >>> tuple(X.shape), tuple(y.shape)
    ((3, 2), (3,))
    """
    X, y = require_float("inputs", inputs), require_float("targets", targets)
    if X.ndim != 2 or y.shape != X.shape[:1]:
        raise InputError(
            f"inputs must have shape (n, d) and targets (n,), got {tuple(X.shape)} and "
            f"{tuple(y.shape)}; reshape them"
        )
    return require_data("inputs", X), require_data("targets", y)


def as_given(result: Tensor, like: Tensor) -> Tensor:
    """Return a result in the dtype and on the device of the data that it was computed from.

    Parameters
    ----------
    result : Tensor
        In float64.
    like : Tensor
        The data.

    Returns
    -------
    Tensor

    Raises
    ------
    InputError
        If it overflows there.

    Examples
    --------
    >>> as_given(torch.ones(1).double(), torch.ones(1)).dtype
    torch.float32
    """
    given = result.to(like)
    if not bool(given.isfinite().all()):
        raise InputError(
            f"the result must fit in the dtype of the data, {like.dtype}, but overflows it; change "
            "the units of the data, or pass them in float64"
        )
    return given


def round_off(*data: Tensor) -> float:
    """Return the round-off of the coarsest dtype of some data."""
    return max(torch.finfo(x.dtype).eps for x in data)
