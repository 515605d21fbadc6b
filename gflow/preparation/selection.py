"""Rows of a data set, selected by class and number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from gflow.checks import require_count, shown
from gflow.data.named import Data
from gflow.errors import InputError
from gflow.text import brief, nearest


def subset(data: Data, samples: int | None = None, classes: Sequence[str] | None = None) -> Data:
    """Select the rows of the named classes, then the first ``samples`` of those.

    Nothing is drawn at random and nothing is balanced: rows keep their order.

    Parameters
    ----------
    data : Data
        The whole data set.
    samples : int, optional
        Number of rows; all by default.
    classes : sequence of str, optional
        Names of the classes, in the order in which they are numbered in the result; all by
        default, numbered as before.

    Returns
    -------
    Data

    Raises
    ------
    InputError
        If there are no classes, one is unknown or named twice, or there are fewer rows
        than ``samples``.

    Examples
    --------
    >>> from gflow.data.named import load
    >>> data = subset(load("digits"), samples=100, classes=["1", "0"])
    >>> data.inputs.shape, data.classes, data.targets[:3, 0].tolist()
    ((100, 64), ('1', '0'), [1.0, 0.0, 1.0])
    """
    require_data(data)
    if classes is not None and not isinstance(classes, list | tuple | set | range):
        raise InputError(f"classes must be a sequence of names, got {shown(classes)}; write [...]")
    if classes is not None:
        data = _of_classes(data, [str(name) for name in classes])
    if samples is None:
        return data
    samples = require_count("samples", samples)
    if samples > len(data.inputs):
        raise InputError(
            f"samples must be at most {len(data.inputs)}, the rows of {data.name}"
            f"{' in these classes' if classes else ''}, got {samples}; use fewer"
        )
    return dataclasses.replace(data, inputs=data.inputs[:samples], targets=data.targets[:samples])


def _of_classes(data: Data, names: list[str]) -> Data:
    known = require_classes(data)
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        close = nearest(unknown[0], known) if unknown else None
        raise InputError(
            f"classes of {data.name} must be different ones of {listed(known)}, "
            f"got {listed(unknown or names) or 'none'}; "
            + (f"did you mean {brief(close)}?" if close else "choose among these")
        )
    number = np.full(len(known), -1.0)
    number[[known.index(name) for name in names]] = np.arange(len(names))
    targets = number[data.targets[:, 0].astype(int)]
    selected = targets >= 0
    if not selected.any():
        raise InputError(
            f"{data.name} must have rows of the given classes, got none of "
            f"{listed(names)}; choose others"
        )
    return dataclasses.replace(
        data, inputs=data.inputs[selected], targets=targets[selected, None], classes=tuple(names)
    )


def require_data(data: object) -> None:
    """Raise InputError unless a value is a data set, as `gflow.data.load` returns it."""
    if not isinstance(data, Data):
        raise InputError(
            f"data must be a data set, got {shown(data)}; load one by gflow.data.load(name)"
        )


def listed(names: Sequence[str]) -> str:
    """Return at most 20 names in one line."""
    short = [" ".join(name.split()) for name in names[:20]]
    return ", ".join(short + ["..."] * (len(names) > 20))


def require_classes(data: Data) -> tuple[str, ...]:
    """Return the names of the classes; InputError where the data have none."""
    require_data(data)
    if data.classes is None:
        kind = "numbers as targets" if data.targets.shape[1] else "no targets"
        raise InputError(
            f"{data.name} must have classes, got {kind}; use data with classes, "
            "or save them as integers in a .npz or as words in a .csv"
        )
    return data.classes
