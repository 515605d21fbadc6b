"""A number for each parameter of a module, from numbers for groups of them by name or by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from torch import Tensor

from gflow.errors import InputError
from gflow.text import brief

#: A number for all parameters, or by name, name of a module, or pattern.
Groups = float | Mapping[str, float]


def by_parameter(
    what: str,
    values: Groups | None,
    names: Iterable[str],
    default: float,
    require: Callable[[str, object], float],
) -> dict[str, float]:
    """Return the number of each parameter.

    Parameters
    ----------
    what : str
        What the numbers are, for messages.
    values : float or mapping of str to float, optional
        One number for all parameters; or numbers by the name of a parameter (``"0.weight"``) or of
        a module (``"0"``), or by a pattern (``"*.bias"``), the later ones before the earlier.
    names : iterable of str
        The parameters.
    default : float
        Of parameters that no key fits.
    require : callable
        ``require(what, value)`` returns the number, or raises InputError.

    Returns
    -------
    dict of str to float

    Raises
    ------
    InputError
        If a number is out of range, or a key fits no parameter.

    Examples
    --------
    >>> from gflow.checks import require_positive
    >>> names = ["0.weight", "0.bias", "2.weight"]
    >>> by_parameter("rates", {"0": 2.0, "*.bias": 0.5}, names, 1.0, require_positive)
    {'0.weight': 2.0, '0.bias': 0.5, '2.weight': 1.0}
    """
    numbers = dict.fromkeys(names, default)
    if values is None:
        return numbers
    if not isinstance(values, Mapping):
        return dict.fromkeys(numbers, require(what, values))
    for key, value in values.items():
        number = require(f"{what} of {key!r}", value)
        chosen = [name for name in numbers if _fits(key, name)]
        if not chosen:
            raise InputError(
                f"{what} must be by the name of a parameter or a module, or by a pattern of these, "
                f"got {brief(str(key))}, which fits none of {brief(list(numbers))}"
            )
        numbers |= dict.fromkeys(chosen, number)
    return numbers


def by_layer(
    what: str,
    values: Groups | Sequence[float],
    names: Iterable[str],
    require: Callable[[str, object], float],
) -> dict[str, float]:
    """Return the number of each parameter, from one number for all, or one for each layer.

    Parameters
    ----------
    what : str
        What the numbers are, for messages.
    values : float, sequence of float, or mapping of str to float
        One number; one for each layer in the order of ``names``, where a layer is a module that has
        parameters of its own; or numbers by name as in `by_parameter`, 1 for the others.
    names : iterable of str
        The parameters.
    require : callable
        ``require(what, value)`` returns the number, or raises InputError.

    Returns
    -------
    dict of str to float

    Raises
    ------
    InputError
        If a number is out of range, there are not as many as layers, or a key fits no parameter.

    Examples
    --------
    >>> from gflow.checks import require_positive
    >>> by_layer("scales", [3.0, 0.1], ["0.weight", "0.bias", "2.weight"], require_positive)
    {'0.weight': 3.0, '0.bias': 3.0, '2.weight': 0.1}
    """
    names = list(names)
    if isinstance(values, np.ndarray | Tensor) and values.ndim == 1:
        values = values.tolist()
    if isinstance(values, str) or not isinstance(values, Sequence):
        return by_parameter(what, values, names, 1.0, require)
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    if len(values) != len(layers):
        shown = ", ".join(repr(layer) for layer in layers[:8]) + (", …" if len(layers) > 8 else "")
        raise InputError(
            f"{what} must be one number, or one for each of the {len(layers)} layers ({shown}), "
            f"got {len(values)} numbers; give {len(layers)}"
        )
    numbers = {
        layer: require(f"{what} of layer {layer!r}", value)
        for layer, value in zip(layers, values, strict=True)
    }
    return {name: numbers[name.rpartition(".")[0]] for name in names}


def _fits(key: object, name: str) -> bool:
    if not isinstance(key, str):
        return False
    return name == key or name.startswith(f"{key}.") or fnmatchcase(name, key)
