"""MNIST and CIFAR-10 from a local folder, in the formats their authors publish.

MNIST (also Fashion-MNIST, KMNIST): ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``, as
they are or gzipped (.gz). CIFAR-10: the binary version, ``data_batch_1.bin`` to
``data_batch_5.bin``; the Python version is a pickle, which may run code when it is opened.
Training images only; pixels are scaled to [0, 1]. Sizes that a header declares are checked
against a cap and against the bytes that are there before memory is taken.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gflow.data.tables import MAX_BYTES
from gflow.errors import InputError
from gflow.text import one_line

_CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_CIFAR_SHAPE = (3, 32, 32)
_PIECE = 2**20  # bytes decompressed at a time


class Images(NamedTuple):
    """Pixels (n, channels·height·width) in [0, 1], class numbers (n,), names and image shape."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    shape: tuple[int, int, int]


def read_images(kind: str, folder: str) -> Images:
    """The training images of a kind (a key of `FORMATS`) in a folder.

    Raises
    ------
    InputError
        If the folder or a file is missing, damaged or too large.
    """
    path = Path(os.path.expanduser(folder))
    if not path.is_dir():
        found = "a file" if path.is_file() else "no such folder"
        raise InputError(
            f"{kind} must be read from a folder, got {folder!r}, {found}; use {kind}:FOLDER"
        )
    try:
        return FORMATS[kind](path)
    except (OSError, EOFError, zlib.error) as error:  # gzip raises all of these
        raise InputError(
            f"the {kind} files in {folder!r} must be readable, but {one_line(error)}; "
            "download them again"
        ) from error


def _mnist(folder: Path) -> Images:
    pixels = _idx(_one_of(folder, "train-images-idx3-ubyte", "train-images.idx3-ubyte"), 3)
    labels = _idx(_one_of(folder, "train-labels-idx1-ubyte", "train-labels.idx1-ubyte"), 1)
    if len(pixels) != len(labels):
        raise InputError(
            f"mnist must have a label for every image, got {len(pixels)} images and "
            f"{len(labels)} labels; take both files from one source"
        )
    classes = tuple(map(str, range(max(10, int(labels.max(initial=0)) + 1))))
    shape = (1, pixels.shape[1], pixels.shape[2])
    return Images(pixels.reshape(len(pixels), -1) / 255, labels, classes, shape)


def _one_of(folder: Path, *names: str) -> Path:
    for name in names:
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                return file
    raise InputError(f"{str(folder)!r} must hold the file {names[0]} or {names[0]}.gz; it has none")


def _idx(path: Path, ndim: int) -> np.ndarray:
    """An array of unsigned bytes: two zeros, type 8, ndim, the sizes (big-endian), the data."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        header = stream.read(4 + 4 * ndim)
        if header[:4] != bytes((0, 0, 8, ndim)) or len(header) < 4 + 4 * ndim:
            raise InputError(
                f"{path.name!r} must be an IDX file of {ndim}-dimensional bytes, but it starts "
                f"with {header[:4].hex() or 'nothing'}; download it again"
            )
        shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
        size = math.prod(shape)
        if size == 0 or 8 * size > MAX_BYTES:  # as float64
            raise InputError(
                f"{path.name!r} must take at most {MAX_BYTES} bytes in memory and not be empty, "
                f"but its header declares shape {shape}, {8 * size} bytes as float64"
            )
        if path.suffix != ".gz":
            _require_size(path, path.stat().st_size - len(header), size)
        data = bytearray()  # grows with what is there, not with what is declared
        while len(data) <= size and (piece := stream.read(_PIECE)):
            data += piece
        _require_size(path, len(data), size)
    return np.frombuffer(bytes(data), np.uint8).reshape(shape)


def _require_size(path: Path, found: int, declared: int) -> None:
    if found != declared:
        more = "more" if found > declared else str(found)
        raise InputError(
            f"{path.name!r} must hold the {declared} bytes that its header declares, got {more}; "
            "download it again"
        )


def _cifar10(folder: Path) -> Images:
    inside = folder / "cifar-10-batches-bin"
    folder = inside if inside.is_dir() else folder
    files = sorted(folder.glob("data_batch_*.bin"))
    if not files:
        raise InputError(
            f"{str(folder)!r} must hold data_batch_1.bin to data_batch_5.bin, CIFAR-10's binary "
            "version (the Python version is a pickle, which could run code); it has none"
        )
    record = 1 + math.prod(_CIFAR_SHAPE)
    total = sum(file.stat().st_size for file in files)
    if 8 * total > MAX_BYTES:
        raise InputError(
            f"the batches in {str(folder)!r} must take at most {MAX_BYTES} bytes in memory, got "
            f"{8 * total} as float64; keep fewer of them"
        )
    rows = []
    for file in files:
        if file.stat().st_size % record or not file.stat().st_size:
            raise InputError(
                f"{file.name!r} must hold images of {record} bytes each, got "
                f"{file.stat().st_size} bytes; download it again"
            )
        rows.append(np.fromfile(file, np.uint8).reshape(-1, record))
        if rows[-1][:, 0].max() >= len(_CIFAR_CLASSES):
            raise InputError(
                f"{file.name!r} must hold labels from 0 to 9, got {rows[-1][:, 0].max()}; "
                "is it CIFAR-10's binary version?"
            )
    everything = np.concatenate(rows)
    return Images(everything[:, 1:] / 255, everything[:, 0], _CIFAR_CLASSES, _CIFAR_SHAPE)


#: Readers by the name before the colon of ``mnist:FOLDER``.
FORMATS: dict[str, Callable[[Path], Images]] = {"mnist": _mnist, "cifar10": _cifar10}
