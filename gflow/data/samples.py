"""Samples with their targets: what every source of data becomes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gflow.checks import require_table
from gflow.data.delimited import is_number
from gflow.data.values import missing_labels
from gflow.errors import InputError
from gflow.text import brief

_CHANNELS = (1, 3, 4)  # of an image, in front of height and width
_DIFFERENT = 20  # so many labels that all differ are no classes


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
    shape : tuple of int or None
        Of one sample, where a row of ``inputs`` has its entries one after another: a sequence of
        tokens is (length,), one of vectors (length, channels).
    symbols : int or None
        Where entries of ``inputs`` are token ids, 0 to symbols − 1, the number of different ones.

    Raises
    ------
    InputError
        If either is not a matrix, is empty or not finite, or the numbers of rows differ; if token
        ids are none.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...] | None
    features: tuple[str, ...]
    image: tuple[int, int, int] | None = None
    shape: tuple[int, ...] | None = None
    symbols: int | None = None

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
        if self.symbols is not None:
            outside = (self.inputs < 0) | (self.inputs >= self.symbols) | (self.inputs % 1 != 0)
            if outside.any():
                raise InputError(
                    f"tokens of {self.name} must be whole numbers from 0 to {self.symbols - 1}, "
                    f"got {self.inputs[outside][0]:g}; number the symbols from 0 on"
                )


def data_of(
    name: str,
    inputs: np.ndarray,
    targets: np.ndarray | None = None,
    features: tuple[str, ...] = (),
    *,
    tokens: bool = False,
) -> Data:
    """Make Data from arrays of any dtype; one column of integers or strings holds classes.

    Parameters
    ----------
    name : str
    inputs : ndarray, shape (n, d) or (n, ...)
        Samples of more dimensions are flattened, and their shape is kept.
    targets : ndarray, shape (n,) or (n, k), optional
    features : tuple of str
        The names of the columns of ``inputs``; x0, x1, ... by default.
    tokens : bool
        Whether the entries of ``inputs`` are token ids, (n, length), 0 for the first symbol.

    Returns
    -------
    Data

    Raises
    ------
    InputError
        If the arrays are no matrices of finite numbers, or the targets no names of classes.

    Examples
    --------
    >>> data_of("mine", np.eye(2), np.array(["dog", "cat"])).classes
    ('cat', 'dog')
    """
    with np.errstate(over="ignore"):  # a long double becomes infinite, which is refused
        inputs = inputs.astype(np.float64)
    shape = inputs.shape[1:] if inputs.ndim > 2 or tokens else None
    if inputs.ndim > 2:
        inputs = inputs.reshape(len(inputs), math.prod(inputs.shape[1:]))
    symbols = int(inputs.max(initial=0)) + 1 if tokens else None
    image = None
    if shape is not None and len(shape) == 3 and shape[0] in _CHANNELS and not tokens:
        image = shape
    classes = None
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
    with np.errstate(over="ignore"):
        targets = targets.astype(np.float64)
    return Data(name, inputs, targets, classes, features, image, shape, symbols)


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
    if values.dtype.kind == "U" and all(map(is_number, names)) and not all(map(_is_integer, names)):
        raise InputError(
            f"targets of {name} must be numbers or the names of classes, got numbers written as "
            f"words, such as {names[0]!r}; save them as floating point"
        )
    if len(names) == len(index) >= _DIFFERENT:
        raise InputError(
            f"targets of {name} that are words or integers name classes, but all {len(names)} "
            "differ; save numbers for a regression as floating point, and in a text file put the "
            "targets into the last column"
        )
    return names


def _is_integer(name: str) -> bool:
    return name.lstrip("+-").isdecimal()
