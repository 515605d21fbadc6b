"""The tables of scikit-learn that scenarios use by default, read from its files.

Importing scikit-learn takes longer than many runs. A table that is not where its present versions
have it is loaded by scikit-learn itself.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
    """A table as scikit-learn returns it.

    Attributes
    ----------
    inputs : ndarray, shape (n, d)
    targets : ndarray, shape (n,) or (n, k)
        Whole numbers are classes.
    classes : tuple of str or None
        The names of the classes.
    features : tuple of str
        The names of the columns.
    """

    inputs: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...] | None
    features: tuple[str, ...]


def shipped(name: str) -> Table:
    """Return a table that scikit-learn ships.

    Parameters
    ----------
    name : str
        ``digits`` for ``sklearn.datasets.load_digits``, and so on.

    Returns
    -------
    Table

    Examples
    --------
    >>> shipped("digits").inputs.shape
    (1797, 64)
    """
    read = _READERS.get(name)
    try:
        return by_scikit_learn(name) if read is None else read(_folder())
    except OSError:
        return by_scikit_learn(name)


def by_scikit_learn(name: str) -> Table:
    """Return a table as scikit-learn loads it.

    Parameters
    ----------
    name : str
        As in `shipped`.

    Returns
    -------
    Table

    Examples
    --------
    >>> by_scikit_learn("iris").classes
    ('setosa', 'versicolor', 'virginica')
    """
    bunch = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")()
    classes = tuple(map(str, bunch.target_names)) if bunch.target.dtype.kind == "i" else None
    return Table(bunch.data, bunch.target, classes, tuple(map(str, bunch.feature_names)))


def _folder() -> Path:
    """The folder of scikit-learn's tables; FileNotFoundError where it is no folder of files."""
    package = importlib.util.find_spec("sklearn")  # a top-level name: it is not imported
    for root in (package and package.submodule_search_locations) or ():
        return Path(root) / "datasets" / "data"
    raise FileNotFoundError("scikit-learn has no folder")


def _digits(folder: Path) -> Table:
    rows = np.loadtxt(folder / "digits.csv.gz", delimiter=",")
    features = tuple(f"pixel_{i}_{j}" for i in range(8) for j in range(8))
    return Table(rows[:, :-1], rows[:, -1].astype(int), tuple(map(str, range(10))), features)


def _diabetes(folder: Path) -> Table:
    """Columns of mean 0 and norm 1."""
    raw = np.loadtxt(folder / "diabetes_data_raw.csv.gz")
    inputs = (raw - raw.mean(axis=0)) / raw.std(axis=0) / len(raw) ** 0.5
    features = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    return Table(inputs, np.loadtxt(folder / "diabetes_target.csv.gz"), None, features)


_READERS: dict[str, Callable[[Path], Table]] = {"digits": _digits, "diabetes": _diabetes}
