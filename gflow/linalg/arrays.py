"""NumPy arrays and tensors: conversion, and what formulas written for both need.

The vector algebra of small states takes a fifth of the time in NumPy. A formula of operators alone
takes tensors and arrays; what the two libraries name differently is here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", Tensor, np.ndarray)


def to_numpy(values: Tensor | np.ndarray) -> np.ndarray:
    """Return the values of a tensor as a float64 array on the host.

    Examples
    --------
    >>> import torch
    >>> to_numpy(torch.ones(2, requires_grad=True))
    array([1., 1.])
    """
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    array: np.ndarray = np.asarray(values, np.float64)
    return array


def to_numpy_at_once(*values: Any) -> list[np.ndarray]:
    """Return several tensors or arrays as float64 arrays on the host, by one copy from a device.

    Examples
    --------
    >>> import torch
    >>> to_numpy_at_once(torch.ones(2), torch.zeros(1, 1))
    [array([1., 1.]), array([[0.]])]
    """
    tensors = [v.detach() for v in values if isinstance(v, Tensor)]
    if not any(map(on_accelerator, tensors)):
        return [to_numpy(v) for v in values]
    flat = to_numpy(torch.cat([v.reshape(-1).double() for v in tensors]))
    parts = np.split(flat, np.cumsum([v.numel() for v in tensors])[:-1])
    return [part.reshape(v.shape) for part, v in zip(parts, values, strict=True)]


def on_accelerator(values: Tensor | np.ndarray) -> bool:
    """Return whether reading values makes the host wait for a device.

    Examples
    --------
    >>> on_accelerator(np.zeros(1))
    False
    """
    return isinstance(values, Tensor) and values.device.type != "cpu"


def shared_array(values: Tensor) -> np.ndarray | None:
    """Return a float32 or float64 tensor of the CPU as an array on the same memory, else None.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(2)
    >>> shared_array(x)[0] = 1.0
    >>> x, shared_array(x.bfloat16())
    (tensor([1., 0.]), None)
    """
    if values.device.type != "cpu" or values.dtype not in (torch.float64, torch.float32):
        return None
    array: np.ndarray = values.detach().numpy()
    return array


def solve(matrix: Array, vector: Array) -> Array | None:
    """Return x with A x = b, b (n,) and A (n, n); None where A is singular or not finite.

    Parameters
    ----------
    matrix : Tensor or ndarray, shape (n, n)
    vector : Tensor or ndarray, shape (n,)

    Returns
    -------
    Tensor or ndarray, shape (n,), or None

    Examples
    --------
    >>> solve(np.diag([2.0, 4.0]), np.ones(2)), solve(np.zeros((1, 1)), np.ones(1))
    (array([0.5 , 0.25]), None)
    """
    library = np.linalg if isinstance(matrix, np.ndarray) else torch.linalg
    try:
        x: Array = library.solve(matrix, vector)
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError):
        return None
    return x if math.isfinite(norm(x)) else None


def norm(vector: Array) -> float:
    """Return ‖v‖₂ of a vector, (n,).

    Examples
    --------
    >>> norm(np.array([3.0, 4.0]))
    5.0
    """
    return math.sqrt(vector.dot(vector))  # twice as fast as @ where the numbers are few


def matrix_product(a: Array, b: Array) -> Array:
    """Return a @ b; for arrays the operator takes a microsecond longer.

    Parameters
    ----------
    a, b : Tensor or ndarray
        Vectors or matrices.

    Returns
    -------
    Tensor or ndarray

    Examples
    --------
    >>> matrix_product(np.array([3.0, 4.0]), np.eye(2))
    array([3., 4.])
    """
    return a.dot(b) if isinstance(a, np.ndarray) else a @ b


def row_norms(rows: Array) -> Array:
    """Return ‖·‖₂ of each row, (m,), of a matrix, (m, n).

    Examples
    --------
    >>> row_norms(np.array([[3.0, 4.0], [0.0, 2.0]]))
    array([5., 2.])
    """
    if isinstance(rows, Tensor):
        return torch.linalg.vector_norm(rows, dim=1)
    if len(rows) == 1:
        return np.array([norm(rows[0])], rows.dtype)
    squares: np.ndarray = np.einsum("ij,ij->i", rows, rows)
    return np.sqrt(squares)


def device(values: Tensor | np.ndarray) -> torch.device | None:
    """Return the device of a tensor; None for an array.

    Examples
    --------
    >>> device(np.zeros(1)) is None
    True
    """
    return values.device if isinstance(values, Tensor) else None


def numbers(values: Any, like: Array) -> Array:
    """Return numbers in the library and dtype, and on the device, of another array.

    Parameters
    ----------
    values : sequence, ndarray or Tensor
    like : Tensor or ndarray

    Returns
    -------
    Tensor or ndarray, of the shape of ``values``

    Examples
    --------
    >>> numbers([1, 2], np.zeros(3))
    array([1., 2.])
    """
    if isinstance(like, Tensor):
        return on_device(values, like.device, like.dtype)
    return np.asarray(to_numpy(values) if isinstance(values, Tensor) else values, like.dtype)


def on_device(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return numbers as a tensor on a device, which the host does not wait for.

    Parameters
    ----------
    values : sequence, ndarray or Tensor
    device : torch.device
    dtype : torch.dtype, optional
        That of the numbers by default.

    Returns
    -------
    Tensor, of the shape of ``values``

    Examples
    --------
    >>> on_device([1, 2], torch.device("cpu"))
    tensor([1, 2])
    """
    # A copy from memory that is not pinned has left that memory when the call returns.
    return torch.as_tensor(values, dtype=dtype).to(device, non_blocking=True)


