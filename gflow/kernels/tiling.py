"""Gram matrices tile by tile: memory known beforehand, a result in memory or on disk.

A tile stays in the cache while all layers pass over it. Of a symmetric matrix each tile is
computed once and written twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError

#: Called with the entries done and their total after each row of tiles.
Progress = Callable[[int, int], None]

_CACHED = 1 << 16  # numbers in a tile on a CPU: a dozen arrays of it stay in its caches
_STREAMED = 1 << 22  # on an accelerator, where every operation has a price of its own
_FIXED = 32 << 20  # bytes: torch's own at its first call, or the tables of a Hermite series


class Memory(NamedTuple):
    """Bytes that a Gram matrix takes: its entries, the work beside them, and on disk.

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
        return self.result + self.work

    def __str__(self) -> str:
        where = f"{_gigabytes(self.disk)} on disk" if self.disk else _gigabytes(self.result)
        return (
            f"{_gigabytes(self.total)} of memory: the matrix {where}, work {_gigabytes(self.work)}"
        )


def memory(x1: Tensor, x2: Tensor | None, work: int, out: str | Path | None) -> Memory:
    """`Memory` of a kernel between points, with so many numbers of work beside it."""
    size = x1.element_size()
    result = len(x1) * len(x1 if x2 is None else x2) * size
    return Memory(0 if out else result, work * size + _FIXED, result if out else 0)


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB"


def tile_numbers(x: Tensor) -> int:
    """Numbers in one tile on the device of x; points that are only shapes count as a CPU's."""
    return _CACHED if x.device.type in ("cpu", "meta") else _STREAMED


def require_room(needed: Memory, max_memory: float | None) -> None:
    """Raise InputError where more memory is needed than allowed."""
    if max_memory is not None and not needed.total <= max_memory:
        raise InputError(
            f"the Gram matrix must fit max_memory = {_gigabytes(max_memory)}, but needs "
            f"{needed}; take fewer points, float32, or out='gram.npy' to keep it on disk"
        )


@contextlib.contextmanager
def matrix(shape: tuple[int, int], like: Tensor, out: str | Path | None) -> Iterator[Tensor]:
    """An empty matrix to fill, in memory or mapped to a new .npy file.

    The file has its name only once it is whole: until then it ends in ``.part``, and is
    removed if the work stops.
    """
    if out is None:
        yield torch.empty(shape, dtype=like.dtype, device=like.device)
        return
    path = Path(out)
    if path.suffix != ".npy" or not path.parent.is_dir() or path.is_dir():
        raise InputError(
            f"out must be the path of a .npy file in a folder that exists, got {str(path)!r}"
        )
    part = path.with_suffix(".npy.part")
    kind = np.dtype(str(like.dtype).removeprefix("torch."))
    try:
        mapped = np.lib.format.open_memmap(part, mode="w+", dtype=kind, shape=shape)
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
    step: tuple[int, int],
    symmetric: bool,
    progress: Progress | None,
) -> None:
    """Write ``tile(rows, columns)`` everywhere in gram, above the diagonal only if symmetric."""
    rows, columns = gram.shape
    total, done = gram.numel(), 0
    for i in range(0, rows, step[0]):
        below = slice(i, min(i + step[0], rows))
        for j in range(i if symmetric else 0, columns, step[1]):
            right = slice(j, min(j + step[1], columns))
            part = tile(below, right)
            gram[below, right] = part
            if symmetric:
                _mirror(gram, part, below, right)
        if progress is not None:
            done = (total - (rows - below.stop) ** 2) if symmetric else below.stop * columns
            progress(done, total)


def _mirror(gram: Tensor, part: Tensor, below: slice, right: slice) -> None:
    """Copy a tile of the upper triangle below the diagonal, that part of it that lies above."""
    inside = min(below.stop, right.stop) - right.start
    if right.start < below.stop:  # the tile holds part of the diagonal
        square = gram[right.start : right.start + inside, right.start : right.start + inside]
        square.copy_(square.triu() + square.triu(1).mT)
        part, right = part[:, inside:], slice(right.start + inside, right.stop)
    gram[right, below] = part.mT
