"""The values of a column of text: numbers with one decimal sign, booleans, labels; none missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gflow.data.delimited import MISSING, is_decorated, is_number
from gflow.errors import InputError
from gflow.text import brief

_COMMA = re.compile(r"[+-]?(\d+,\d+|,\d+)([eE][+-]?\d+)?", re.ASCII)
_THOUSAND = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_DASHES = frozenset("-\u2212\u2013\u2014")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_REAL = r"[+-]?(\d[\d.,]*|[.,]\d+)([eE][+-]?\d+)?"
_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
#: Numbers as other programs and people write them: of base 16, of Fortran, complex, in parentheses
#: or formulas of a spreadsheet, with another minus, fractions; and times with a zone or a month.
_DISGUISED = re.compile(
    r"[+-]?0x[\da-f]+|[+-]?[\d.]+d[+-]?\d+|[+-]?\d+\.\d*[+-]\d{2,3}"
    rf"|\(?({_REAL})?[+-]?({_REAL})?[ij]\)?|\({_REAL}\)|=\"?{_REAL}\"?|[\u2212\u2013]{_REAL}"
    rf"|{_REAL}-|\d+/\d+|\d\.#\w+|\d{{4}}-\d\d-\d\d[T ][\d:.]+\s?([+-][\d:]+|Z|[A-Z]{{3,4}})"
    rf"|(\d{{1,4}}[\s./-]+)?{_MONTH}[\s,./-]+\d{{1,4}}([\s,./-]+\d{{2,4}})?([T ][\d:.]+)?",
    re.ASCII | re.IGNORECASE,
)
_WITH_UNIT = re.compile(rf"{_REAL}\s?([^\W\d_][^\d\s]*|[^\s\w.,:;+/-][^\d\s]*)")
_BOOLEANS = {"false": 0.0, "true": 1.0}


class Column(NamedTuple):
    """The cells of a column, and what messages call it."""

    file: str
    name: str
    lines: Sequence[int]
    cells: Sequence[str]

    def place(self, i: int) -> str:
        return f"in line {self.lines[i]} (column {self.name})"


def has_decimal_commas(columns: Sequence[Column]) -> bool:
    """Return whether numbers have decimal commas; InputError if that cannot be told."""
    found: tuple[str, str] | None = None
    is_certain = False
    for column in columns:
        for i, cell in enumerate(column.cells):
            if "," in cell and _COMMA.fullmatch(cell):
                found = found or (cell, column.place(i))
                is_certain = is_certain or not _THOUSAND.fullmatch(cell)
    if found is None:
        return False
    file, (cell, place) = columns[0].file, found
    for column in columns:
        for i, other in enumerate(column.cells):
            if "." in other and is_number(other):
                raise InputError(
                    f"{file!r} must have one decimal sign and no thousands separators, got "
                    f"{cell!r} {place} and {other!r} {column.place(i)}; write decimal points only"
                )
    if not is_certain:
        plain = cell.replace(",", "")
        raise InputError(
            f"numbers in {file!r} must have one reading, but {cell!r} {place} is {plain} with a "
            f"thousands separator and {with_point(cell)} with a decimal comma; write "
            "decimal points only"
        )
    return True


def with_point(cell: str) -> str:
    """Return a number with a decimal comma with a point instead; any other cell as it is."""
    return cell.replace(",", ".") if "," in cell and _COMMA.fullmatch(cell) else cell


def numbers(column: Column) -> np.ndarray:
    """Return the numbers of a column of inputs; true and false are 1 and 0."""
    text = "".join(column.cells)
    if text.isascii() and "_" not in text:  # Python's float reads both
        try:
            values = np.array(list(map(float, column.cells)))
        except ValueError:
            pass
        else:
            if np.isfinite(values).all():
                return values
    lowered = [cell.lower() for cell in column.cells]
    if all(cell in _BOOLEANS for cell in lowered):
        return np.array([_BOOLEANS[cell] for cell in lowered])
    _require_values(column, [i for i, c in enumerate(lowered) if c in MISSING or c in _DASHES])
    _require_finite(column, [i for i, cell in enumerate(lowered) if _INFINITE.fullmatch(cell)])
    bad = [i for i, cell in enumerate(column.cells) if not is_number(cell)]
    if not bad:
        return _finite(column)
    cell, place = column.cells[bad[0]], column.place(bad[0])
    if is_decorated(cell) or _DISGUISED.fullmatch(cell) or _WITH_UNIT.fullmatch(cell):
        mend = "write plain numbers"
    elif len(bad) == len(column.cells) > 1:
        mend = "replace words by numbers, one column of 0 and 1 for each, or remove the column"
    elif bad == [0] and column.name.isdecimal():
        mend = "correct that line; if it holds names of columns, none of them may be a number"
    else:
        mend = "correct that line"
    raise InputError(
        f"{column.file!r} must hold numbers before its last column, got {brief(cell)} {place}; "
        f"{mend}"
    )


def targets(column: Column) -> np.ndarray:
    """Return the last column: all words or all numbers."""
    _require_values(column, missing_labels(column.cells))
    _require_finite(column, [i for i, c in enumerate(column.cells) if _INFINITE.fullmatch(c)])
    is_word = [not is_number(cell) for cell in column.cells]
    words, numbers = sum(is_word), len(is_word) - sum(is_word)
    if not words:
        return _finite(column)
    if numbers:
        expected = is_word[0] if words == numbers else words > numbers
        like, other = is_word.index(expected), is_word.index(not expected)
        raise InputError(
            f"the last column of {column.file!r} must hold only "
            f"{'words' if expected else 'numbers'} as in line {column.lines[like]}, got "
            f"{brief(column.cells[other])} in line {column.lines[other]}; correct that line"
        )
    decorated = [i for i, cell in enumerate(column.cells) if is_decorated(cell)]
    if decorated:
        raise InputError(
            f"the last column of {column.file!r} must hold plain numbers or the names of classes, "
            f"got {brief(column.cells[decorated[0]])} in line {column.lines[decorated[0]]}; write "
            "plain numbers"
        )
    _require_names(column)
    return np.array(column.cells)


def _require_names(column: Column) -> None:
    """Raise InputError where all words are numbers in another notation, or with one unit."""
    units = {match and match[3] for match in map(_WITH_UNIT.fullmatch, column.cells)}
    if (len(units) > 1 or None in units) and not all(map(_DISGUISED.fullmatch, column.cells)):
        return
    raise InputError(
        f"the last column of {column.file!r} must hold plain numbers or the names of classes, got "
        f"{brief(column.cells[0])} in line {column.lines[0]}; write plain numbers, or names that "
        "begin with a letter"
    )


def missing_labels(labels: Sequence[str]) -> list[int]:
    """Return the positions of labels that stand for a missing value.

    Parameters
    ----------
    labels : sequence of str

    Returns
    -------
    list of int

    Examples
    --------
    >>> missing_labels(["yes", "NA", ""]), missing_labels(["+", "-"])
    ([1, 2], [])
    """
    missing = MISSING if "+" in labels else MISSING | _DASHES
    return [i for i, label in enumerate(labels) if label.strip().lower() in missing]


def _require_values(column: Column, missing: Sequence[int]) -> None:
    if missing:
        count = f" ({len(missing)} such cells)" if len(missing) > 1 else ""
        raise InputError(
            f"{column.file!r} must have a value in every cell, but one is missing "
            f"{column.place(missing[0])}, got {column.cells[missing[0]]!r}{count}; fill in the "
            "values, or remove these lines"
        )


def _finite(column: Column) -> np.ndarray:
    values = np.array(list(map(float, column.cells)))
    _require_finite(column, np.flatnonzero(~np.isfinite(values)))
    return values


def _require_finite(column: Column, infinite: Sequence[int] | np.ndarray) -> None:
    if len(infinite):
        i = infinite[0]
        raise InputError(
            f"{column.file!r} must hold finite numbers of float64, got {brief(column.cells[i])} "
            f"{column.place(i)}; correct that line"
        )
