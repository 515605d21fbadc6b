"""Gram matrices tile by tile: memory known beforehand, a result in memory or on disk.

A tile stays in the cache while all layers pass over it. Of a symmetric matrix each tile is
computed once and written twice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.checks import require_float, require_positive, shown
from gflow.errors import InputError
from gflow.linalg.blocks import spans

#: Called with the entries done and their total after each row of tiles.
Progress = Callable[[int, int], None]

_CACHED = 1 << 16  # entries of a tile on a CPU: a dozen arrays of this size stay in its caches
_STREAMED = 1 << 22  # on an accelerator, where every operation has a fixed cost
_OVERHEAD = 32 << 20  # bytes: torch's own at its first call, or the tables of a Hermite series


class Memory(NamedTuple):
    """Bytes that a Gram matrix takes.

    Attributes
    ----------
    result : int
        The entries, in memory.
    work : int
        Everything else in memory.
    disk : int
        The entries, on disk.

    Examples
    --------
    >>> print(Memory(result=3_200_000_000, work=190_000_000, disk=0))
    3.39 GB of memory: the matrix 3.2 GB, work 0.19 GB
    """

    result: int
    work: int
    disk: int

    @property
    def total(self) -> int:
        """All bytes in memory."""
        return self.result + self.work

    def __str__(self) -> str:
        where = f"{_gigabytes(self.disk)} on disk" if self.disk else _gigabytes(self.result)
        return (
            f"{_gigabytes(self.total)} of memory: the matrix {where}, work {_gigabytes(self.work)}"
        )


def gram_memory(x1: Tensor, x2: Tensor | None, work: int, out: str | Path | None) -> Memory:
    """Return the memory of a kernel between points.

    Parameters
    ----------
    x1 : Tensor
        Points of the rows.
    x2 : Tensor or None
        Points of the columns; None for x1.
    work : int
        Numbers in memory beside the matrix.
    out : path or None
        Where the matrix is stored on disk, if it is.

    Returns
    -------
    Memory

    Examples
    --------
    >>> import torch
    >>> gram_memory(torch.ones(3, 2), None, 0, None).result
    36
    """
    if out is not None and not isinstance(out, str | Path):
        raise InputError(f"out must be the path of a .npy file, got {shown(out)}")
    size = x1.element_size()
    result = len(x1) * len(x1 if x2 is None else x2) * size
    return Memory(0 if out else result, work * size + _OVERHEAD, result if out else 0)


def points_of_any_device(x1: object, x2: object, ndim: int) -> tuple[Tensor, Tensor | None]:
    """Return points of which only shapes matter; InputError unless they have ndim dimensions.

    Parameters
    ----------
    x1, x2 : object
        What was passed as points; None for no second ones.
    ndim : int
        Dimensions of a set of points.

    Returns
    -------
    (Tensor, Tensor or None)

    Examples
    --------
    >>> import torch
    >>> points_of_any_device(torch.empty(5, 2, device="meta"), None, 2)[0].shape
    torch.Size([5, 2])
    """
    first = require_float("x1", x1, shape_only=True)
    second = None if x2 is None else require_float("x2", x2, shape_only=True)
    for name, x in (("x1", first), ("x2", first if second is None else second)):
        if x.ndim != ndim:
            raise InputError(f"{name} must have {ndim} dimensions, got shape {tuple(x.shape)}")
    return first, second


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB"


def tile_entries(x: Tensor) -> int:
    """Return the entries of a tile on the device of x; shapes alone count as a CPU's."""
    return _CACHED if x.device.type in ("cpu", "meta") else _STREAMED


def require_memory(needed: Memory, max_memory: float | None) -> None:
    """Raise InputError where more memory is needed than allowed.

    Parameters
    ----------
    needed : Memory
        What a matrix takes.
    max_memory : float or None
        Bytes allowed, if they are limited.

    Raises
    ------
    InputError
        If it does not fit.

    Examples
    --------
    >>> require_memory(Memory(100, 0, 0), 100)
    """
    if max_memory is None:
        return
    max_memory = require_positive("max_memory", max_memory)
    if needed.total > max_memory:
        raise InputError(
            f"the Gram matrix must fit max_memory = {_gigabytes(max_memory)}, but needs "
            f"{needed}; take fewer points, float32, or out='gram.npy' to keep it on disk"
        )


