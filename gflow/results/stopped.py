"""A solve that stopped early: what was reached, and why it stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gflow.results.arrays import path_dataset
from gflow.results.base import Column, Result
from gflow.results.lines import Line, format_value
from gflow.results.summaries import certificate_summary, cost_summary
from gflow.trajectory import IntegrationError


class StoppedResult(Result):
    """The part of a trajectory that a solver reached, over ``time``."""

    kind: ClassVar[str] = "stopped"
    complete: ClassVar[bool] = False

    @classmethod
    def from_error(cls, error: IntegrationError) -> StoppedResult:
        """Return the result of the trajectory that an `IntegrationError` carries."""
        path = error.trajectory
        summary = {
            "stopped": error.reason,
            "t": error.t,
            "certificate": certificate_summary(path),
            "cost": cost_summary(path),
        }
        return cls(path_dataset(path), summary)

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return no columns: there are no rows."""
        return ()

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return when the solver stopped, and why."""
        return [("stopped", f"at t = {format_value(summary['t'])}: {summary['stopped']}")]
