"""Finding the kind of a result: the concrete `Result` classes in the files of this folder."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from gflow.discovery import concrete_classes
from gflow.errors import InputError
from gflow.results.base import Result
from gflow.text import brief


@functools.cache
def result_kinds() -> dict[str, type[Result]]:
    """Return every kind of result by its name in a summary.

    Examples
    --------
    >>> sorted(result_kinds())[:2]
    ['completion', 'completion-trend']
    """
    return {kind.kind: kind for kind in concrete_classes("gflow.results", Result)}


def find_kind(summary: Mapping[str, Any]) -> type[Result]:
    """Return the kind of result that a summary is of.

    Raises
    ------
    InputError
        If the summary names none that exists: it is damaged, or of an older version.

    Examples
    --------
    >>> find_kind({"kind": "width"}).__name__
    'WidthResult'
    """
    kinds, name = result_kinds(), summary.get("kind")
    if not isinstance(name, str) or name not in kinds:
        raise InputError(
            f"a summary must name its kind, one of {', '.join(sorted(kinds))}, got "
            f"{brief(name)}; run the scenario again"
        )
    return kinds[name]


def result_of(study: object) -> Result:
    """Return the result of a study, without what a scenario would measure in addition.

    Raises
    ------
    InputError
        If no kind of result is of such a study.

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> result_of(gflow.step_size_study(flow, start, 1.0, [0.1, 0.05])).kind
    'step-size'
    """
    for kind in result_kinds().values():
        if kind.study_type is not None and isinstance(study, kind.study_type):
            made: Result = kind.from_study(study)  # type: ignore[attr-defined]
            return made
    raise InputError(
        "this takes a trajectory, a descent, a gap, a study, a run or a sweep, got "
        f"{brief(study, repr)}"
    )
