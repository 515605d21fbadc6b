"""Rows of a data set that are held out: those after the rows to train on."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

from gflow.checks import require_count
from gflow.data.named import Data
from gflow.errors import InputError
from gflow.preparation.selection import listed, require_data


def split_off(data: Data, samples: int | None, test_samples: int) -> tuple[Data, Data]:
    """Split a data set into the first ``samples`` rows and the ``test_samples`` rows after them.

    Nothing is drawn at random: rows keep their order.

    Parameters
    ----------
    data : Data
        The whole data set.
    samples : int or None
        Rows to train on; all but the last ``test_samples`` by default.
    test_samples : int
        Rows to hold out.

    Returns
    -------
    train, test : Data
        With the same numbers of classes.

    Raises
    ------
    InputError
        If there are fewer rows.

    Examples
    --------
    >>> from gflow.data.named import load
    >>> train, test = split_off(load("digits"), 500, 100)
    >>> len(train.inputs), len(test.inputs)
    (500, 100)
    """
    require_data(data)
    rows, test_samples = len(data.inputs), require_count("test_samples", test_samples)
    count = rows - test_samples if samples is None else require_count("samples", samples)
    if count < 1 or count + test_samples > rows:
        wanted = f"{test_samples}" if samples is None else f"{samples} and {test_samples}"
        raise InputError(
            f"samples and test_samples must be at most the {rows} rows of {data.name} together, "
            f"got {wanted}; use fewer"
        )
    parts = [
        dataclasses.replace(data, inputs=data.inputs[part], targets=data.targets[part])
        for part in (slice(0, count), slice(count, count + test_samples))
    ]
    if data.classes is not None:
        unseen = np.setdiff1d(parts[1].targets, parts[0].targets).astype(int)
        if len(unseen):
            warnings.warn(
                f"the rows of {data.name} to train on have none of the held-out classes "
                f"{listed([data.classes[i] for i in unseen])}; shuffle the rows of the file",
                stacklevel=2,
            )
    return parts[0], parts[1]
