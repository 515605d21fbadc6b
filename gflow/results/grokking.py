"""When training and held-out samples are learned, by a network's flow and by its descents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gflow.results.arrays import TIME, add_variable, label
from gflow.results.base import Column, Result, Setup
from gflow.results.flow_and_descent import FlowAndDescentResult
from gflow.results.lines import (
    Line,
    fact_lines,
    format_value,
    loss_line,
    solver_error_line,
    stability_line,
)
from gflow.studies.crossings import passing_time
from gflow.studies.flow_and_descent import FlowAndDescent

#: The two times, each with the accuracy that passes the level.
_TIMES = {"memorisation": "accuracy", "generalisation": "test_accuracy"}
_WORDS = {"memorisation": "training accuracy", "generalisation": "held-out accuracy"}


class GrokkingResult(Result):
    """The arrays of `FlowAndDescentResult`, with the times at which accuracies pass a level.

    ``memorisation_time`` is that of the training samples, ``generalisation_time`` that of held-out
    ones; with ``descent_`` before it, over ``step_size``. NaN where an accuracy never does.
    """

    kind: ClassVar[str] = "grokking"
    rows_key: ClassVar[str] = "descent"
    row_label: ClassVar[str] = "step_size"
    row_meaning: ClassVar[str] = (
        "One row is one gradient descent from the start of the flow, with its own step size."
    )
    row_prefix: ClassVar[str] = "descent_"
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        **FlowAndDescentResult.number_attributes,
        "memorisation_time": label("time at which training accuracy passes the level"),
        "generalisation_time": label("time at which held-out accuracy passes the level"),
        "delay": label("generalisation time over memorisation time"),
        "difference": label("generalisation time of descent over the flow's, less 1"),
    }

    @classmethod
    def from_study(cls, study: FlowAndDescent, setup: Setup, level: float) -> GrokkingResult:
        """Return the result of a study of a network with classes and held-out samples.

        Parameters
        ----------
        study : FlowAndDescent
        setup : Setup
        level : float
            The accuracy that says that samples are learned.
        """
        both = FlowAndDescentResult.from_study(study, setup)
        ds, summary = both.dataset, dict(both.summary)
        times = ds["time"].values
        flow = {
            name: passing_time(times, ds[accuracy].values, level)
            for name, accuracy in _TIMES.items()
        }
        rows = []
        for i, row in enumerate(summary["descent"]):
            own = {
                name: passing_time(
                    ds["descent_time"].values[i], ds[f"descent_{accuracy}"].values[i], level
                )
                for name, accuracy in _TIMES.items()
            }
            rows.append({**row, **_numbers(own)})
            rows[-1]["difference"] = own["generalisation"] / flow["generalisation"] - 1
        for name, words in _WORDS.items():
            long_name = f"time at which {words} passes the level"
            ds[f"{name}_time"] = (), flow[name], {**TIME, "long_name": long_name}
            of_rows = [row[f"{name}_time"] for row in rows]
            attributes = {**TIME, "long_name": f"descent: {long_name}"}
            ds[f"descent_{name}_time"] = ("step_size",), of_rows, attributes
        add_variable(ds, "accuracy_level", (), level, "accuracy that says that samples are learned")
        summary.pop("kind")
        return cls(ds, {**summary, "accuracy_level": level, **_numbers(flow), "descent": rows})

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return step size, steps, the two times with their ratio, and the difference."""
        return (
            Column(
                "step_size",
                "step size",
                meaning="step size η; step k of descent is at time t = kη",
            ),
            Column("steps", "steps", meaning="number of steps of this descent"),
            Column(
                "memorisation_time",
                "memorised at t",
                meaning="time at which training accuracy passes the level",
            ),
            Column(
                "generalisation_time",
                "generalised at t",
                meaning="time at which held-out accuracy passes the level",
            ),
            Column("delay", "ratio", ".3g", meaning="ratio of the two times"),
            Column(
                "difference",
                "from the flow",
                "+.2%",
                meaning="generalisation time relative to the flow's",
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return the flow's two times, its loss and error, the stability limit and the facts."""
        first, last, ratio = (
            format_value(summary[key], spec)
            for key, spec in (
                ("memorisation_time", ".4g"),
                ("generalisation_time", ".4g"),
                ("delay", ".3g"),
            )
        )
        level = format_value(summary["accuracy_level"])
        text = f"accuracy {level} in training at t = {first}, held out at t = {last}: ratio {ratio}"
        if "-" in (first, last):
            text = f"accuracy {level} is not reached by t = {format_value(summary['t_end'])}"
            if first != "-":
                text = f"accuracy {level} in training at t = {first}; held out, it {text[13:]}"
        return [
            ("flow", text),
            loss_line(summary),
            solver_error_line(summary),
            stability_line(summary, cls.rows(summary)),
            *fact_lines(summary),
        ]


def _numbers(times: Mapping[str, float]) -> dict[str, float]:
    first, last = times["memorisation"], times["generalisation"]
    ratio = last / first if first > 0 else math.nan
    return {"memorisation_time": first, "generalisation_time": last, "delay": ratio}
