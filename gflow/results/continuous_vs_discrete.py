"""The result of a study of descent against the flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from gflow.results.base import (
    _STEP_SIZE,
    _TIME,
    _add,
    _array,
    _padded,
    _several,
    certificate_summary,
    cost_summary,
)
from gflow.results.paths import Outcome
from gflow.studies.continuous_vs_discrete import ContinuousVsDiscrete


def continuous_vs_discrete_outcome(
    found: Mapping[str, ContinuousVsDiscrete], facts: Mapping[str, Mapping[str, Any]]
) -> Outcome:
    """Labelled arrays over ``network`` × ``time`` and summary; ``facts`` go into its rows."""
    studies = list(found.values())
    ts = studies[0].trajectory.ts
    ds = xr.Dataset(coords={"time": ("time", ts.numpy(), _TIME)})
    label = {"long_name": "network", "units": "1"}
    ds = ds.assign_coords(network=("network", list(found), label))
    lead = ("network", "time")
    columns = {
        "travelled": ([s.travelled for s in studies], "distance of descent from the start"),
        "gap_to_flow": ([s.gap for s in studies], "distance of descent to the flow"),
        "gap_to_proxy": ([s.proxy_gap for s in studies], "distance of descent to the proxy"),
        "proxy_to_flow": ([s.proxy_error for s in studies], "distance of the proxy to the flow"),
        "solver_error": ([s.solver_error for s in studies], "solver's own error"),
        "flow_losses": ([s.losses for s in studies], "loss of the flow"),
        "descent_losses": ([s.descent_losses for s in studies], "loss of descent"),
    }
    for name, (values, text) in columns.items():
        _add(ds, name, lead, _padded([_array(v) for v in values], len(ts)), text)
    ds["proxy"] = ((), studies[0].proxy, {"long_name": "η over the proxy's η", "units": "1"})
    ds["step"] = ((), studies[0].step_size, _STEP_SIZE)
    rows = [
        {
            "network": name,
            "distance": float(s.travelled[-1]),
            "largest_gap": float(s.gap.max()),
            "largest_proxy_gap": float(s.proxy_gap.max()),
            "largest_proxy_error": float(s.proxy_error.max()),
            "solver_error": float(s.solver_error.max()),
            "final_loss": float(s.losses[-1]),
            "final_descent_loss": float(s.descent_losses[-1]),
            "stability_limit": s.stability_limit,
            "diverged_at": s.diverged_at,
            "proxy_evals": s.proxy * int(s.descent.steps[-1]),
            "certificate": certificate_summary(s.trajectory),
            "cost": cost_summary(s.trajectory),
            **facts[name],
        }
        for name, s in found.items()
    ]
    summary = {
        "t_end": float(ts[-1]),
        "step_size": studies[0].step_size,
        "proxy": studies[0].proxy,
        "stability_limit": min(s.stability_limit for s in studies),
        "networks": rows,
        **_several({name: s.trajectory for name, s in found.items()}),
    }
    return Outcome(ds, summary)
