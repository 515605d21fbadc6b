"""A flow with its descents: observables of both, gaps, and the reduction's error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import xarray as xr
from torch import Tensor

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import (
    LONG_NAMES,
    TIME,
    add_drift,
    add_variable,
    label,
    padded,
    path_dataset,
)
from gflow.results.base import Column, Result, Setup
from gflow.results.lines import (
    Line,
    fact_lines,
    format_value,
    loss_line,
    solver_error_line,
    stability_line,
)
from gflow.results.measured import final_measures
from gflow.results.paths import descents_dataset, solver_error
from gflow.results.summaries import certificate_summary, cost_summary
from gflow.studies.flow_and_descent import FlowAndDescent
from gflow.trajectory import Trajectory


class FlowAndDescentResult(Result):
    """A flow, its parameter flow and its descents.

    Dimensions: ``time`` (the flow's), ``step_size`` × ``save`` (the descents', whose
    times are ``descent_time``; NaN after the last), and the observables' own.
    """

    kind: ClassVar[str] = "flow-and-descent"
    study_type: ClassVar[type | None] = FlowAndDescent
    rows_key: ClassVar[str] = "descent"
    row_label: ClassVar[str] = "step_size"
    row_meaning: ClassVar[str] = (
        "One row is one gradient descent from the start of the flow, with its own step size."
    )
    row_prefix: ClassVar[str] = "descent_"
    certificate_keys: ClassVar[tuple[str, ...]] = ("certificate", "parameter_certificate")
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "descent_final_loss": label("loss at the end of descent"),
        "descent_t_end": label("time at the end of descent", "step size × steps"),
    }

    @classmethod
    def from_study(cls, study: FlowAndDescent, setup: Setup | None = None) -> FlowAndDescentResult:
        """Return the result of a study.

        Parameters
        ----------
        study : FlowAndDescent
        setup : Setup, optional
            What the scenario measures in addition, and its facts.
        """
        path = study.trajectory
        setup = setup or Setup(path.flow, path.ys[0])
        ds = path_dataset(path)
        measured = {**setup.measure(path.ts, path.ys), **setup.measure_flow(path.ts, path.ys)}
        if path.sharpness.numel():
            measured["sharpness"] = "sharpness λ_max of the Hessian", path.sharpness[:, 0]
        for name, (long_name, values) in measured.items():
            add_variable(ds, name, ("time",), to_numpy(values), long_name)
        for name, (long_name, dims, values) in setup.spectral.items():
            add_variable(ds, name, dims, to_numpy(values), long_name)
        if study.parameters is not None:
            _add_parameters(ds, study.parameters)
        ds = _with_descents(ds, study, setup)
        finals = {f"final_{name}": float(ds[name][-1]) for name in measured}
        return cls(ds, {**_summary(study, setup), **final_measures(ds), **finals})

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return step size, steps, end time, final loss and largest gap."""
        # Runs of earlier versions have no end times.
        has_end = all("t_end" in row for row in cls.rows(summary))
        return (
            Column(
                "step_size",
                "step size",
                meaning="step size η; step k of descent is at time t = kη",
            ),
            Column("steps", "steps", meaning="number of steps of this descent"),
            *(
                [Column("t_end", "at t", meaning="time t = kη at which this descent ended")]
                if has_end
                else []
            ),
            Column(
                "final_loss",
                "final loss",
                meaning="loss after the last step of descent",
            ),
            Column(
                "largest_gap",
                "largest gap",
                meaning="largest distance of descent to the flow at equal time t",
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return loss, errors, stability limit and the scenario's facts."""
        lines = [loss_line(summary), solver_error_line(summary)]
        if "reduction_error" in summary:
            error = format_value(summary["reduction_error"], ".2g")
            text = f"{error}: end-to-end flow against the flow of the layers"
            lines.append(("reduction error", text))
        return [*lines, stability_line(summary, cls.rows(summary)), *fact_lines(summary)]


def _add_parameters(ds: xr.Dataset, path: Trajectory) -> None:
    """Add what only the parameter flow of a reduced flow has."""
    observables = path.observables()
    for name in ("balancedness", "balanced_product_defect"):
        if name in observables:
            dims = ("time", *path.flow.observable_dims[name])
            add_variable(ds, name, dims, to_numpy(observables[name]), LONG_NAMES[name])
    add_drift(ds, path)


def _with_descents(ds: xr.Dataset, study: FlowAndDescent, setup: Setup) -> xr.Dataset:
    """Return the dataset with the descents' observables and gaps."""

    def measure(ts: Tensor, ys: Tensor) -> Mapping[str, tuple[str, Tensor]]:
        return {**setup.measure(ts, ys), **setup.measure_descent(ts, ys)}

    ds = ds.merge(descents_dataset(study.descents, study.trajectory.flow, measure))
    lead = ("step_size", "save")
    gaps = [to_numpy(gap.end_to_end) for gap in study.gaps]
    add_variable(ds, "gap", lead, padded(gaps), "distance of descent to the flow")
    ds["gap_time"] = (lead, padded([to_numpy(gap.ts) for gap in study.gaps]), TIME)
    add_variable(ds, "solver_error", (), _solver_error(study), "solver's own error")
    add_variable(ds, "stability_limit", (), study.stability_limit, "2/λ_max")
    return ds


def _solver_error(study: FlowAndDescent) -> float:
    """Return the solver's error in the units of the gap; NaN where it was not measured."""
    return solver_error(study.trajectory) if study.solver_error is None else study.solver_error


def _summary(study: FlowAndDescent, setup: Setup) -> dict[str, Any]:
    path = study.trajectory
    rows = [
        {
            "step_size": descent.step_size,
            "steps": int(descent.steps[-1]),
            "t_end": float(descent.ts[-1]),
            "final_loss": float(descent.losses[-1]),
            "largest_gap": gap.largest,
            "stable": descent.step_size < study.stability_limit,
            "diverged_at": descent.diverged_at,
        }
        for descent, gap in zip(study.descents, study.gaps, strict=True)
    ]
    summary = {
        "t_end": float(path.ts[-1]),
        "initial_loss": float(path.losses[0]),
        "final_loss": float(path.losses[-1]),
        "stability_limit": study.stability_limit,
        "solver_error": _solver_error(study),
        "descent": rows,
        "certificate": certificate_summary(path),
        "cost": cost_summary(path),
        **setup.facts,
    }
    if study.parameters is not None:
        summary["reduction_error"] = study.reduction_error
        summary["parameter_certificate"] = certificate_summary(study.parameters)
    return summary
