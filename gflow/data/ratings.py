"""Read ratings: lines of a user, an item and a value, as entries of a matrix.

===================  ==============================================================
``movielens:PATH``   MovieLens' ``u.data``, ``ratings.dat`` or ``ratings.csv``, or its folder
``FILE.csv``         a table as text with columns of users, items and ratings, by their
                     names, or the first three; ``.tsv``, ``.txt``, ``.dat`` and ``.gz`` likewise
===================  ==============================================================

Users and items may have any names; they are numbered in the order of their first line. Loading
never runs code, and memory is that of the ratings.
"""

from __future__ import annotations

import csv
import io
import math
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gflow.data.content import START, require_content
from gflow.data.delimited import decode
from gflow.data.tables import READERS, read_text, table_suffix
from gflow.errors import InputError
from gflow.text import brief

_FILES = ("u.data", "ratings.dat", "ratings.csv")  # of MovieLens 100K; 1M and 10M; later ones
_SEPARATORS = ("\t", ";", "|", ",", " ")
_USERS = ("user", "users", "userid", "uid", "customer", "customerid", "reviewerid", "row")
_ITEMS = ("item", "items", "itemid", "movie", "movieid", "product", "productid", "asin", "column")
_VALUES = ("rating", "ratings", "value", "values", "score", "stars", "overall")


@dataclass(frozen=True)
class Ratings:
    """Entries of a matrix of users and items.

    Attributes
    ----------
    name : str
        Of the data.
    rows, columns : ndarray of int64, shape (m,)
        The user and the item of each rating, from 0.
    values : ndarray of float64, shape (m,)
        The ratings.
    users, items : tuple of str
        Their names.
    """

    name: str
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    users: tuple[str, ...]
    items: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(users, items)."""
        return len(self.users), len(self.items)


def load_ratings(name: str | os.PathLike[str]) -> Ratings:
    """Load ratings from a file.

    Parameters
    ----------
    name : str or path
        ``movielens:PATH``, or a path that ends in .csv or another suffix of a table as text.

    Returns
    -------
    Ratings

    Raises
    ------
    InputError
        If the file is missing, or does not hold ratings.

    Examples
    --------
    >>> import pathlib, tempfile, gflow
    >>> file = pathlib.Path(tempfile.mkdtemp(), "films.csv")
    >>> _ = file.write_text("user,film,rating\\nAda,Metropolis,5\\nBo,Metropolis,4\\n")
    >>> ratings = gflow.data.load_ratings(file)
    >>> ratings.shape, ratings.users, ratings.values.tolist()
    ((2, 1), ('Ada', 'Bo'), [5.0, 4.0])
    >>> entries = ratings.rows, ratings.columns, ratings.values
    >>> loss = gflow.losses.MatrixCompletion.from_entries(*entries, ratings.shape)
    """
    if not isinstance(name, str | os.PathLike) or isinstance(os.fspath(name), bytes):
        raise InputError(f"ratings must be a name or a path, got {type(name).__name__}")
    kind, colon, rest = os.fspath(name).partition(":")
    is_movielens = bool(colon) and kind == "movielens"
    path = Path(os.path.expanduser(rest if is_movielens else os.fspath(name)))
    if is_movielens and path.is_dir():
        path = _find(path)
    if not is_movielens and (table_suffix(path) not in READERS or path.suffix in (".npz", ".npy")):
        raise InputError(
            f"ratings must be movielens:PATH or a file ending in .csv, got {brief(os.fspath(name))}"
        )
    if not path.is_file():
        raise InputError(f"there is no file {brief(str(path), max_length=500)}; check the path")
    raw = read_text(path)
    require_content(path.name, raw[:START], ".csv")
    return _parsed(path.name, decode(path.name, raw))


def _find(folder: Path) -> Path:
    """Return the file of ratings in a folder of MovieLens."""
    for file in _FILES:
        if (folder / file).is_file():
            return folder / file
    raise InputError(
        f"movielens: must be followed by a folder with {', '.join(_FILES)}, or such a file, got "
        f"{brief(str(folder))}; unpack the archive first"
    )


def _parsed(name: str, text: str) -> Ratings:
    lines = _cells(name, text)
    number, first = next(lines, (0, []))
    if len(first) < 3:
        raise InputError(
            f"{name!r} must have three columns, users, items and ratings, got {len(first)} in line "
            f"{number or 1}"
        )
    header = None if _is_number(first[2]) else first
    where = (0, 1, 2) if header is None else _columns(name, header)
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    rows, columns, values = array("q"), array("q"), array("d")

    def add(number: int, cells: list[str]) -> None:
        if len(cells) <= max(where) or not _is_number(cells[where[2]]):
            raise InputError(
                f"line {number} of {name!r} must have a user, an item and a finite rating, got "
                f"{brief(cells)}"
            )
        user, item = cells[where[0]].strip(), cells[where[1]].strip()
        rows.append(users.setdefault(user, len(users)))
        columns.append(items.setdefault(item, len(items)))
        values.append(float(cells[where[2]]))

    if header is None:
        add(number, first)
    for number, cells in lines:
        add(number, cells)
    if not values:
        raise InputError(f"{name!r} must have at least one rating, got a header alone")
    i, j = (np.frombuffer(index, np.int64).copy() for index in (rows, columns))
    v = np.frombuffer(values, np.float64).copy()
    return Ratings(name, i, j, v, tuple(users), tuple(items))


def _cells(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not blank, with their numbers."""
    start = text[:START].lstrip().partition("\n")[0]
    if "::" in start:
        for number, line in enumerate(io.StringIO(text), start=1):
            if line.strip():
                yield number, line.rstrip("\n").split("::")
        return
    separator = next((s for s in _SEPARATORS if len(start.split(s)) >= 3), ",")
    for number, cells in enumerate(csv.reader(io.StringIO(text), delimiter=separator), start=1):
        if any(cell.strip() for cell in cells):
            yield number, cells


def _columns(name: str, header: list[str]) -> tuple[int, int, int]:
    """Return the places of users, items and ratings; by order where three have other names."""
    plain = ["".join(c for c in cell.lower() if c.isalnum()) for cell in header]
    found = [
        next((i for i, cell in enumerate(plain) if cell in known), None)
        for known in (_USERS, _ITEMS, _VALUES)
    ]
    if None in found and len(header) == 3:
        return 0, 1, 2
    if None in found:
        raise InputError(
            f"{name!r} must name its columns user, item and rating, got {brief(header)}; rename "
            "them, or leave out all others"
        )
    return found[0] or 0, found[1] or 0, found[2] or 0


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
