"""Count the bytes of live tensors, and name the lines that allocated them.

Every operation of torch passes a dispatch mode, which sees the storages of its results; a storage
is live until it is freed. The memory that an operation needs within itself is not seen: the peak of
the resident set, by the kernel, is the check of that.
"""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gflow

_ROOT = str(Path(gflow.__file__).parent)
_FRAMES = 3  # of gflow's lines that name an allocation, the innermost first


class LiveMemory(TorchDispatchMode):
    """Counts live bytes while it is entered.

    Parameters
    ----------
    least : int
        Bytes of a storage that is named; smaller ones are counted alone.
    """

    def __init__(self, least: int = 0) -> None:
        super().__init__()
        self._least = least
        self._seen: dict[int, Any] = {}  # storages alive, by address of their implementation
        self.live = self.peak = 0
        self._names: dict[int, tuple[str, int]] = {}
        self.at_peak: list[tuple[str, int]] = []  #: the large storages at the peak, with bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = {
            x.untyped_storage()._cdata
            for x in tree_leaves((args, kwargs))
            if isinstance(x, Tensor) and x.layout is torch.strided
        }
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor) and result.layout is torch.strided:
                self._note(result, given)
        return results

    def _note(self, tensor: Tensor, given: set[int]) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen or key in given or not size:
            return
        self._seen[key] = weakref.ref(storage, lambda _: self._free(key, size))
        self.live += size
        if size >= self._least:
            self._names[key] = (_line(), size)
        if self.live > self.peak:
            self.peak = self.live
            self.at_peak = list(self._names.values())

    def _free(self, key: int, size: int) -> None:
        del self._seen[key]
        self._names.pop(key, None)
        self.live -= size


def _line() -> str:
    """Return the innermost lines of gflow on the stack."""
    lines: list[str] = []
    frame: Any = sys._getframe(1)
    while frame is not None and len(lines) < _FRAMES:
        file = frame.f_code.co_filename
        if file.startswith(_ROOT):
            lines.append(f"{file[len(_ROOT) + 1 :]}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(lines) or "outside gflow"
