"""Arrays out of .npz archives, without running code or trusting a header."""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO

import numpy as np

from gflow.errors import InputError


def read_members(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    """All arrays of an .npz that was saved without compression, ``size`` bytes long.

    Raises
    ------
    InputError
        If a member is compressed, its header declares other than what is there, or members overlap.
    """
    arrays, room = {}, size
    for info in archive.infolist():
        room -= info.file_size  # of all, as one stretch of the file can be said to be many members
        if info.compress_type != zipfile.ZIP_STORED or room < 0:
            raise InputError(f"{info.filename} must be stored as it is, got a compressed member")
        with archive.open(info) as stream:
            _check_header(info.filename, stream, info.file_size, "biuf", 8 * size)
        with archive.open(info) as stream:
            name = info.filename.removesuffix(".npy")
            arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _check_header(what: str, stream: IO[bytes], size: int, kinds: str, room: int) -> int:
    """The bytes an array takes in memory, after checks of all that its header says."""
    start = io.BytesIO(stream.read(2**14))  # numpy's own limit for a header is 10,000
    version = np.lib.format.read_magic(start)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise InputError(f"{what} must be a plain array, got format version {version}")
    shape, _, dtype = read(start)
    if dtype.kind not in kinds:
        allowed = "numbers" if "U" not in kinds else "numbers or strings"
        raise InputError(f"{what} must hold {allowed}, got dtype {dtype}; convert before saving")
    count, stored = math.prod(shape), math.prod(shape) * dtype.itemsize
    needed = max(stored, 8 * count)  # as stored, then as float64
    if min(shape, default=0) < 0 or needed > room:
        raise InputError(
            f"{what} must take at most {room} bytes in memory, but its header declares shape "
            f"{shape} of {dtype}, {needed} bytes; save fewer samples"
        )
    if start.tell() + stored != size:
        raise InputError(
            f"{what} must hold the {stored} bytes that its header declares (shape {shape} of "
            f"{dtype}), got {size - start.tell()}; the file is damaged, save it again"
        )
    return needed
