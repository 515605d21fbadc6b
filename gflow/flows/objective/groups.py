"""A number for each parameter of a module, from numbers for groups of them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

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


def _fits(key: object, name: str) -> bool:
    if not isinstance(key, str):
        return False
    return name == key or name.startswith(f"{key}.") or fnmatchcase(name, key)