def empty(shape: tuple[int, ...], like: Array) -> Array:
    """Return memory that is not initialised, of the kind of another array.

    Parameters
    ----------
    shape : tuple of int
    like : Tensor or ndarray
        Gives the library, the dtype and the device.

    Returns
    -------
    Tensor or ndarray, of that shape

    Examples
    --------
    >>> empty((2, 3), np.zeros(1)).shape
    (2, 3)
    """
    return like.new_empty(shape) if isinstance(like, Tensor) else np.empty(shape, like.dtype)


def where(mask: Array, yes: Array, no: Array | float) -> Array:
    """Return ``yes`` where a mask is true, else ``no``.

    Parameters
    ----------
    mask, yes : Tensor or ndarray
    no : Tensor, ndarray or float

    Returns
    -------
    Tensor or ndarray

    Examples
    --------
    >>> where(np.array([True, False]), np.ones(2), 0.0)
    array([1., 0.])
    """
    if isinstance(mask, Tensor):
        return torch.where(mask, yes, no)
    return np.where(mask, yes, no)


def replace_where(mask: Array, target: Array, values: Array) -> None:
    """Replace the entries of a target by other values where a mask is true, in place.

    Parameters
    ----------
    mask : Tensor or ndarray
        Of a shape that broadcasts to that of the target.
    target, values : Tensor or ndarray
        Of one shape.

    Examples
    --------
    >>> target = np.zeros(2)
    >>> replace_where(np.array([True, False]), target, np.ones(2))
    >>> target
    array([1., 0.])
    """
    if isinstance(target, Tensor):
        torch.where(mask, values, target, out=target)
    else:
        np.copyto(target, values, where=mask)


def joined(parts: Sequence[Array], axis: int = 0) -> Array:
    """Concatenate arrays along a dimension.

    Parameters
    ----------
    parts : sequence of Tensor or ndarray
    axis : int

    Returns
    -------
    Tensor or ndarray

    Examples
    --------
    >>> joined([np.zeros(1), np.ones(2)])
    array([0., 1., 1.])
    """
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts), dim=axis)
    array: Any = np.concatenate(parts, axis=axis)
    return array


def add_multiple(total: Array, vectors: Array, factor: float) -> Array:
    """Add a multiple of vectors to a total in place.

    Parameters
    ----------
    total, vectors : Tensor or ndarray
        Of one shape.
    factor : float

    Returns
    -------
    Tensor or ndarray
        ``total``, which is now total + factor·vectors.

    Examples
    --------
    >>> add_multiple(np.ones(2), np.ones(2), 3.0)
    array([4., 4.])
    """
    if isinstance(total, Tensor):
        return total.add_(vectors, alpha=factor)
    total += factor * vectors
    return total


def add_product(start: Array, matrix: Array, vector: Array, factor: float) -> Array:
    """Compute start + factor·(matrix @ vector).

    Parameters
    ----------
    start : Tensor or ndarray, shape (n,)
    matrix : Tensor or ndarray, shape (n, m)
    vector : Tensor or ndarray, shape (m,)
    factor : float

    Returns
    -------
    Tensor or ndarray, shape (n,)

    Examples
    --------
    >>> add_product(np.ones(2), np.eye(2), np.ones(2), 3.0)
    array([4., 4.])
    """
    if isinstance(start, Tensor):
        return torch.addmv(start, matrix, vector, alpha=factor)
    return start + matrix.dot(factor * vector)


def unit_round_off(like: Tensor | np.ndarray) -> float:
    """Return eps of a dtype: 1 and 1 + eps are neighbours.

    Examples
    --------
    >>> unit_round_off(np.zeros(1))
    2.220446049250313e-16
    """
    info = torch.finfo(like.dtype) if isinstance(like, Tensor) else np.finfo(like.dtype)
    return float(info.eps)
