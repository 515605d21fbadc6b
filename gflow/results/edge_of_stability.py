"""Where descents leave the flow, as labelled arrays and a summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from gflow.results.base import (
    _STEP_SIZE,
    _TIME,
    _add,
    _array,
    _padded,
    certificate_summary,
    cost_summary,
)
from gflow.results.paths import Outcome
from gflow.studies.edge_of_stability import Edge, EdgeOfStability


def edge_outcome(study: EdgeOfStability, facts: Mapping[str, Any]) -> Outcome:
    """Labelled arrays and summary of where descents leave the flow.

    Dimensions: ``time`` (the flow's); for each ``step_size`` all steps (``step``, at
    ``step_time``), the compared ones (``save``, at ``descent_time``) and the central flow's times
    (``saved_central``, at ``central_time``). Rows end with NaN.
    """
    path, edges = study.trajectory, study.edges
    sizes = [edge.step_size for edge in edges]
    ds = xr.Dataset(coords={"time": ("time", path.ts.numpy(), _TIME)})
    ds = ds.assign_coords(step_size=("step_size", sizes, _STEP_SIZE))
    _add(ds, "flow_loss", ("time",), _array(path.losses), "loss of the flow")
    _add(ds, "flow_sharpness", ("time",), _array(study.sharpness), "sharpness of the flow")
    for dim, time, columns in _EDGE_COLUMNS:
        lead = ("step_size", dim)
        ds[time] = (lead, _padded([_array(columns["ts"][1](edge)) for edge in edges]), _TIME)
        for name, (label, pick) in columns.items():
            if name != "ts":
                _add(ds, name, lead, _padded([_array(pick(edge)) for edge in edges]), label)
    for name, label in (("crossing", "the flow"), ("descent_crossing", "descent")):
        found = [getattr(edge, name) for edge in edges]
        values = [math.nan if t is None else t for t in found]
        ds[name] = (("step_size",), values, _TIME | {"long_name": f"{label} reaches 2/step size"})
    return Outcome(ds, _edge_summary(study, facts))


def _of_central(name: str) -> Callable[[Edge], Tensor]:
    """A field of an edge's central path; nothing where there is none."""
    nothing = torch.empty(0)
    return lambda edge: nothing if edge.central is None else getattr(edge.central, name)


#: dimension, name of its times, and name -> (long name, values of one edge)
_EDGE_COLUMNS: tuple[tuple[str, str, dict[str, tuple[str, Callable[[Edge], Tensor]]]], ...] = (
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


def _edge_summary(study: EdgeOfStability, facts: Mapping[str, Any]) -> dict[str, Any]:
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
        **facts,
    }
