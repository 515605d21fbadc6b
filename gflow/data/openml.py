"""Fetch data sets of openml.org, with categories as columns of 0 and 1."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Mapping, Sequence
from http.client import HTTPException

import numpy as np

from gflow.data.tables import MAX_BYTES, Table
from gflow.errors import InputError
from gflow.text import one_line

_OPENML_NAME = re.compile(r"openml:[A-Za-z0-9_][A-Za-z0-9_.,()+=-]{0,127}")


def fetch(name: str) -> Table:
    """Fetch the active version of a data set.

    Parameters
    ----------
    name : str
        ``openml:NAME``.

    Returns
    -------
    inputs : ndarray, shape (n, d)
        A category is one column for each of its values.
    targets : ndarray or None
    columns : tuple of str
        The names of the columns of ``inputs``; ``NAME=VALUE`` for those of a category.

    Raises
    ------
    InputError
        If the name is invalid, the data set cannot be fetched, or it is sparse, not numeric or
        too large.

    Examples
    --------
    >>> fetch("openml:../x")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: the name of a data set of openml.org must have letters, digits and ...
    """
    if not _OPENML_NAME.fullmatch(name):  # it becomes part of an address and of a path on disk
        raise InputError(
            "the name of a data set of openml.org must have letters, digits and -_.,()+= only, got "
            f"{name!r}; copy it from its page"
        )
    fetch_openml = importlib.import_module("sklearn.datasets").fetch_openml
    issparse = importlib.import_module("scipy.sparse").issparse
    try:  # liac-arff and arrays need no pandas
        with warnings.catch_warnings():  # one for each retry: the error below reports it once
            warnings.simplefilter("ignore")
            bunch = fetch_openml(name.removeprefix("openml:"), as_frame=False, parser="liac-arff")
    except (OSError, LookupError, TypeError, ValueError, HTTPException, ImportError) as error:
        raise InputError(
            f"{name!r} must be a numeric data set of openml.org, but {one_line(error)}; "
            "check the name and the network"
        ) from error
    if issparse(bunch.data) or bunch.data.dtype.kind not in "biuf":
        raise InputError(
            f"{name!r} must have dense numeric features, got {bunch.data.dtype} "
            f"{type(bunch.data).__name__}; choose another or save it as a .csv of numbers"
        )
    targets = bunch.target
    if targets is not None and targets.dtype.kind == "O":
        targets = targets.astype(str)
    features = tuple(map(str, bunch.feature_names))
    inputs, features = _without_codes(name, bunch.data, features, bunch.get("categories") or {})
    return inputs, targets, features


def _without_codes(
    name: str,
    codes: np.ndarray,
    features: tuple[str, ...],
    categories: Mapping[str, Sequence[str]],
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Replace each column of category codes by a column of 0 and 1 for each category."""
    sizes = [len(categories[feature]) if feature in categories else 1 for feature in features]
    if 8 * len(codes) * sum(sizes) > MAX_BYTES:
        raise InputError(
            f"{name!r} must take at most {MAX_BYTES} bytes in memory, got {len(codes)} samples of "
            f"{sum(sizes)} columns, one for each category; choose another"
        )
    columns, names = [], []
    for column, feature in zip(codes.T, features, strict=True):
        if feature not in categories:
            columns.append(column[:, None])
            names.append(feature)
            continue
        missing = np.isnan(column.astype(np.float64))
        hot = (column[:, None] == np.arange(len(categories[feature]))).astype(np.float64)
        columns.append(np.where(missing[:, None], np.nan, hot))
        names += [f"{feature}={value}" for value in categories[feature]]
    return np.hstack(columns), tuple(names)
