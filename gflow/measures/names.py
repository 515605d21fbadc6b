"""Measures by name: found in the files of this folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from gflow.checks import shown
from gflow.discovery import concrete_classes
from gflow.errors import InputError
from gflow.measures.base import Measure, Network, UserMeasure
from gflow.text import nearest


@functools.cache
def measures() -> dict[str, type[Measure]]:
    """Return the measures by name.

    Examples
    --------
    >>> measures()["distance"].long_name
    'distance of the parameters from the start'
    """
    found = concrete_classes("gflow.measures", Measure)
    return {kind.name: kind for kind in found if kind is not UserMeasure}


def always(flow: Network) -> dict[str, Measure]:
    """Return the measures that every network has, as far as they apply to this one.

    Parameters
    ----------
    flow : Network

    Returns
    -------
    dict of str to Measure
    """
    every = (kind() for kind in measures().values() if kind.always)
    return {measure.name: measure for measure in every if not measure.lacks(flow)}


def chosen(wanted: object) -> dict[str, Measure]:
    """Return the measures that a user asks for, by the name of their observable.

    Parameters
    ----------
    wanted : str, callable, mapping, or sequence of these
        Names, with what they take behind a colon, such as ``"hessian_eigenvalues:10"``; functions
        ``f(flow, y)`` of one state; or a mapping of names to functions.

    Returns
    -------
    dict of str to Measure

    Raises
    ------
    InputError
        If there is no such measure, or it takes no such argument.

    Examples
    --------
    >>> list(chosen(["kernel_distance", "hessian_eigenvalues:2"]))
    ['kernel_distance', 'hessian_eigenvalues']
    """
    if isinstance(wanted, Mapping):
        functions: dict[str, Measure] = {}
        for name, function in wanted.items():
            functions |= _user_measure(str(name), function)
        return functions
    if isinstance(wanted, str | Measure) or callable(wanted):
        wanted = [wanted]
    if not isinstance(wanted, list | tuple):
        raise InputError(
            f"measure must be names of measures, or functions, got {shown(wanted)}; give a list"
        )
    found: dict[str, Measure] = {}
    for one in wanted:
        for name, measure in _measures_of(one).items():
            if name in found:
                raise InputError(
                    f"each measure must have its own name, got two of {name!r}; leave one out, or "
                    "give functions by name, measure={'mine': function}"
                )
            found[name] = measure
    return found


def _measures_of(one: object) -> dict[str, Measure]:
    if isinstance(one, Mapping):
        return chosen(one)
    if isinstance(one, str):
        measure = _named(one)
        return {measure.name: measure}
    if isinstance(one, Measure):
        return {one.name: one}
    return _user_measure(getattr(one, "__name__", "measure").strip("<>"), one)


def _named(text: str) -> Measure:
    name, colon, argument = text.partition(":")
    name = name.strip().replace("-", "_")
    kinds = measures()
    if name not in kinds:
        close = nearest(name, list(kinds))
        hint = f"did you mean {close}?" if close else f"take one of {', '.join(sorted(kinds))}"
        raise InputError(f"there is no measure {name!r}; {hint}")
    return kinds[name](argument.strip() if colon else None)


def _user_measure(name: str, function: object) -> dict[str, Measure]:
    if not callable(function):
        raise InputError(
            f"a measure must be a name, or a function of flow and state, got {shown(function)}"
        )
    if name == "loss" or name in measures():
        raise InputError(
            f"a measure of your own must have a name of its own, got {name!r}; give it another, "
            "measure={'mine': function}"
        )
    return {name: UserMeasure(name, function)}
