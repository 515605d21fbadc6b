"""Split the text of a table into rows of cells: encoding, comments, separator, line numbers.

The standard library's ``csv`` does the splitting. Around it stand decisions that it leaves to its
caller, and that its ``Sniffer`` takes from the look of a few characters, often wrongly: here the
separator is the one that splits the file into columns of numbers. pandas has no means for the
checks that follow: it fills short lines with NaN and its errors and values name no line.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gflow.errors import InputError

Row = tuple[int, list[str]]  # line number, cells

#: In the order of preference where two fit equally well.
_SEPARATORS = ("\t", ";", "|", ",", " ")
_SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?[\s,;]*", re.IGNORECASE)  # Excel's
_SAMPLE = 100  # rows from which the separator is chosen
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*|,\d+)?|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
#: Thousands separators, currencies, percent signs, quotation marks; dates and times.
_DECORATED = re.compile(
    r"['\"]?[<>~]?[$€£¥]?\s?[+-]?\d([\d.,'\u2019 ]*\d)?\s?[%‰$€£¥]?['\"]?"
    r"|\d{1,4}([-/.])\d{1,2}\2\d{1,4}([T ][\d:.]+Z?)?|\d{1,2}:\d{2}(:[\d.]+)?"
)
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}

#: Marks of byte order inside of a text, blanks of no width and marks of direction.
_INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u2060\u200e\u200f"))

#: Texts that stand for a missing value, in lower case: pandas' list, Excel's errors and others.
MISSING = frozenset(
    (
        *("", "?", ".", "--", "...", "\u2026", "na", "n/a", "n.a.", "nan", "-nan", "nat", "null"),
        *(
            "(null)",
            "<null>",
            "[null]",
            r"\n",
            "none",
            "<na>",
            "#na",
            "#n/a",
            "#n/a n/a",
            "1.#ind",
            "-1.#ind",
            "1.#qnan",
            "-1.#qnan",
        ),
        *("#value!", "#div/0!", "#ref!", "#name?", "#num!", "#null!"),
    )
)


class Rows(NamedTuple):
    """The rows of a file, and the last comment ahead of them split alike (or nothing)."""

    rows: list[Row]
    comment: list[str]


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, with a decimal point or comma.

    Examples
    --------
    >>> [is_number(cell) for cell in ("1.5", "-2e3", "1,5", "1,000.5", "nan", "1_0", "")]
    [True, True, True, False, False, False, False]
    """
    return _NUMBER.fullmatch(cell) is not None


def is_decorated(cell: str) -> bool:
    """Return whether a cell is a number in a dress that is not read, or a date.

    Examples
    --------
    >>> [is_decorated(cell) for cell in ("1,000.5", "50%", "2020-01-31", "3 kg", "cat")]
    [True, True, True, False, False]
    """
    return _DECORATED.fullmatch(cell) is not None


def decode(name: str, raw: bytes) -> str:
    r"""Decode text in UTF-8, UTF-16 or 32 with its mark, or else Windows-1252 with a warning.

    Characters that cannot be seen are left out, and an accent is one character with its letter:
    labels that look alike are one class.

    Parameters
    ----------
    name : str
        The file's name, for messages.
    raw : bytes

    Returns
    -------
    str

    Raises
    ------
    InputError
        If the bytes are not text.

    Examples
    --------
    >>> decode("a.csv", b"\xff\xfe1\x00,\x002\x00")
    '1,2'
    """
    mark = next((bom for bom in _BOMS if raw.startswith(bom)), b"")
    encoding = _BOMS.get(mark, "utf-8")
    raw = raw[len(mark) :]
    zero = raw.find(b"\0") if encoding == "utf-8" else -1
    if zero >= 0:
        raise InputError(
            f"{name!r} must be a readable text file, but it holds the byte 0 in line "
            f"{raw[:zero].count(10) + 1}; save it again, as CSV in UTF-8"
        )
    try:
        return _normalised(raw.decode(encoding))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(10) + 1
    try:
        if mark:
            raise ValueError
        text = raw.decode("cp1252")
    except ValueError:
        raise InputError(
            f"{name!r} must be a readable text file, but line {line} holds bytes that are not "
            f"{encoding.upper()}; save it again, as CSV in UTF-8"
        ) from None
    warnings.warn(
        f"{name!r} is not in UTF-8 (line {line}) and is read as Windows-1252; if names look wrong, "
        "save it as CSV in UTF-8",
        stacklevel=2,
    )
    return text


