"""A study at the edge of stability: where descents leave the flow, and their central flows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import xarray as xr
from torch import Tensor

from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import (
    STEP_SIZE,
    TIME,
    add_variable,
    label,
    padded,
)
from gflow.results.base import Column, Result
from gflow.results.lines import Line, fact_lines, loss_line, stability_line
from gflow.results.measured import final_measures, measures_dataset
from gflow.results.summaries import certificate_summary, cost_summary
from gflow.studies.edge_of_stability import Edge, EdgeOfStability


class EdgeOfStabilityResult(Result):
    """The flow's sharpness, and descents that leave the flow where it reaches 2/step_size.

    Dimensions: ``time`` (the flow's); for each ``step_size`` all steps (``step``, at
    ``step_time``), the compared ones (``save``, at ``descent_time``) and the central flow's times
    (``saved_central``, at ``central_time``). Rows end with NaN.
    """

    kind: ClassVar[str] = "edge-of-stability"
    study_type: ClassVar[type | None] = EdgeOfStability
    rows_key: ClassVar[str] = "descent"
    row_label: ClassVar[str] = "step_size"
    row_meaning: ClassVar[str] = (
        "One row is one gradient descent from the start of the flow, with its own step size."
    )
    row_prefix: ClassVar[str] = "descent_"
    number_attributes: ClassVar[Mapping[str, dict[str, str]]] = {
        "descent_final_loss": label("loss at the end of descent"),
    }

    @classmethod
    def from_study(
        cls, study: EdgeOfStability, facts: Mapping[str, Any] = MappingProxyType({})
    ) -> EdgeOfStabilityResult:
        """Return the result of a study.

        Parameters
        ----------
        study : EdgeOfStability
        facts : mapping, optional
            Plain values for the summary.
        """
        ds = _dataset(study)
        return cls(ds, {**_summary(study), **facts, **final_measures(ds)})

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return where the flow crosses 2/η, the gaps before and after, and the central flow's."""
        return (
            Column("step_size", "step size", meaning="step size η of descent"),
            Column(
                "edge",
                "2/η",
                meaning="sharpness from which descent with this step size is unstable",
            ),
            Column(
                "crossing",
                "crossed at t",
                meaning="time at which the flow's sharpness reaches 2/η, if it does",
            ),
            Column(
                "gap_before",
                "gap before",
                meaning="largest relative distance of outputs of descent to the flow's until then",
            ),
            Column(
                "gap_after",
                "gap after",
                meaning="the same after that time, when descent has left the flow",
            ),
            Column(
                "central_error",
                "gap to central flow",
                meaning="largest relative difference of descent's averaged loss to the prediction",
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return loss, stability limit, final sharpness and facts."""
        return [loss_line(summary), stability_line(summary), *fact_lines(summary)]


def _dataset(study: EdgeOfStability) -> xr.Dataset:
    path, edges = study.trajectory, study.edges
    sizes = [edge.step_size for edge in edges]
    ds = xr.Dataset(coords={"time": ("time", path.ts.numpy(), TIME)})
    ds = ds.assign_coords(step_size=("step_size", sizes, STEP_SIZE))
    add_variable(ds, "flow_loss", ("time",), to_numpy(path.losses), "loss of the flow")
    sharpness = to_numpy(study.sharpness)
    add_variable(ds, "flow_sharpness", ("time",), sharpness, "sharpness of the flow")
    for dim, time, columns in _CURVES:
        lead = ("step_size", dim)
        ds[time] = (lead, padded([to_numpy(columns["ts"][1](edge)) for edge in edges]), TIME)
        for name, (long_name, pick) in columns.items():
            if name != "ts":
                values = padded([to_numpy(pick(edge)) for edge in edges])
                add_variable(ds, name, lead, values, long_name)
    descents = [edge.descent.descent for edge in edges]
    ds = ds.assign(measures_dataset(path, descents, [edge.central for edge in edges]))
    for name, path_name in (("crossing", "the flow"), ("descent_crossing", "descent")):
        crossings = [getattr(edge, name) for edge in edges]
        times = [math.nan if t is None else t for t in crossings]
        ds[name] = (("step_size",), times, TIME | {"long_name": f"{path_name} reaches 2/step size"})
    return ds


def _of_central(name: str) -> Callable[[Edge], Tensor]:
    """Return a getter of a field of an edge's central path; empty where there is none."""
    empty = torch.empty(0)
    return lambda edge: empty if edge.central is None else getattr(edge.central, name)


#: dimension, name of its times, and name -> (long name, values of one edge)
_CURVES: tuple[tuple[str, str, dict[str, tuple[str, Callable[[Edge], Tensor]]]], ...] = (
    (
        "step",
        "step_time",
        {
            "ts": ("", lambda edge: edge.descent.step_ts),
            "step_loss": ("loss at every step", lambda edge: edge.descent.losses),
            "smooth_loss": ("loss, averaged over time", lambda edge: edge.smooth_losses),
            "oscillation": ("along the top eigenvector", lambda edge: edge.descent.oscillation),
            "step_variance": ("‖alternating part‖²", lambda edge: edge.descent.variances),
            "smooth_variance": ("the same, averaged", lambda edge: edge.smooth_variances),
        },
    ),
    (
        "save",
        "descent_time",
        {
            "ts": ("", lambda edge: edge.descent.descent.ts),
            "edge_sharpness": ("sharpness of descent", lambda edge: edge.descent.sharpness),
            "relative_gap": ("gap of the outputs, relative", lambda edge: edge.relative_gap),
            "relative_parameter_gap": (
                "gap of the parameters, relative",
                lambda edge: edge.relative_parameter_gap,
            ),
        },
    ),
    (
        "saved_central",
        "central_time",
        {
            "ts": ("", _of_central("ts")),
            "central_loss": ("loss of the central flow", _of_central("losses")),
            "central_averaged_loss": ("L + tr Σ/η", _of_central("averaged_losses")),
            "central_variance": ("tr Σ", _of_central("variances")),
            "central_sharpness": ("sharpness of the central flow", _of_central("sharpness")),
            "central_rank": ("rank of Σ", _of_central("ranks")),
        },
    ),
)


def _summary(study: EdgeOfStability) -> dict[str, Any]:
    path = study.trajectory
    rows = [
        {
            "step_size": edge.step_size,
            "edge": 2 / edge.step_size,
            "steps": int(edge.descent.descent.steps[-1]),
            "final_loss": float(edge.descent.losses[-1]),
            "crossing": edge.crossing,
            "descent_crossing": edge.descent_crossing,
            "gap_before": edge.before(edge.relative_gap),
            "gap_after": edge.after(edge.relative_gap),
            "parameter_gap_before": edge.before(edge.relative_parameter_gap),
            "parameter_gap_after": edge.after(edge.relative_parameter_gap),
            "settled": edge.settled,
            "central_error": edge.central_error,
            "diverged_at": edge.descent.descent.diverged_at,
        }
        for edge in study.edges
    ]
    highest = float(study.sharpness.max())
    return {
        "t_end": float(path.ts[-1]),
        "initial_loss": float(path.losses[0]),
        "final_loss": float(path.losses[-1]),
        "final_sharpness": float(study.sharpness[-1]),
        "stability_limit": 2 / highest if highest > 0 else math.inf,
        "smoothing": study.smoothing,
        "descent": rows,
        "certificate": certificate_summary(path),
        "cost": cost_summary(path),
    }
