"""What studies are given: their options and step sizes, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gflow.checks import require_numbers, require_positive, shown
from gflow.errors import InputError
from gflow.solvers.options import SolveOptions


def study_options(options: SolveOptions, keywords: Mapping[str, Any]) -> SolveOptions:
    """Return the options of a study, changed by its keywords.

    Parameters
    ----------
    options : SolveOptions
        What was passed as options.
    keywords : mapping of str to object
        Fields to change.

    Returns
    -------
    SolveOptions

    Raises
    ------
    InputError
        If the options are none, or a keyword is unknown or out of range.

    Examples
    --------
    >>> study_options(SolveOptions(), {"points": 5}).points
    5
    """
    if not isinstance(options, SolveOptions):
        raise InputError(
            f"options must be SolveOptions, got {shown(options)}; write gflow.SolveOptions(...), "
            "or pass method, rtol and the others as keywords"
        )
    return options.with_(**keywords)


def distinct_sizes(step_sizes: object) -> list[float]:
    """Return step sizes once each, descending; InputError unless they are positive numbers.

    Examples
    --------
    >>> distinct_sizes([0.1, 0.2, 0.1])
    [0.2, 0.1]
    """
    return distinct_positive("step_sizes", step_sizes)


def distinct_positive(name: str, values: object) -> list[float]:
    """Return positive numbers once each, descending.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    values : object
        A list, tuple, tensor or array of at least one number.

    Returns
    -------
    list of float

    Raises
    ------
    InputError
        If they are no sequence of positive numbers, or there is none.

    Examples
    --------
    >>> distinct_positive("scales", [0.1, 0.2, 0.1])
    [0.2, 0.1]
    """
    return sorted(set(positive_numbers(name, values)), reverse=True)


def positive_numbers(name: str, values: object) -> list[float]:
    """Return numbers as a list; InputError unless they are positive, and at least one.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    values : object

    Returns
    -------
    list of float

    Examples
    --------
    >>> positive_numbers("modes", [])
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: modes must hold at least one number, got none
    """
    return [require_positive(f"each of {name}", x) for x in require_numbers(name, values)]
