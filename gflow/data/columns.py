"""From rows of cells to inputs and targets: header, index columns, numbers and words.

No line and no value is left out or guessed: what is missing, no number, or has two readings is
refused with its line. Words in a column of inputs are refused and not replaced by 0/1 columns,
because a typing error, a date, a name and a category look alike here (in a data set of OpenML the
categories are declared, and are replaced).
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gflow.data.delimited import Row, Rows, is_number
from gflow.data.header import is_header
from gflow.data.values import Column, has_decimal_commas, numbers, targets, with_point
from gflow.errors import InputError
from gflow.text import brief

Table = tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]  # inputs, targets, column names

_NAMELESS = re.compile(r"|#|Unnamed: \d+(\.\d+)?")
_COUNTER = re.compile(r"|((.*[_ .-])?(id|idx|index|no|nr|row|number)|level_\d)", re.IGNORECASE)
_TARGETS = {"target", "targets", "label", "labels", "class", "classes"}


def table_of(name: str, table: Rows) -> Table:
    """Return inputs, targets and the names of the input columns.

    Parameters
    ----------
    name : str
        The file's name, for messages.
    table : Rows

    Returns
    -------
    inputs : ndarray, shape (n, d)
    targets : ndarray, shape (n,)
        The last column: words or numbers.
    columns : tuple of str
        Empty where the file has no header.

    Raises
    ------
    InputError
        If rows have different lengths, a value is missing or no number, or the file has two
        readings.

    Examples
    --------
    >>> rows = Rows([(1, ["", "x", "y"]), (2, ["0", "1,5", "yes"]), (3, ["1", "2", "no"])], [""])
    >>> table_of("a.csv", rows)
    (array([[1.5],
           [2. ]]), array(['yes', 'no'], dtype='<U3'), ('x',))
    """
    rows = _without_last_separators(table.rows)
    header: list[str] = []
    if rows and is_header(name, rows):
        header = rows.pop(0)[1]
    elif rows and _is_header_of(table.comment, rows[0][1]):
        header = table.comment
    if not rows:
        raise InputError(f"{name!r} must have rows of numbers, got none; add samples")
    header = _fit_header(header, rows)
    _require_columns(name, rows, header)
    lines, columns = [line for line, _ in rows], list(zip(*(row for _, row in rows), strict=True))
    header = header or [""] * len(columns)
    _drop_empty(header, columns)
    _drop_index(name, header, columns)
    _warn_of_counter(name, header, columns)
    _warn_of_target(name, header)
    if len(columns) < 2:
        raise _too_few(name, len(columns))
    labels = [repr(brief(h, str, 40)) if h else str(i + 1) for i, h in enumerate(header)]
    named = [Column(name, *pair) for pair in zip(labels, itertools.repeat(lines), columns)]
    if has_decimal_commas(named):
        named = [c._replace(cells=[with_point(cell) for cell in c.cells]) for c in named]
    inputs = np.stack([numbers(column) for column in named[:-1]], axis=1)
    return inputs, targets(named[-1]), tuple(header[:-1]) if any(header) else ()


def _is_header_of(comment: list[str], row: list[str]) -> bool:
    """Return whether a comment names columns, as numpy.savetxt writes it."""
    return len(comment) == len(row) and any(comment) and not any(map(is_number, comment))


# -- the shape ----------------------------------------------------------------------


def _without_last_separators(rows: Sequence[Row]) -> list[Row]:
    """Return the rows without empty cells that all of them have at their ends."""
    rows = list(rows)
    while rows and len({len(row) for _, row in rows}) == 1 and not any(row[-1] for _, row in rows):
        rows = [(line, row[:-1]) for line, row in rows]
    return rows


def _fit_header(header: list[str], rows: list[Row]) -> list[str]:
    """Return the header with a name for every cell where a separator ends lines, or R wrote it."""
    widths = {len(row) for _, row in rows}
    if not header or len(widths) > 1:
        return header
    extra = widths.pop() - len(header)
    if extra == -1 and not header[-1]:
        return header[:-1]
    if extra == 1 and not any(row[-1] for _, row in rows):
        return [*header, ""]
    first = [row[0] for _, row in rows]  # R names rows, and gives the names no header
    if extra == 1 and (
        first == [str(i + 1) for i in range(len(first))] or not any(map(is_number, first))
    ):
        return ["", *header]
    return header


def _require_columns(name: str, rows: list[Row], header: list[str]) -> None:
    widths = Counter(len(row) for _, row in rows)
    width = widths.most_common(1)[0][0]
    if width == 1:
        raise _too_few(name, 1)
    if not header and len(rows[0][1]) == 1:
        raise InputError(
            f"{name!r} must have at least two columns, inputs and a target, got 1 in line "
            f"{rows[0][0]} and {width} below; remove what is above the table, or write decimal "
            "points"
        )
    if header and len(header) != width and (len(widths) == 1 or len(header) == 1):
        names = brief(",".join(header), str, 40)
        raise InputError(
            f"{name!r} must have a name for every column, got {len(header)} ({names}) for {width} "
            "columns; correct the header, or remove what is above the table"
        )
    width = len(header) or width
    for line, row in rows:
        if len(row) != width:
            raise InputError(
                f"{name!r} must have {width} columns in every line, got {len(row)} "
                f"in line {line}; correct that line"
            )


def _too_few(name: str, width: int) -> InputError:
    return InputError(
        f"{name!r} must have at least two columns, inputs and a target, got {width}; "
        "separate them by commas, or save a matrix without targets as .npy"
    )


def _drop_empty(header: list[str], columns: list[tuple[str, ...]]) -> None:
    """Drop the empty columns that separators at both ends of lines make."""
    for end in (-1, 0):
        while len(columns) > 1 and not header[end] and not any(columns[end]):
            del header[end], columns[end]


def _drop_index(name: str, header: list[str], columns: list[tuple[str, ...]]) -> None:
    """Drop leading columns without a name, which number or name the rows."""
    if not any(header):
        return
    while len(columns) > 1 and _NAMELESS.fullmatch(header[0]):
        if not _are_distinct_integers(columns[0]) and any(map(is_number, columns[0])):
            raise InputError(
                f"the first column of {name!r} has no name and does not number the rows; give it a "
                "name if it is an input, or remove it"
            )
        del header[0], columns[0]


def _warn_of_counter(name: str, header: list[str], columns: list[tuple[str, ...]]) -> None:
    """Warn of a first column that counts the rows, in any order, and is one of several inputs."""
    if len(columns) < 3 or len(columns[0]) < 3 or not _COUNTER.fullmatch(header[0]):
        return
    if any(set(columns[0]) == set(map(str, range(k, len(columns[0]) + k))) for k in (0, 1)):
        warnings.warn(
            f"the first column of {name!r} counts the rows and is read as an input; remove it if "
            "it is an index",
            stacklevel=2,
        )


def _warn_of_target(name: str, header: list[str]) -> None:
    """Warn of a column of inputs that is named as the target is."""
    found = [h for h in header[:-1] if h.lower() in _TARGETS]
    if found and header[-1].lower() not in _TARGETS:
        warnings.warn(
            f"column {brief(found[0])} of {name!r} is read as an input and the last one, "
            f"{brief(header[-1])}, as the target; move the column of targets to the end if it is "
            "another",
            stacklevel=2,
        )


def _are_distinct_integers(cells: Sequence[str]) -> bool:
    return all(c.isascii() and c.isdecimal() for c in cells) and len(set(cells)) == len(cells)