@contextlib.contextmanager
def new_matrix(shape: tuple[int, int], like: Tensor, out: str | Path | None) -> Iterator[Tensor]:
    """Allocate a matrix, in memory or mapped to a new .npy file.

    Until the context ends the file has the suffix ``.part``; if it ends by an exception the
    file is removed.

    Parameters
    ----------
    shape : tuple of two int
        Rows and columns.
    like : Tensor
        Of the dtype and on the device of the matrix.
    out : path of a .npy file or None
        The file; None for a matrix in memory.

    Yields
    ------
    Tensor
        The matrix, not initialised.

    Raises
    ------
    InputError
        If the file cannot be written.

    Examples
    --------
    >>> import torch
    >>> with new_matrix((2, 3), torch.ones(1), None) as gram:
    ...     gram.shape
    torch.Size([2, 3])
    """
    if out is None:
        yield torch.empty(shape, dtype=like.dtype, device=like.device)
        return
    if not isinstance(out, str | Path):
        raise InputError(f"out must be the path of a .npy file, got {shown(out)}")
    path = Path(os.path.expanduser(out))
    if path.suffix != ".npy" or not path.parent.is_dir() or path.is_dir():
        raise InputError(
            f"out must be the path of a .npy file in a folder that exists, got {str(path)!r}"
        )
    part = path.with_suffix(".npy.part")
    dtype = np.dtype(str(like.dtype).removeprefix("torch."))
    try:
        mapped = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
    except OSError as error:
        raise InputError(f"out must be writable, but {path}: {error.strerror}") from None
    try:
        yield torch.from_numpy(mapped)
        mapped.flush()
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def fill(
    gram: Tensor,
    tile: Callable[[slice, slice], Tensor],
    shape: tuple[int, int],
    symmetric: bool,
    progress: Progress | None = None,
) -> None:
    """Fill a matrix tile by tile.

    Parameters
    ----------
    gram : Tensor, shape (n1, n2)
        Overwritten.
    tile : callable
        ``tile(rows, columns)`` returns these entries.
    shape : tuple of two int
        Rows and columns of a tile.
    symmetric : bool
        Compute only tiles that reach above the diagonal, and mirror them.
    progress : callable, optional
        Called with the entries done and their total after each row of tiles.

    Examples
    --------
    >>> import torch
    >>> full, gram = torch.tensor([[1.0, 2.0], [2.0, 3.0]]), torch.empty(2, 2)
    >>> fill(gram, lambda rows, columns: full[rows, columns], (1, 2), symmetric=True)
    >>> torch.equal(gram, full)
    True
    """
    n1, n2 = gram.shape
    total = gram.numel()
    for rows in spans(n1, shape[0]):
        for columns in spans(n2, shape[1], rows.start if symmetric else 0):
            part = tile(rows, columns)
            gram[rows, columns] = part
            if symmetric:
                _mirror(gram, part, rows, columns)
        if progress is not None:
            done = (total - (n1 - rows.stop) ** 2) if symmetric else rows.stop * n2
            progress(done, total)


def _mirror(gram: Tensor, part: Tensor, rows: slice, columns: slice) -> None:
    """Copy what lies above the diagonal of a tile below the diagonal of the matrix."""
    inside = min(rows.stop, columns.stop) - columns.start
    if columns.start < rows.stop:  # the tile holds part of the diagonal
        block = slice(columns.start, columns.start + inside)
        square = gram[block, block]
        square.copy_(square.triu() + square.triu(1).mT)
        part, columns = part[:, inside:], slice(block.stop, columns.stop)
    gram[columns, rows] = part.mT
