"""A study of implicit regularization: ‖∇L‖² along flow, descents and modified flows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import TIME, add_variable, padded
from gflow.results.base import Column, Result, Setup
from gflow.results.lines import Line, fact_lines, loss_line, solver_error_line, stability_line
from gflow.results.measured import final_measures, measures_dataset
from gflow.results.step_size import (
    ORDER_ATTRIBUTES,
    StepSizeResult,
    order_lines,
    step_size_columns,
    step_size_dataset,
    step_size_summary,
)
from gflow.studies.implicit_regularization import ImplicitRegularization


class ImplicitRegularizationResult(Result):
    """The step-size study of ‖∇L‖² at equal times, with its curves and its ratios at equal loss.

    Dimensions: ``time`` (the flow's) and ``step_size`` × ``save`` (at ``descent_time``).
    """

    kind: ClassVar[str] = "implicit-regularization"
    study_type: ClassVar[type | None] = ImplicitRegularization
    rows_key: ClassVar[str] = "step_sizes"
    row_meaning: ClassVar[str] = StepSizeResult.row_meaning
    row_label: ClassVar[str] = "step_size"
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = ORDER_ATTRIBUTES

    @classmethod
    def from_study(
        cls, study: ImplicitRegularization, setup: Setup | None = None
    ) -> ImplicitRegularizationResult:
        """Return the result of a study.

        Parameters
        ----------
        study : ImplicitRegularization
        setup : Setup, optional
            Its facts go into the summary.
        """
        inner = study.study
        ds = step_size_dataset(inner).drop_vars(["gap", "gap_time"])
        ds["largest_gap"].attrs["long_name"] = "largest difference of ‖∇L‖² to the flow's"
        ds["modified_gap"].attrs["long_name"] = "largest difference to the modified flow's"
        ds = ds.assign_coords(time=("time", inner.trajectory.ts.numpy(), TIME))
        add_variable(ds, "squared_gradient", ("time",), to_numpy(study.slopes), "‖∇L‖² of the flow")
        add_variable(
            ds, "flow_loss", ("time",), to_numpy(inner.trajectory.losses), "loss of the flow"
        )
        lead = ("step_size", "save")
        ds["descent_time"] = (lead, padded([to_numpy(d.ts) for d in inner.descents]), TIME)
        columns = {
            "loss_at_save": ([d.losses for d in inner.descents], "loss of descent"),
            "descent_squared_gradient": (study.descent_slopes, "‖∇L‖² of descent"),
            "modified_squared_gradient": (study.modified_slopes, "‖∇L‖² of the modified flow"),
            "descent_ratio": (
                study.descent_ratios,
                "‖∇L‖² of descent over the flow's at equal loss",
            ),
            "modified_ratio": (study.modified_ratios, "the same of the modified flow"),
        }
        for name, (rows, long_name) in columns.items():
            add_variable(ds, name, lead, padded([to_numpy(row) for row in rows]), long_name)
        ds = ds.assign(measures_dataset(inner.trajectory, inner.descents))
        summary = step_size_summary(inner)
        ratios = zip(study.descent_ratios, study.modified_ratios, strict=True)
        for row, (of_descent, of_modified) in zip(summary["step_sizes"], ratios, strict=True):
            row["median_ratio"] = float(of_descent[1:].nanmedian())
            row["modified_median_ratio"] = float(of_modified[1:].nanmedian())
        facts = {} if setup is None else setup.facts
        finals = {"final_loss": float(inner.trajectory.losses[-1]), **final_measures(ds)}
        return cls(ds, {**summary, **facts, **finals})

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return the columns of a step-size study with the modified flow, and the two ratios."""
        return (
            *step_size_columns(modified=True, measured="difference of ‖∇L‖²"),
            Column(
                "median_ratio",
                "‖∇L‖² ratio",
                meaning="‖∇L‖² along descent over the flow's at equal loss, median",
            ),
            Column(
                "modified_median_ratio",
                "expected",
                meaning="the same ratio of the modified flow: what the theory predicts for descent",
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return loss, orders, what the ratios are, error, stability limit and facts."""
        ratio = "descent's ‖∇L‖² over the flow's at equal loss (median); expected: modified flow's"
        return [
            loss_line(summary),
            *order_lines(summary),
            ("ratio", ratio),
            solver_error_line(summary),
            stability_line(summary),
            *fact_lines(summary),
        ]
