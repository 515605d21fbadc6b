"""Read arrays from .npz, .npy and .csv files, without running code or trusting a header.

A header of a few bytes can declare any size, and an archive of 1.5 MB can hold 1.6 GB:
the declared size is checked against `MAX_BYTES` and against the file's own bytes before
memory is allocated. Pickled objects are refused.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gflow.errors import InputError
from gflow.io.npz import check_header
from gflow.text import one_line

#: The largest size of one file's arrays in memory.
MAX_BYTES = 2 * 2**30
_CSV_GROWTH = 8  # memory per byte of text: while it is read, each short cell is an object

Table = tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]  # inputs, targets, column names
Row = tuple[int, list[str]]  # line number, cells


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
    if path.is_dir():
        raise InputError(f"data must be a file, got the folder {str(path)!r}; check the path")
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}; check the path")
    try:
        return READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except Exception as error:  # on damaged bytes the parsers raise almost any error
        raise InputError(
            f"{path.name!r} must be a readable {path.suffix.lower()} file, but "
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
        pair = next((p for p in (("inputs", "targets"), ("X", "y")) if p[0] in members), None)
        if pair is None:
            names = ", ".join(map(repr, list(members)[:9])) or "no array"
            raise InputError(
                f"{path.name!r} must hold an array inputs (and targets), or X (and y), "
                f"got {names}; save it under these names"
            )
        arrays, available = [], MAX_BYTES
        for key, kinds in zip(pair, ("biuf", "biufU"), strict=True):
            if key not in members:
                continue
            name = f"{key} in {path.name}"
            with archive.open(members[key]) as stream:
                available -= check_header(name, stream, members[key].file_size, kinds, available)
            with archive.open(members[key]) as stream:
                arrays.append(np.lib.format.read_array(stream, allow_pickle=False))
    return arrays[0], arrays[1] if len(arrays) > 1 else None, ()


def _csv(path: Path) -> Table:
    # Why not pandas.read_csv: it reads 20 MB of numbers in 0.3 s, not 2 s, but it fills short lines
    # with NaN, reads "NA", "null" and empty cells as NaN, makes a column text because of one word,
    # and names no line. Every check below would have to read the text again.
    max_size = MAX_BYTES // _CSV_GROWTH
    if path.stat().st_size > max_size:
        raise InputError(
            f"{path.name!r} must have at most {max_size} bytes as text, got {path.stat().st_size}; "
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
    _require_columns(path, rows, len(header or rows[0][1]))
    inputs = np.array([[_number(path, line, c) for c in row[:-1]] for line, row in rows])
    return inputs, _last_column(path, rows), tuple(header[:-1])


def _require_columns(path: Path, rows: list[Row], width: int) -> None:
    if width < 2:
        raise InputError(
            f"{path.name!r} must have at least two columns, inputs and a target, got {width}; "
            "separate them by commas, or save a matrix without targets as .npy"
        )
    for line, row in rows:
        if len(row) != width:
            raise InputError(
                f"{path.name!r} must have {width} columns in every line, got {len(row)} "
                f"in line {line}; correct that line"
            )


def _last_column(path: Path, rows: list[Row]) -> np.ndarray:
    """Return the targets: all words or all numbers."""
    words = not _is_number(rows[0][1][-1])
    labels: list[str | float] = []
    for line, row in rows:
        if not row[-1] or words == _is_number(row[-1]):
            raise InputError(
                f"the last column of {path.name!r} must hold only {'words' if words else 'numbers'}"
                f" as in line {rows[0][0]}, got {row[-1]!r} in line {line}; correct that line"
            )
        labels.append(row[-1] if words else float(row[-1]))
    return np.array(labels)


def _is_header(rows: list[list[str]]) -> bool:
    """Return whether the first of (at most two) rows has words where numbers are required."""
    first = rows[0]
    if any(first[:-1]) and not any(map(_is_number, first[:-1])):
        return True
    return len(rows) > 1 and not _is_number(first[-1]) and _is_number(rows[1][-1])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, cell: str) -> float:
    if not _is_number(cell):
        raise InputError(
            f"{path.name!r} must hold numbers before its last column, got {cell!r} "
            f"in line {line}; correct that line"
        )
    return float(cell)


READERS: dict[str, Callable[[Path], Table]] = {".npz": _npz, ".npy": _npy, ".csv": _csv}
