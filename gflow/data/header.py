"""Decide whether the first row of a table holds names, also where the names are numbers.

pandas writes 0, 1, 2 above columns without names. A first row like that is a sample as well as a
header unless something else tells: such a table is refused, as is any other with two readings.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Sequence

from gflow.data.delimited import MISSING, Row, is_decorated, is_number
from gflow.errors import InputError
from gflow.text import brief

_MANY = 8  # so many numbers at equal distances are names of columns, not a sample
_VALUES = MISSING | {"true", "false", "inf", "+inf", "-inf", "infinity", "unknown", "missing"}


def is_header(name: str, rows: Sequence[Row]) -> bool:
    """Return whether the first row holds the names of the columns.

    Parameters
    ----------
    name : str
        The file's name, for messages.
    rows : sequence of (int, list of str)
        At least one.

    Returns
    -------
    bool

    Raises
    ------
    InputError
        If the row can be a sample as well.

    Examples
    --------
    >>> is_header("a.csv", [(1, ["x", "y"]), (2, ["1.5", "2"])])
    True
    >>> is_header("a.csv", [(1, ["0", "1", "y"]), (2, ["7", "8", "9"])])
    True
    """
    first, others = rows[0][1], [row for _, row in rows[1:]]
    names = [cell for cell in first if not is_number(cell)]
    numbers = [cell for cell in first if is_number(cell)]
    second = others[0] if others else []
    is_last_named = not is_number(first[-1])
    if not numbers:
        return _are_names(first, others)
    if any(c.lower() in _VALUES for c in [first[0], *names] if c) or "" in first[1:]:
        return False
    if is_last_named and _ends_in_label(first, others):
        return False
    if len(numbers) == 1 and not is_last_named and _are_words_over_numbers(first, second):
        return True
    if not _count(numbers):
        return False
    rows_count = _count([cell for cell in second[:-1] if is_number(cell)])
    if len(numbers) >= _MANY - bool(names) and not rows_count:
        return _said(name, rows[0])
    # A writer that writes 1.0 for 1 does not write 0 for 0.0.
    counted = [i for i, cell in enumerate(first[:-1]) if is_number(cell)]
    inputs = [row[i] for row in others for i in counted if i < len(row)]
    are_floats = bool(inputs) and all(re.search("[.,eE]", cell) for cell in inputs)
    if numbers != [str(i) for i in range(len(numbers))]:
        if len(numbers) > 2 and are_floats and all(map(str.isdecimal, numbers)):
            raise _ambiguous(name, rows[0])
        return False
    if first[0] == "":  # pandas' index, and its names of columns
        return True
    if is_last_named and len(numbers) > 1 and len(second) == len(first) and is_number(second[-1]):
        return True
    if len(counted) > 1 and are_floats:
        return _said(name, rows[0])
    if len(counted) > 2 and is_last_named and not rows_count:  # no label either
        return _said(name, rows[0])
    raise _ambiguous(name, rows[0])


def _ambiguous(name: str, row: Row) -> InputError:
    return InputError(
        f"line {row[0]} of {name!r}, {_shown(row[1])}, can be names of columns as well as a "
        "sample; put a line of words above it, or in its place"
    )


def _said(name: str, row: Row) -> bool:
    """Warn that a row of numbers is read as a header, and return True."""
    warnings.warn(
        f"line {row[0]} of {name!r}, {_shown(row[1])}, is read as names of columns; if it is a "
        "sample, put a line of words above it",
        stacklevel=2,
    )
    return True


def _are_names(first: list[str], others: Sequence[list[str]]) -> bool:
    """Return whether a row without numbers holds names: no values, and no label at its end."""
    inputs = [cell for cell in first[:-1] if cell]
    if any(cell.lower() in _VALUES for cell in inputs):
        return False
    if first[-1] and _ends_in_label(first, others):
        return False
    return any(not is_decorated(cell) for cell in inputs)


def _are_words_over_numbers(first: list[str], second: Sequence[str]) -> bool:
    """Return whether inputs have names above numbers, and the target has a number for a name."""
    words = [cell for cell in first[:-1] if cell]
    return len(words) > 1 and len(second) >= len(first) and all(map(is_number, second[1:-1]))


def _ends_in_label(first: list[str], others: Sequence[list[str]]) -> bool:
    return any(row[-1:] == first[-1:] and row != first for row in others)


def _count(cells: Sequence[str]) -> bool:
    """Return whether numbers increase by equal steps, as 0, 1, 2 or 400, 410, 420."""
    values = [float(cell.replace(",", ".")) for cell in cells]
    steps = [b - a for a, b in itertools.pairwise(values)]
    return not steps or (steps[0] > 0 and max(steps) - min(steps) < 1e-6 * steps[0])


def _shown(cells: Sequence[str]) -> str:
    return brief(",".join(cells), str, 40)
