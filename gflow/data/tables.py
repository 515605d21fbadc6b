"""Arrays out of .npz, .npy and .csv files, without running code or trusting a header.

A header of a few bytes can declare any size, and an archive of 1.5 MB can hold 1.6 GB:
the declared size is checked against `MAX_BYTES` and against the bytes that are there
before memory is taken. Pickled objects are refused.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gflow.errors import InputError
from gflow.io.npz import _check_header
from gflow.text import one_line

MAX_BYTES = 2 * 2**30  # of one file once in memory
_CSV_GROWS = 8  # text is larger while it is read: each short cell is an object

Table = tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]  # inputs, targets, column names


def read_table(path: Path) -> Table:
    """Inputs, targets (None where there are none) and column names (perhaps none) of a file.

    Parameters
    ----------
    path : Path
        A file whose suffix is in `READERS`.

    Raises
    ------
    InputError
        If the file is missing, damaged, too large or does not hold what it must.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"data must be a file, got {str(path)!r}, {found}; check the path")
    try:
        return READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except Exception as error:  # on damaged bytes the parsers raise nearly anything
        raise InputError(
            f"{path.name!r} must be a readable {path.suffix.lower()} file, but "
            f"{one_line(error)}; save it again"
        ) from error


def _npy(path: Path) -> Table:
    with path.open("rb") as stream:
        _check_header(path.name, stream, path.stat().st_size, "biuf", MAX_BYTES)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False), None, ()


def _npz(path: Path) -> Table:
    with zipfile.ZipFile(path) as archive:
        found = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        pair = next((p for p in (("inputs", "targets"), ("X", "y")) if p[0] in found), None)
        if pair is None:
            held = ", ".join(map(repr, list(found)[:9])) or "no array"
            raise InputError(
                f"{path.name!r} must hold an array inputs (and targets), or X (and y), "
                f"got {held}; save it under these names"
            )
        arrays, room = [], MAX_BYTES
        for key, kinds in zip(pair, ("biuf", "biufU"), strict=True):
            if key not in found:
                continue
            what = f"{key} in {path.name}"
            with archive.open(found[key]) as stream:
                room -= _check_header(what, stream, found[key].file_size, kinds, room)
            with archive.open(found[key]) as stream:
                arrays.append(np.lib.format.read_array(stream, allow_pickle=False))
    return arrays[0], arrays[1] if len(arrays) > 1 else None, ()


def _csv(path: Path) -> Table:
    most = MAX_BYTES // _CSV_GROWS
    if path.stat().st_size > most:
        raise InputError(
            f"{path.name!r} must have at most {most} bytes as text, got {path.stat().st_size}; "
            "save it as .npz"
        )
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream, skipinitialspace=True)
        rows = [(reader.line_num, [" ".join(c.split()) for c in row]) for row in reader if any(row)]
    header: list[str] = []
    if rows and _is_header([row for _, row in rows[:2]]):
        header = rows.pop(0)[1]
    if not rows:
        raise InputError(f"{path.name!r} must have rows of numbers, got none; add samples")
    width = len(header or rows[0][1])
    if width < 2:
        raise InputError(
            f"{path.name!r} must have at least two columns, inputs and a target, got {width}; "
            "separate them by commas, or save a matrix without targets as .npy"
        )
    for line, row in rows:
        if len(row) != width:
            raise InputError(
                f"{path.name!r} must have {width} columns in every line, got {len(row)} "
                f"in line {line}; mend that line"
            )
    inputs = np.array([[_number(path, line, c) for c in row[:-1]] for line, row in rows])
    words = not _parses(rows[0][1][-1])
    labels = []
    for line, row in rows:
        if not row[-1] or words == _parses(row[-1]):
            raise InputError(
                f"the last column of {path.name!r} must hold only {'words' if words else 'numbers'}"
                f" as in line {rows[0][0]}, got {row[-1]!r} in line {line}; mend that line"
            )
        labels.append(row[-1] if words else float(row[-1]))
    return inputs, np.array(labels), tuple(header[:-1])


def _is_header(rows: list[list[str]]) -> bool:
    """Whether the first of (at most two) rows has words where there should be numbers."""
    first = rows[0]
    if any(first[:-1]) and not any(map(_parses, first[:-1])):
        return True
    return len(rows) > 1 and not _parses(first[-1]) and _parses(rows[1][-1])


def _parses(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, cell: str) -> float:
    if not _parses(cell):
        raise InputError(
            f"{path.name!r} must hold numbers before its last column, got {cell!r} "
            f"in line {line}; mend that line"
        )
    return float(cell)


READERS: dict[str, Callable[[Path], Table]] = {".npz": _npz, ".npy": _npy, ".csv": _csv}
