"""The pieces and checkpoints of a run in its folder; see `gflow.execution.checkpointing`.

``parts/NNNNNN.npz`` holds finished pieces from number NNNNNN on: the tensors as arrays ``0/name``,
``1/name`` and so on, and the meta data of each as JSON in ``0``, ``1``. ``checkpoint.safetensors``
is the state of the piece in progress, and ``checkpoint.previous.safetensors`` the state before,
which exists until the new file is complete. Reading runs no code, and takes no more memory than the
file's size.
"""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.execution.checkpointing import Checkpoint
from gflow.io.atomic import Folder
from gflow.io.npz import read_members
from gflow.io.plain import require_own_file
from gflow.text import one_line

_PARTS = "parts"
_CURRENT, _PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


class FolderCheckpointStore:
    """The checkpoint store in the folder of a run, or of a group of runs.

    Parameters
    ----------
    folder : Folder
    """

    def __init__(self, folder: Folder):
        self._folder = folder

    def put_pieces(self, first: int, pieces: Sequence[Checkpoint]) -> None:
        """Write finished pieces, numbered from ``first``, as one file."""
        arrays: dict[str, Any] = {}
        for i, piece in enumerate(pieces):
            arrays[str(i)] = np.frombuffer(json.dumps(_meta(piece)).encode(), np.uint8)
            arrays |= {f"{i}/{k}": v for k, v in _arrays(piece.tensors).items()}

        def write(path: Path) -> None:
            with path.open("xb") as file:
                np.savez(file, **arrays)

        self._folder.write(f"{_PARTS}/{first:06}.npz", write)

    def put_checkpoint(self, index: int, state: Checkpoint) -> None:
        """Write the state of piece ``index``, and preserve the file before."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        arrays = _arrays(state.tensors)
        meta = {**_meta(state), "index": index, "crc32": _crc(arrays)}
        header = {"gflow": json.dumps(meta)}

        def write(path: Path) -> None:
            try:
                save_file(arrays, path, header)
            except SafetensorError as error:  # raised for a full disk
                raise OSError(str(error).rpartition(": ")[2]) from None

        self._folder.write(_CURRENT, write, before=_PREVIOUS)

    def pieces(self) -> Iterator[Checkpoint]:
        """Yield the finished pieces in order, up to the first file that is damaged.

        Yields
        ------
        Checkpoint
        """
        count = 0
        files = sorted((self._folder.path / _PARTS).glob("*.npz"))
        for i, file in enumerate(files):
            try:
                if file.stem != f"{count:06}":
                    raise ValueError(f"it should be {count:06}.npz")
                pieces = _read_pieces(file)
            except Exception as error:  # zipfile and numpy raise many kinds of errors
                _warn(file, error, "its pieces and all later ones are computed again")
                for later in files[i:]:
                    _remove(later)
                return
            count += len(pieces)
            yield from pieces

    def checkpoint(self) -> tuple[int, Checkpoint] | None:
        """Return the last state that is complete, and the number of its piece."""
        remedies = {_CURRENT: "resuming from the one before", _PREVIOUS: "it is ignored"}
        for name, remedy in remedies.items():
            file = self._folder.path / name
            try:
                return _read_checkpoint(file)
            except FileNotFoundError:
                continue
            except Exception as error:  # safetensors and json as well
                _warn(file, error, remedy)
        return None

    def clear(self) -> None:
        """Remove all pieces and checkpoints: the run is done."""
        for name in (_CURRENT, _PREVIOUS):
            _remove(self._folder.path / name)
        _remove(self._folder.path / _PARTS)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return arrays on the host, with dimensions in the order of their memory layout."""
    ordered = {k: v.detach().permute(_order(v)).contiguous() for k, v in tensors.items()}
    return {k: v.cpu().numpy() for k, v in ordered.items()}


def _meta(state: Checkpoint) -> dict[str, Any]:
    """Return the meta data of a state, with the memory layout of its tensors.

    The products of a matrix differ in the last bit from those of a copy with another layout.
    """
    orders = {k: _order(v) for k, v in state.tensors.items() if not v.is_contiguous()}
    return {"meta": dict(state.meta), "orders": orders}


def _order(tensor: Tensor) -> list[int]:
    if tensor.is_contiguous():  # whatever the strides of dimensions of size 1
        return list(range(tensor.ndim))
    strides = tensor.stride()
    return sorted(range(tensor.ndim), key=lambda i: -strides[i])


def _state(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Checkpoint:
    """Invert `_arrays` and `_meta`, into memory allocated and aligned by torch."""
    tensors = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(array).clone()
        order = meta["orders"].get(name, range(tensor.ndim))
        tensors[name] = tensor.permute([list(order).index(i) for i in range(tensor.ndim)])
    return Checkpoint(tensors, dict(meta["meta"]))


def _crc(arrays: Mapping[str, np.ndarray]) -> int:
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), crc))
    return crc


def _read_pieces(file: Path) -> list[Checkpoint]:
    require_own_file(file)
    with zipfile.ZipFile(file) as archive:
        arrays = read_members(archive, file.stat().st_size)
    by_number: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        number, _, tensor = name.partition("/")
        by_number.setdefault(number, {})[tensor] = values
    pieces = [by_number[str(i)] for i in range(len(by_number))]
    return [_state(piece, json.loads(piece.pop("").tobytes())) for piece in pieces]


def _read_checkpoint(file: Path) -> tuple[int, Checkpoint]:
    from safetensors import safe_open

    require_own_file(file)
    with safe_open(file, framework="numpy") as opened:
        meta = json.loads((opened.metadata() or {})["gflow"])
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if _crc(arrays) != meta["crc32"]:
        raise ValueError("its checksum is wrong")
    return int(meta["index"]), _state(arrays, meta)


def _warn(file: Path, error: Exception, remedy: str) -> None:
    warnings.warn(f"{file} is damaged ({one_line(error)}); {remedy}", stacklevel=2)
