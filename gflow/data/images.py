"""Read MNIST and CIFAR-10 from a local folder, in the formats that their authors publish.

MNIST (also Fashion-MNIST, KMNIST): ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``,
plain or gzipped (.gz). CIFAR-10: the binary version, ``data_batch_1.bin`` to
``data_batch_5.bin``; the Python version is a pickle, which may run code when it is opened.
Training images only; pixels are scaled to [0, 1]. Sizes that a header declares are checked
against a limit and against the file's own bytes before memory is allocated.
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

from gflow.data.content import require_no_pointer
from gflow.data.tables import MAX_BYTES
from gflow.errors import InputError
from gflow.text import one_line

_CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_CIFAR_SHAPE = (3, 32, 32)
_BLOCK = 2**20  # bytes decompressed at a time


class Images(NamedTuple):
    """Pixels (n, channels·height·width) in [0, 1], class numbers (n,), names and image shape."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    shape: tuple[int, int, int]


def read_images(kind: str, folder: str) -> Images:
    """Read the training images in a folder.

    Parameters
    ----------
    kind : str
        A key of `FORMATS`.
    folder : str

    Returns
    -------
    Images

    Raises
    ------
    InputError
        If the folder or a file is missing, damaged or too large.

    Examples
    --------
    >>> read_images("mnist", "nowhere")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: mnist must be read from a folder, got 'nowhere', no such folder; ...
    """
    path = Path(os.path.expanduser(folder))
    if not path.is_dir():
        problem = "a file" if path.is_file() else "no such folder"
        raise InputError(
            f"{kind} must be read from a folder, got {folder!r}, {problem}; use {kind}:FOLDER"
        )
    try:
        return FORMATS[kind](path)
    except (OSError, EOFError, zlib.error) as error:  # gzip raises all of these
        raise InputError(
            f"the {kind} files in {folder!r} must be readable, but {one_line(error)}; "
            "download them again"
        ) from error


def _mnist(folder: Path) -> Images:
    pixels = _read_idx(_find_file(folder, "train-images-idx3-ubyte", "train-images.idx3-ubyte"), 3)
    labels = _read_idx(_find_file(folder, "train-labels-idx1-ubyte", "train-labels.idx1-ubyte"), 1)
    if len(pixels) != len(labels):
        raise InputError(
            f"mnist must have a label for every image, got {len(pixels)} images and "
            f"{len(labels)} labels; take both files from one source"
        )
    classes = tuple(map(str, range(max(10, int(labels.max(initial=0)) + 1))))
    shape = (1, pixels.shape[1], pixels.shape[2])
    return Images(pixels.reshape(len(pixels), -1) / 255, labels, classes, shape)


def _find_file(folder: Path, *names: str) -> Path:
    for name in names:
        for file in (folder / name, folder / f"{name}.gz"):
            if file.is_file():
                return file
    raise InputError(
        f"{str(folder)!r} must hold the file {names[0]} or {names[0]}.gz, it holds neither; "
        "check the folder, or download the file"
    )


def _read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read unsigned bytes: two zeros, type 8, ndim, the sizes (big-endian), the data."""
    require_no_pointer(path)
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
                f"but its header declares shape {shape}, {8 * size} bytes as float64; "
                "download it again"
            )
        if path.suffix != ".gz":
            _require_size(path, path.stat().st_size - len(header), size)
        data = bytearray()  # grows with the file's own bytes, not with the declared size
        while len(data) <= size and (block := stream.read(_BLOCK)):
            data += block
        _require_size(path, len(data), size)
    return np.frombuffer(bytes(data), np.uint8).reshape(shape)


def _require_size(path: Path, size: int, declared: int) -> None:
    if size != declared:
        received = "more" if size > declared else str(size)
        raise InputError(
            f"{path.name!r} must hold the {declared} bytes that its header declares, got "
            f"{received}; download it again"
        )


def _cifar10(folder: Path) -> Images:
    subfolder = folder / "cifar-10-batches-bin"  # the name in the authors' archive
    folder = subfolder if subfolder.is_dir() else folder
    files = sorted(folder.glob("data_batch_*.bin"))
    if not files:
        raise InputError(
            f"{str(folder)!r} must hold data_batch_1.bin to data_batch_5.bin, CIFAR-10's binary "
            "version (the Python version is a pickle, which could run code), it holds none; "
            "check the folder, or download the files"
        )
    record_size = 1 + math.prod(_CIFAR_SHAPE)  # a label, then the pixels
    total = sum(file.stat().st_size for file in files)
    if 8 * total > MAX_BYTES:
        raise InputError(
            f"the batches in {str(folder)!r} must take at most {MAX_BYTES} bytes in memory, got "
            f"{8 * total} as float64; remove some of them"
        )
    rows = []
    for file in files:
        require_no_pointer(file)
        if file.stat().st_size % record_size or not file.stat().st_size:
            raise InputError(
                f"{file.name!r} must hold images of {record_size} bytes each, got "
                f"{file.stat().st_size} bytes; download it again"
            )
        rows.append(np.fromfile(file, np.uint8).reshape(-1, record_size))
        if rows[-1][:, 0].max() >= len(_CIFAR_CLASSES):
            raise InputError(
                f"{file.name!r} must hold labels from 0 to 9, got {rows[-1][:, 0].max()}; "
                "is it CIFAR-10's binary version?"
            )
    records = np.concatenate(rows)
    return Images(records[:, 1:] / 255, records[:, 0], _CIFAR_CLASSES, _CIFAR_SHAPE)


#: Readers by the name before the colon of ``mnist:FOLDER``.
FORMATS: dict[str, Callable[[Path], Images]] = {"mnist": _mnist, "cifar10": _cifar10}
