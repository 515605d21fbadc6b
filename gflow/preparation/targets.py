"""Targets for regression and classification."""

from __future__ import annotations

import numpy as np

from gflow.data.named import Data
from gflow.data.tables import MAX_BYTES
from gflow.errors import InputError
from gflow.preparation.inputs import standardise
from gflow.preparation.selection import listed, require_classes, require_data


def one_hot(data: Data) -> np.ndarray:
    """Return one column a class, 1 in the column of the sample's class and 0 elsewhere.

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
    classes, n = len(require_classes(data)), len(data.targets)
    if 8 * n * classes > MAX_BYTES:
        raise InputError(
            f"one-hot targets must take at most {MAX_BYTES} bytes, got {n} samples of {classes} "
            "classes; save the targets as floating-point numbers for regression"
        )
    hot = np.zeros((n, classes))
    hot[np.arange(n), data.targets[:, 0].astype(int)] = 1.0
    return hot


def signs(data: Data) -> np.ndarray:
    """Return −1 for the first of two classes, +1 for the second.

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
    >>> from gflow.preparation import subset
    >>> signs(subset(load("digits"), samples=3, classes=["0", "1"]))[:, 0].tolist()
    [-1.0, 1.0, -1.0]
    """
    classes = require_classes(data)
    if len(classes) != 2:
        two = ",".join(classes[:2] if len(classes) > 2 else ("0", "1"))
        raise InputError(
            f"targets ±1 need exactly two classes, got {len(classes)} in {data.name}: "
            f"{listed(classes)}; choose two, for example classes={two}"
        )
    present = np.unique(data.targets)
    if len(present) < 2:
        raise InputError(
            f"targets ±1 need rows of both classes, {classes[0]} and {classes[1]}, got only "
            f"{classes[int(present[0])]} in {data.name}; use more samples"
        )
    return 2 * data.targets - 1


def regression_targets(data: Data) -> np.ndarray:
    """Return targets of mean 0: standardised numbers, or one-hot classes less their mean.

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
        If the data have no targets, or all of several samples have the same.

    Examples
    --------
    >>> from gflow.data.named import load
    >>> regression_targets(load("linnerud")).shape, regression_targets(load("digits")).shape
    ((20, 3), (1797, 10))
    """
    require_data(data)
    if data.targets.shape[1] == 0:
        raise InputError(
            f"a regression needs targets, got none in {data.name}; use data with targets, "
            "or save inputs and targets in one .npz"
        )
    if len(data.targets) > 1 and (data.targets == data.targets[0]).all():
        raise InputError(
            f"targets of a regression must vary, but all {len(data.targets)} samples of "
            f"{data.name} have the same; use other data, or more samples or classes"
        )
    if data.classes is None:
        return standardise(data.targets)
    hot = one_hot(data)
    return hot - hot.mean(axis=0)
