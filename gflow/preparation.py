"""From `gflow.data.Data` to the arrays a flow starts from; pure functions, float64.

The synthetic data of `gflow.data.synthetic` can be imported from here too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from gflow.checks import require_count, require_table
from gflow.data.named import Data
from gflow.data.synthetic import synthetic_low_rank, synthetic_regression, synthetic_sphere
from gflow.data.tables import MAX_BYTES
from gflow.errors import InputError

__all__ = [
    "correlation",
    "one_hot",
    "regression_targets",
    "signs",
    "standardise",
    "subset",
    "synthetic_low_rank",
    "synthetic_regression",
    "synthetic_sphere",
    "unit_rows",
]


def subset(data: Data, samples: int | None = None, classes: Sequence[str] | None = None) -> Data:
    """The rows of the named classes, then the first ``samples`` of those.

    Nothing is drawn at random and nothing is balanced: rows keep their order.

    Parameters
    ----------
    data : Data
    samples : int, optional
        How many rows to keep; by default all.
    classes : sequence of str, optional
        The names of the classes to keep, in the order in which they are numbered
        afterwards; by default all, numbered as before.

    Returns
    -------
    Data

    Raises
    ------
    InputError
        If there are no classes, one is unknown or named twice, or there are fewer rows
        than asked for.

    Examples
    --------
    >>> from gflow.data.named import load
    >>> some = subset(load("digits"), samples=100, classes=["1", "0"])
    >>> some.inputs.shape, some.classes, some.targets[:3, 0].tolist()
    ((100, 64), ('1', '0'), [1.0, 0.0, 1.0])
    """
    if classes is not None:
        data = _of_classes(data, [str(name) for name in classes])
    if samples is None:
        return data
    require_count("samples", samples)
    if samples > len(data.inputs):
        raise InputError(
            f"samples must be at most {len(data.inputs)}, the rows of {data.name}"
            f"{' in these classes' if classes else ''}, got {samples}; ask for fewer"
        )
    return dataclasses.replace(data, inputs=data.inputs[:samples], targets=data.targets[:samples])


def _of_classes(data: Data, wanted: list[str]) -> Data:
    known = _require_classes(data)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        raise InputError(
            f"classes of {data.name} must be different ones of {_listed(known)}, "
            f"got {_listed(unknown or wanted) or 'none'}; choose among these"
        )
    number = np.full(len(known), -1.0)
    number[[known.index(name) for name in wanted]] = np.arange(len(wanted))
    targets = number[data.targets[:, 0].astype(int)]
    keep = targets >= 0
    if not keep.any():
        raise InputError(
            f"{data.name} must have rows of the classes asked for, got none of "
            f"{_listed(wanted)}; choose others"
        )
    return dataclasses.replace(
        data, inputs=data.inputs[keep], targets=targets[keep, None], classes=tuple(wanted)
    )


# -- inputs -----------------------------------------------------------------------


def standardise(x: np.ndarray) -> np.ndarray:
    """Every column to mean 0 and standard deviation 1; a constant column to 0.

    Parameters
    ----------
    x : ndarray, shape (n, d)

    Returns
    -------
    ndarray, shape (n, d)
        A column whose spread is round-off (below 1e-13 of its largest entry) is constant.

    Raises
    ------
    InputError
        If x is no matrix, empty or not finite.

    Examples
    --------
    >>> standardise(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    require_table("the table to standardise", x)
    x = _scaled(x, axis=0)
    x = x - x.mean(axis=0)
    deviation = x.std(axis=0)
    return np.where(_varying(x), x / np.where(deviation > 0, deviation, 1.0), 0.0)


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Every row divided by its Euclidean norm.

    Parameters
    ----------
    x : ndarray, shape (n, d)

    Returns
    -------
    ndarray, shape (n, d)

    Raises
    ------
    InputError
        If x is no matrix, empty or not finite, or a row is zero.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    require_table("the table to scale", x)
    x = _scaled(x, axis=1)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    zero = np.flatnonzero(norm == 0)
    if len(zero):
        raise InputError(
            f"every row must be nonzero to have a direction, got row {zero[0]} (counted from 0; "
            f"{len(zero)} such rows); remove it"
        )
    return x / norm


def correlation(x: np.ndarray) -> np.ndarray:
    """The correlation matrix of the columns of x; constant columns are dropped.

    Parameters
    ----------
    x : ndarray, shape (n, d)

    Returns
    -------
    ndarray, shape (k, k)
        k ≤ d: the number of columns that vary. Symmetric, positive semidefinite up to
        round-off, unit diagonal.

    Raises
    ------
    InputError
        If x is no matrix or not finite, or fewer than two rows or varying columns are left.

    Examples
    --------
    >>> correlation(np.array([[1.0, 2.0, 7.0], [2.0, 4.0, 7.0], [3.0, 6.0, 7.0]])).round(12)
    array([[1., 1.],
           [1., 1.]])
    """
    require_table("the table to correlate", x)
    varying = _varying(_scaled(x, axis=0))
    if len(x) < 2 or varying.sum() < 2:
        raise InputError(
            "a correlation needs at least two rows and two columns that vary, "
            f"got {len(x)} rows and {varying.sum()} such columns; use other data"
        )
    z = standardise(x[:, varying])
    C = z.T @ z / len(z)
    C = (C + C.T) / 2
    np.fill_diagonal(C, 1.0)
    return C


def _scaled(x: np.ndarray, axis: int) -> np.ndarray:
    """x times a power of two, entries in [−1, 1]: then squares neither over- nor underflow."""
    _, exponent = np.frexp(np.abs(x).max(axis=axis, keepdims=True, initial=0.0))
    return np.ldexp(x, -exponent)


def _varying(x: np.ndarray) -> np.ndarray:
    """(d,) bool: which columns of entries in [−1, 1] are not constant."""
    return np.ptp(x, axis=0) > 1e-13


# -- targets ----------------------------------------------------------------------


def one_hot(data: Data) -> np.ndarray:
    """One column a class, 1 in the column of the sample's class and 0 elsewhere.

    Parameters
    ----------
    data : Data
        With classes.

    Returns
    -------
    ndarray, shape (n, number of classes)

    Raises
    ------
    InputError
        If the data have no classes, or so many that the result exceeds 2 GiB.

    Examples
    --------
    >>> from gflow.data.named import load
    >>> one_hot(load("iris"))[0].tolist()
    [1.0, 0.0, 0.0]
    """
    classes, n = len(_require_classes(data)), len(data.targets)
    if 8 * n * classes > MAX_BYTES:
        raise InputError(
            f"one-hot targets must take at most {MAX_BYTES} bytes, got {n} samples of {classes} "
            "classes; save the targets as floating-point numbers for regression"
        )
    hot = np.zeros((n, classes))
    hot[np.arange(n), data.targets[:, 0].astype(int)] = 1.0
    return hot


def signs(data: Data) -> np.ndarray:
    """−1 for the first of two classes, +1 for the second.

    Parameters
    ----------
    data : Data
        With two classes, both of which occur.

    Returns
    -------
    ndarray, shape (n, 1)

    Raises
    ------
    InputError
        If there are not exactly two classes, or all rows are of one.

    Examples
    --------
    >>> from gflow.data.named import load
    >>> signs(subset(load("digits"), samples=3, classes=["0", "1"]))[:, 0].tolist()
    [-1.0, 1.0, -1.0]
    """
    classes = _require_classes(data)
    if len(classes) != 2:
        two = ",".join(classes[:2] if len(classes) > 2 else ("0", "1"))
        raise InputError(
            f"targets ±1 need exactly two classes, got {len(classes)} in {data.name}: "
            f"{_listed(classes)}; choose two, for example classes={two}"
        )
    present = np.unique(data.targets)
    if len(present) < 2:
        raise InputError(
            f"targets ±1 need rows of both classes, {classes[0]} and {classes[1]}, got only "
            f"{classes[int(present[0])]} in {data.name}; ask for more samples"
        )
    return 2 * data.targets - 1


def regression_targets(data: Data) -> np.ndarray:
    """Targets of mean 0: standardised numbers, or one-hot classes less their mean.

    Parameters
    ----------
    data : Data
        With targets.

    Returns
    -------
    ndarray, shape (n, k)
        k target columns, or one column a class.

    Raises
    ------
    InputError
        If the data have no targets.

    Examples
    --------
    >>> from gflow.data.named import load
    >>> regression_targets(load("linnerud")).shape, regression_targets(load("digits")).shape
    ((20, 3), (1797, 10))
    """
    if data.targets.shape[1] == 0:
        raise InputError(
            f"a regression needs targets, got none in {data.name}; use data with targets, "
            "or save inputs and targets in one .npz"
        )
    if data.classes is None:
        return standardise(data.targets)
    hot = one_hot(data)
    return hot - hot.mean(axis=0)


def _listed(names: Sequence[str]) -> str:
    """At most 20 names in one line."""
    short = [" ".join(name.split()) for name in names[:20]]
    return ", ".join(short + ["..."] * (len(names) > 20))


def _require_classes(data: Data) -> tuple[str, ...]:
    if data.classes is None:
        kind = "numbers as targets" if data.targets.shape[1] else "no targets"
        raise InputError(
            f"{data.name} must have classes, got {kind}; use data with classes, "
            "or save them as integers in a .npz or as words in a .csv"
        )
    return data.classes
