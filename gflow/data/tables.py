"""Read arrays from .npz, .npy and text files, without running code or trusting a header.

A header of a few bytes can declare any size, and an archive of 1.5 MB can hold 1.6 GB:
the declared size is checked against `MAX_BYTES` and against the file's own bytes before
memory is allocated. Pickled objects are refused.
"""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from gflow.data.columns import Table, table_of
from gflow.data.content import START, require_content
from gflow.data.delimited import decode, split_rows
from gflow.errors import InputError
from gflow.io.npz import check_header
from gflow.text import brief, one_line

#: The largest size of one file's arrays in memory.
MAX_BYTES = 2 * 2**30
_TEXT_GROWTH = 8  # memory per byte of text: while it is read, each short cell is an object
_TOKENS = "tokens"
_INPUTS = ("inputs", "X", "x", "X_train", "x_train", "data", "features", _TOKENS, "arr_0")
_TARGETS = ("targets", "target", "y", "Y", "y_train", "Y_train", "labels", "label", "arr_1")


def read_table(path: Path) -> Table:
    """Read inputs, targets (None where there are none) and column names (perhaps none).

    Parameters
    ----------
    path : Path
        A file whose suffix is in `READERS`.

    Returns
    -------
    inputs : ndarray
    targets : ndarray or None
    columns : tuple of str
        The names of the columns of ``inputs``.

    Raises
    ------
    InputError
        If the file is missing, damaged, too large or holds something else.
    """
    if os.path.isdir(path):
        raise InputError(f"data must be a file, got the folder {str(path)!r}; check the path")
    if not os.path.isfile(path):  # also where its name is too long for a file
        raise InputError(f"there is no file {brief(str(path), max_length=500)}; check the path")
    try:
        with path.open("rb") as file:
            require_content(path.name, file.read(START), table_suffix(path))
        return READERS[table_suffix(path)](path)
    except InputError:
        raise
    except Exception as error:  # on damaged bytes the parsers raise almost any error
        raise InputError(
            f"{path.name!r} must be a readable {table_suffix(path)} file, but "
            f"{one_line(error)}; save it again"
        ) from error


def _npy(path: Path) -> Table:
    with path.open("rb") as stream:
        check_header(path.name, stream, path.stat().st_size, "biuf", MAX_BYTES)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False), None, ()


def _npz(path: Path) -> Table:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        arrays, available = [], MAX_BYTES
        for key, kinds in zip(_find_pair(path, members), ("biuf", "biufUS"), strict=False):
            name = f"{key} in {path.name}"
            with archive.open(members[key]) as stream:
                available -= check_header(name, stream, members[key].file_size, kinds, available)
            with archive.open(members[key]) as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
            if key == _TOKENS and array.dtype.kind not in "iu":
                raise InputError(
                    f"{name} must be whole numbers, got {array.dtype}; save them as integers, or "
                    "name the array inputs"
                )
            arrays.append(np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array)
    return arrays[0], arrays[1] if len(arrays) > 1 else None, ()


def _find_pair(path: Path, members: Collection[str]) -> list[str]:
    """Return the names of inputs and, where there are any, targets."""
    names = ", ".join(map(repr, list(members)[:9])) or "no array"
    pair = [[name for name in known if name in members] for known in (_INPUTS, _TARGETS)]
    unnamed = len(members) > 2 and any("arr_0" in found for found in pair)
    if not pair[0] or unnamed:
        raise InputError(
            f"{path.name!r} must hold an array inputs (and targets), or X (and y), "
            f"got {names}; save it under these names"
        )
    for found in pair:
        if len(found) > 1:
            raise InputError(
                f"{path.name!r} must hold one array of inputs and one of targets, got "
                f"{' and '.join(map(repr, found))}; leave out all but one"
            )
    if not pair[1] and len(members) > 1:
        others = ", ".join(repr(name) for name in list(members)[:9] if name not in pair[0])
        raise InputError(
            f"targets in {path.name!r} must be named targets or y, but beside {pair[0][0]!r} it "
            f"holds {others}; save them under one of these names, or leave them out"
        )
    return pair[0] + pair[1]


def holds_tokens(path: Path) -> bool:
    """Return whether the inputs of a file that was read are token ids."""
    if table_suffix(path) != ".npz":
        return False
    with zipfile.ZipFile(path) as archive:
        return f"{_TOKENS}.npy" in archive.namelist()


def _text(path: Path) -> Table:
    raw = read_text(path)
    require_content(path.name, raw[:START], table_suffix(path))  # again, as it may be unpacked
    return table_of(path.name, split_rows(path.name, decode(path.name, raw)))


def read_text(path: Path) -> bytes:
    """Return the bytes of a text, unpacked if it is compressed by gzip.

    Raises
    ------
    InputError
        If there are more than `MAX_BYTES` over eight.
    """
    max_size = MAX_BYTES // _TEXT_GROWTH
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    size = path.stat().st_size
    if not packed and size > max_size:
        raise _too_large(path, max_size, str(size))
    with gzip.open(path) if packed else path.open("rb") as stream:
        raw = stream.read(max_size + 1)
    if len(raw) > max_size:
        raise _too_large(path, max_size, "more")
    return raw


def _too_large(path: Path, max_size: int, size: str) -> InputError:
    return InputError(
        f"{path.name!r} must have at most {max_size} bytes as text, got {size}; save it as .npz"
    )


_TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".data")
READERS: dict[str, Callable[[Path], Table]] = {
    ".npz": _npz,
    ".npy": _npy,
    **dict.fromkeys(_TEXT_SUFFIXES, _text),
    **dict.fromkeys((f"{suffix}.gz" for suffix in _TEXT_SUFFIXES), _text),
}


def table_suffix(path: Path) -> str:
    """Return the suffix by which `READERS` has a reader, or another one.

    Examples
    --------
    >>> table_suffix(Path("a.b.CSV.gz")), table_suffix(Path("x.npy")), table_suffix(Path("digits"))
    ('.csv.gz', '.npy', '')
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return "".join(suffixes[-2:] if suffixes[-1:] == [".gz"] else suffixes[-1:])
