"""A run's finished pieces and checkpoints in its folder; see `gflow.execution.checkpointing`.

``parts/NNNNNN.npz`` holds finished pieces from number NNNNNN on, as arrays ``0/name``, ``1/name``
and so on, and what belongs to each as JSON in ``0``, ``1``. ``checkpoint.safetensors`` is the state
of the piece in progress, and ``checkpoint.previous.safetensors`` the one before, which is there
until the new one is whole. Reading runs no code, and takes no more memory than the file's size.
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
_NOW, _BEFORE = "checkpoint.safetensors", "checkpoint.previous.safetensors"


class FolderCheckpointStore:
    """The shelf of a run's folder, or of a group's of runs.

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
            arrays[str(i)] = np.frombuffer(json.dumps(_about(piece)).encode(), np.uint8)
            arrays |= {f"{i}/{k}": v for k, v in _arrays(piece.tensors).items()}

        def write(path: Path) -> None:
            with path.open("xb") as file:
                np.savez(file, **arrays)

        self._folder.write(f"{_PARTS}/{first:06}.npz", write)

    def put_checkpoint(self, index: int, state: Checkpoint) -> None:
        """Write the state of piece ``index``; the file before it is kept."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        arrays = _arrays(state.tensors)
        about = {**_about(state), "index": index, "crc32": _crc(arrays)}
        header = {"gflow": json.dumps(about)}

        def write(path: Path) -> None:
            try:
                save_file(arrays, path, header)
            except SafetensorError as error:  # what it makes of a full disk
                raise OSError(str(error).rpartition(": ")[2]) from None

        self._folder.write(_NOW, write, before=_BEFORE)

    def pieces(self) -> Iterator[Checkpoint]:
        """The finished pieces in order, as far as their files are whole."""
        count = 0
        files = sorted((self._folder.path / _PARTS).glob("*.npz"))
        for i, file in enumerate(files):
            try:
                if file.stem != f"{count:06}":
                    raise ValueError(f"it should be {count:06}.npz")
                found = _read_pieces(file)
            except Exception as error:  # zipfile and numpy say a damaged file in many ways
                _warn(file, error, "what was in it and after it is worked out again")
                for rest in files[i:]:
                    _remove(rest)
                return
            count += len(found)
            yield from found

    def checkpoint(self) -> tuple[int, Checkpoint] | None:
        """The last state that is whole, and the number of its piece."""
        for name, then in ((_NOW, "going on from the one before"), (_BEFORE, "doing without it")):
            file = self._folder.path / name
            try:
                return _read_checkpoint(file)
            except FileNotFoundError:
                continue
            except Exception as error:  # safetensors and json, likewise
                _warn(file, error, then)
        return None

    def clear(self) -> None:
        """Remove all of it: the run is done."""
        for name in (_NOW, _BEFORE):
            _remove(self._folder.path / name)
        _remove(self._folder.path / _PARTS)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """As arrays on the host, dimensions in the order in which they lie in memory."""
    laid = {k: v.detach().permute(_order(v)).contiguous() for k, v in tensors.items()}
    return {k: v.cpu().numpy() for k, v in laid.items()}


def _about(state: Checkpoint) -> dict[str, Any]:
    """What belongs to a state's arrays. How a matrix lies in memory is part of it: products
    differ in the last bit from those of its transposed copy."""
    orders = {k: _order(v) for k, v in state.tensors.items() if not v.is_contiguous()}
    return {"meta": dict(state.meta), "orders": orders}


def _order(tensor: Tensor) -> list[int]:
    strides = tensor.stride()
    return sorted(range(tensor.ndim), key=lambda i: -strides[i])


def _state(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Checkpoint:
    """The inverse of `_arrays` and `_about`, in memory of torch's own, aligned as it was."""
    tensors = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(array).clone()
        order = about["orders"].get(name, range(tensor.ndim))
        tensors[name] = tensor.permute([list(order).index(i) for i in range(tensor.ndim)])
    return Checkpoint(tensors, dict(about["meta"]))


def _crc(arrays: Mapping[str, np.ndarray]) -> int:
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), crc))
    return crc


def _read_pieces(file: Path) -> list[Checkpoint]:
    require_own_file(file)
    with zipfile.ZipFile(file) as archive:
        arrays = read_members(archive, file.stat().st_size)
    own: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        number, _, inside = name.partition("/")
        own.setdefault(number, {})[inside] = values
    found = [own[str(i)] for i in range(len(own))]
    return [_state(values, json.loads(values.pop("").tobytes())) for values in found]


def _read_checkpoint(file: Path) -> tuple[int, Checkpoint]:
    from safetensors import safe_open

    require_own_file(file)
    with safe_open(file, framework="numpy") as opened:
        about = json.loads((opened.metadata() or {})["gflow"])
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if _crc(arrays) != about["crc32"]:
        raise ValueError("its checksum is wrong")
    return int(about["index"]), _state(arrays, about)


def _warn(file: Path, error: Exception, then: str) -> None:
    warnings.warn(f"{file} is damaged ({one_line(error)}); {then}", stacklevel=2)
