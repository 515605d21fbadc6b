"""Checks of tensors and tables."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gflow.checks.numbers import require_numbers, shown
from gflow.errors import InputError


def require_tensor(name: str, value: object) -> Tensor:
    """Return a value as a tensor; raise InputError unless it is one, or an array of numbers.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.

    Returns
    -------
    Tensor
        Of any dtype.

    Raises
    ------
    InputError
        If it is neither, or a sparse tensor.

    Examples
    --------
    >>> import numpy as np
    >>> require_tensor("mask", np.array([True, False]))
    tensor([ True, False])
    """
    _require_values(name, value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.dtype.itemsize <= 8:
        return torch.from_numpy(np.require(value, value.dtype.newbyteorder("="), ["C", "W"]))
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        kind = "a sparse one" if isinstance(value, Tensor) else shown(value)
        raise InputError(f"{name} must be a tensor of numbers, got {kind}; convert it")
    return value


def require_float(name: str, value: object, *, shape_only: bool = False) -> Tensor:
    """Return a value as a tensor; raise InputError unless it holds floating-point numbers.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.
    shape_only : bool
        Whether a tensor on the device meta will do.

    Returns
    -------
    Tensor
        The tensor itself, or a NumPy array as a tensor.

    Raises
    ------
    InputError
        If the value is neither tensor nor array, or one of integers, booleans or complex numbers.

    Examples
    --------
    >>> import torch
    >>> require_float("targets", torch.ones(2))
    tensor([1., 1.])
    >>> require_float("targets", [1.0])
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: targets must be a floating-point tensor, got list; use torch.tensor
    """
    if not (shape_only and isinstance(value, Tensor)):
        _require_values(name, value)
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind == "f" and value.dtype.itemsize <= 8:  # torch has no long double
            return require_tensor(name, np.asarray(value))
        kind, mend = str(value.dtype), "x.astype(float)"
    elif not isinstance(value, Tensor):
        kind, mend = type(value).__name__, "torch.tensor"
    elif value.layout != torch.strided:
        kind, mend = "a sparse one", "x.to_dense()"
    elif not value.is_floating_point():
        kind, mend = str(value.dtype), "x.double()"
    else:
        return value
    raise InputError(f"{name} must be a floating-point tensor, got {kind}; use {mend}")


def _require_values(name: str, value: object) -> None:
    """Raise InputError where a tensor or an array has entries without values."""
    if isinstance(value, Tensor) and value.is_meta:
        raise InputError(
            f"{name} must have values, got a tensor on the device meta; load them first"
        )
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        count = int(np.ma.getmaskarray(value).sum())
        raise InputError(
            f"{name} must have a value in every entry, got an array with {count} masked ones; fill "
            "them by .filled(...), or remove them"
        )


def require_nonempty(name: str, value: Tensor) -> None:
    """Raise InputError where a tensor has no entries.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : Tensor
        Value of the argument.

    Raises
    ------
    InputError
        If a dimension of the tensor is 0.

    Examples
    --------
    >>> import torch
    >>> require_nonempty("targets", torch.ones(0, 2))
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: targets must not be empty, got shape (0, 2); add entries
    """
    if value.numel() == 0:
        raise InputError(f"{name} must not be empty, got shape {tuple(value.shape)}; add entries")


def require_finite(name: str, value: Tensor) -> None:
    """Raise InputError where a tensor holds NaN or infinity.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : Tensor
        Value of the argument.

    Raises
    ------
    InputError
        If an entry is NaN or infinite.

    Examples
    --------
    >>> import torch
    >>> require_finite("targets", torch.tensor([1.0, 2.0]))
    """
    bad = (~torch.isfinite(value)).sum().item()
    if bad:
        raise InputError(
            f"{name} must be finite, but {bad} of {value.numel()} entries are NaN or infinite; "
            "remove or fill them first"
        )


def require_dtype_and_device(name: str, value: Tensor, like: Tensor, owner: str) -> None:
    """Raise InputError unless two tensors share dtype and device.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : Tensor
        Value of the argument.
    like : Tensor
        Tensor of the required dtype and device.
    owner : str
        What ``like`` belongs to, for the message.

    Raises
    ------
    InputError
        If dtype or device differ.

    Examples
    --------
    >>> import torch
    >>> require_dtype_and_device("targets", torch.ones(2), torch.ones(3), "H")
    """
    if (value.dtype, value.device) != (like.dtype, like.device):
        raise InputError(
            f"{name} must have the dtype and device of {owner}, {like.dtype} on {like.device}, "
            f"got {value.dtype} on {value.device}; convert one with .to(...)"
        )


def require_single_start(user: str, y0: Tensor, ndim: int) -> None:
    """Raise InputError where a start is an ensemble of states.

    Parameters
    ----------
    user : str
        What takes the start, for the message.
    y0 : Tensor
        A state or an ensemble of states.
    ndim : int
        Number of dimensions of one state.

    Raises
    ------
    InputError
        If y0 has other dimensions beside those of a state.

    Examples
    --------
    >>> import torch
    >>> require_single_start("a study", torch.ones(5, 3), ndim=1)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: a study takes one start, got an ensemble of shape (5, 3); pass one
    """
    if y0.ndim != ndim:
        raise InputError(
            f"{user} takes one start, got an ensemble of shape {tuple(y0.shape)}; pass one"
        )


def require_table(name: str, x: np.ndarray) -> None:
    """Raise InputError unless an array is a matrix of finite numbers with at least one row.

    Parameters
    ----------
    name : str
        Name of the array, for the message.
    x : ndarray
        Samples, one a row.

    Raises
    ------
    InputError
        If x is no matrix, has no rows, or has an entry that is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> require_table("inputs", np.ones((3, 2)))
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
        kind = f"one of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise InputError(f"{name} must be a NumPy array of numbers, got {kind}; convert it")
    if x.ndim != 2:
        raise InputError(
            f"{name} must be a matrix with one sample a row, got shape {x.shape}; "
            "reshape to (samples, -1) first"
        )
    if x.shape[0] == 0:
        raise InputError(f"{name} must not be empty, got shape {x.shape}; add samples")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{name} must be finite, got {x[row, column]} at row {row}, column {column} "
            f"(counted from 0; {len(bad)} such entries); remove or fill them first"
        )


def require_times(ts: object) -> Tensor:
    """Return times as a float64 tensor; raise InputError unless they are a row of times t ≥ 0.

    Examples
    --------
    >>> require_times([0, 0.5])
    tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    times = torch.tensor(require_numbers("times", ts, "[0.0, {}]"), dtype=torch.float64)
    if not bool((times >= 0).all()):
        raise InputError(f"times must be at least 0, got {float(times.min()):g}; count from 0")
    return times
