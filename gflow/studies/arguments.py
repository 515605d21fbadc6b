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
    sizes = require_numbers("step_sizes", step_sizes)
    return sorted({require_positive("each of step_sizes", size) for size in sizes}, reverse=True)
