"""Read arrays from .npz archives, without running code or trusting a header."""

from __future__ import annotations

import io
import math
import zipfile
from typing import IO

import numpy as np

from gflow.errors import InputError
from gflow.text import brief


def read_members(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    """Read all arrays of an uncompressed .npz archive.

    Parameters
    ----------
    archive : ZipFile
    size : int
        The size of the archive in bytes; all members together may not exceed it.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    InputError
        If a member is compressed, its size is not that of its header, or members overlap.

    Examples
    --------
    >>> stream = io.BytesIO()
    >>> np.savez(stream, a=[1.0, 2.0])
    >>> with zipfile.ZipFile(stream) as archive:
    ...     read_members(archive, len(stream.getvalue()))
    {'a': array([1., 2.])}
    """
    arrays, available = {}, size
    for info in archive.infolist():
        available -= info.file_size  # members may claim to be the same bytes of the file
        if info.compress_type != zipfile.ZIP_STORED or available < 0:
            raise InputError(
                f"{info.filename} must be stored without compression, got a compressed "
                "or overlapping member; save it with numpy.savez"
            )
        with archive.open(info) as stream:
            check_header(info.filename, stream, info.file_size, "biuf", 8 * size)
        with archive.open(info) as stream:
            name = info.filename.removesuffix(".npy")
            arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def check_header(name: str, stream: IO[bytes], size: int, kinds: str, max_bytes: int) -> int:
    """Check everything that the header of an .npy array declares.

    Parameters
    ----------
    name : str
        What the messages call the array.
    stream : binary stream
        At the start of the array.
    size : int
        The number of bytes of header and array together.
    kinds : str
        NumPy's one-letter kinds that are allowed, such as ``"biuf"``.
    max_bytes : int
        The memory that the array may take.

    Returns
    -------
    int
        The bytes that the array takes in memory.

    Raises
    ------
    InputError
        If the header declares another kind, more memory, or more or fewer bytes.

    Examples
    --------
    >>> stream = io.BytesIO()
    >>> np.save(stream, np.zeros((2, 3)))
    >>> size = stream.tell()
    >>> stream.seek(0)
    0
    >>> check_header("a", stream, size, "f", max_bytes=1000)
    48
    """
    start = io.BytesIO(stream.read(2**14))  # numpy's own limit for a header is 10,000
    version = np.lib.format.read_magic(start)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise InputError(f"{name} must be a plain array, got format version {version}")
    shape, _, dtype = read(start)
    if dtype.kind not in kinds:
        allowed = "numbers" if "U" not in kinds else "numbers or strings"
        mend = "convert before saving, as by .astype(float)" + " or .astype(str)" * ("U" in kinds)
        if dtype.names:
            mend = "save its columns as a matrix: numpy.lib.recfunctions.structured_to_unstructured"
        raise InputError(f"{name} must hold {allowed}, got dtype {brief(dtype, str)}; {mend}")
    count, stored = math.prod(shape), math.prod(shape) * dtype.itemsize
    needed = max(stored, 8 * count)  # as stored, then as float64
    if min(shape, default=0) < 0 or needed > max_bytes:
        raise InputError(
            f"{name} must take at most {max_bytes} bytes in memory, but its header declares shape "
            f"{shape} of {dtype}, {needed} bytes; save fewer samples"
        )
    if start.tell() + stored != size:
        raise InputError(
            f"{name} must hold the {stored} bytes that its header declares (shape {shape} of "
            f"{dtype}), got {size - start.tell()}; the file is damaged, save it again"
        )
    return needed