def _normalised(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text.translate(_INVISIBLE))


def split_rows(name: str, text: str) -> Rows:
    r"""Split a text into rows of cells without blanks around them; blank lines are dropped.

    Parameters
    ----------
    name : str
        The file's name, for messages.
    text : str

    Returns
    -------
    Rows
        ``rows`` are pairs (line number, cells); lines that begin with ``#`` are comments.

    Raises
    ------
    InputError
        If a quotation mark is not closed or is in the wrong place.

    Examples
    --------
    >>> split_rows("a.csv", "# units: m\nx; y\n1,5; 2\n").rows
    [(2, ['x', 'y']), (3, ['1,5', '2'])]
    """
    lines = io.StringIO(text, newline=None).readlines()
    separator, comment, start = None, "", 0
    for line in lines:
        if declared := _SEPARATOR_LINE.fullmatch(line):
            separator = declared[1]
        elif line.lstrip().startswith("%") or _is_comment(re.split(r"[\t;|,]", line)):
            comment = line.strip().lstrip("#% ")
        elif line.strip():
            break
        start += 1
    if separator is None:
        separator = _find_separator(name, lines[start:])
    try:
        rows = list(_split(lines[start:], separator, start, strict=True))
        return Rows(rows, next(_split([comment], separator), (0, [""]))[1])
    except _CsvError as error:
        raise InputError(
            f"{name!r} must have quotation marks in pairs, around whole cells, but in {error}; "
            "correct that line"
        ) from None


class _CsvError(Exception):
    """What the csv module says, with the line."""


def _split(
    lines: Iterable[str], separator: str, start: int = 0, *, strict: bool = False
) -> Iterator[Row]:
    if separator == " ":
        lines = (line.replace("\t", " ").strip() for line in lines)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=strict)
    while True:
        line = start + reader.line_num + 1  # a row in quotation marks may have many lines
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _CsvError(f"line {line} {error}") from None
        cells = [" ".join(cell.split()) for cell in row]
        if any(cells) and not _is_comment(cells):
            yield line, cells


def _is_comment(cells: list[str]) -> bool:
    """Return whether a line is a comment; #N/A, ##### and a column # are none."""
    first = cells[0].strip().lower()
    if not first.startswith("#") or first in MISSING:
        return False
    return len(cells) == 1 or first.strip("#") != ""


def _likeness(cell: str) -> float:
    """Return how much a cell looks like a value of a column of numbers."""
    if is_number(cell) or cell.lower() in MISSING:
        return 1.0
    return 0.75 if is_decorated(cell) else 0.0


def _find_separator(name: str, lines: list[str]) -> str:
    """Return the separator that splits most rows into equally many cells, and into numbers."""
    scores = {}
    for separator in _SEPARATORS:
        try:
            rows = [r for _, r in itertools.islice(_split(lines, separator), _SAMPLE)]
        except _CsvError:
            continue
        first, rows = (rows or [[]])[0], rows[1:] or rows  # the first may be a header
        width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        if width > 1:
            cells = [cell for row in rows if len(row) == width for cell in row[:-1]]
            numbers = sum(_likeness(cell) for cell in cells) / len(cells)
            fit = 1.0 if abs(len(first) - width) < width - 1 else 0.5
            scores[separator] = fit * count / len(rows) * (numbers + 0.01)
    best = max(scores, key=lambda separator: scores[separator], default=",")
    if best == "," and scores.get(" ") == scores.get(",", 0.0):  # 1,5 stars
        raise InputError(
            f"{name!r} can be read as separated by commas and as separated by blanks; put the line "
            "sep=, above it if commas separate, and else write decimal points"
        )
    return best
