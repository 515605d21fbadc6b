"""A study of descent against the flow and against a proxy, for several networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import xarray as xr

from gflow.linalg.arrays import to_numpy
from gflow.measures import measures
from gflow.results.arrays import STEP_SIZE, TIME, add_variable, label, padded
from gflow.results.base import Column, Result
from gflow.results.lines import Line, fact_lines, format_value, stability_line
from gflow.results.measured import final_measures
from gflow.results.summaries import certificate_summary, combined_summary, cost_summary
from gflow.studies.continuous_vs_discrete import ContinuousVsDiscrete

_HELD_OUT = {"test_loss": "held-out loss", "test_accuracy": "held-out accuracy"}


class ContinuousVsDiscreteResult(Result):
    """Distances between descent, proxy and flow over ``network`` × ``time``.

    The proxy is a descent with a much smaller step size; after a divergence values are NaN.
    """

    kind: ClassVar[str] = "continuous-vs-discrete"
    study_type: ClassVar[type | None] = ContinuousVsDiscrete
    rows_key: ClassVar[str] = "networks"
    row_meaning: ClassVar[str] = (
        "One row is one network, with one descent and one proxy beside its flow."
    )
    row_label: ClassVar[str] = "network"

    @classmethod
    def from_study(
        cls,
        networks: ContinuousVsDiscrete | Mapping[str, ContinuousVsDiscrete],
        facts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> ContinuousVsDiscreteResult:
        """Return the result of one study a network.

        Parameters
        ----------
        networks : ContinuousVsDiscrete, or mapping of str to ContinuousVsDiscrete
        facts : mapping of str to mapping, optional
            Plain values for each network's row of the summary.
        """
        if isinstance(networks, ContinuousVsDiscrete):
            networks = {"one": networks}
        facts = facts or {name: {} for name in networks}
        ds = _dataset(networks)
        return cls(ds, _summary(networks, facts, ds))

    @classmethod
    def columns(cls, summary: Mapping[str, Any]) -> Sequence[Column]:
        """Return the distances between descent, flow and proxy, and the solver's error."""
        return (
            Column("network", "network", meaning="the network, by its activation"),
            Column(
                "distance",
                "travelled",
                meaning="distance of descent from the start, at the end",
            ),
            Column(
                "largest_gap",
                "gap to flow",
                meaning="largest distance between descent and flow at equal time t",
            ),
            Column(
                "largest_proxy_gap",
                "gap to proxy",
                meaning="largest distance of descent to the proxy, descent with a small step",
            ),
            Column(
                "largest_proxy_error",
                "proxy to flow",
                meaning="largest distance between the proxy and the flow: what the proxy misses",
            ),
            Column(
                "solver_error",
                "solver's error",
                meaning="error of the flow itself, by a finer solve",
            ),
            *(
                Column(f"final_{name}", title, meaning=f"{title} at the end of the flow")
                for name, title in _HELD_OUT.items()
                if any(f"final_{name}" in row for row in cls.rows(summary))
            ),
        )

    @classmethod
    def lines(cls, summary: Mapping[str, Any]) -> Sequence[Line]:
        """Return how much of the gap the proxy shows and at what cost, and the stability limit."""
        rows = cls.rows(summary)
        shares = ", ".join(f"{row['network']} {_share(row)}" for row in rows)
        evals = sum(row["proxy_evals"] for row in rows)
        text = f"step / {summary['proxy']}: shows {shares} of the gap, in {evals} evaluations"
        return [("proxy", text), stability_line(summary), *fact_lines(summary)]


def _share(row: Mapping[str, Any]) -> str:
    part, gap = row["largest_proxy_gap"], row["largest_gap"]
    return format_value(part / gap, ".1%") if part is not None and gap else "-"


def _dataset(networks: Mapping[str, ContinuousVsDiscrete]) -> xr.Dataset:
    studies = list(networks.values())
    ts = studies[0].trajectory.ts
    ds = xr.Dataset(coords={"time": ("time", ts.numpy(), TIME)})
    ds = ds.assign_coords(network=("network", list(networks), label("network")))
    columns = {
        "travelled": ([s.travelled for s in studies], "distance of descent from the start"),
        "gap_to_flow": ([s.gap for s in studies], "distance of descent to the flow"),
        "gap_to_proxy": ([s.proxy_gap for s in studies], "distance of descent to the proxy"),
        "proxy_to_flow": ([s.proxy_error for s in studies], "distance of the proxy to the flow"),
        "solver_error": ([s.solver_error for s in studies], "solver's own error"),
        "flow_losses": ([s.losses for s in studies], "loss of the flow"),
        "descent_losses": ([s.descent_losses for s in studies], "loss of descent"),
    }
    for name, (curves, long_name) in columns.items():
        values = padded([to_numpy(curve) for curve in curves], len(ts))
        add_variable(ds, name, ("network", "time"), values, long_name)
    for prefix, by_network in (
        ("flow", [s.trajectory.observables() for s in studies]),
        ("descent", [s.descent.observables() for s in studies]),
    ):
        for name in (name for name in measures() if all(name in seen for seen in by_network)):
            if all(seen[name].ndim == 1 for seen in by_network):
                values = padded([to_numpy(seen[name]) for seen in by_network], len(ts))
                long_name = f"{name.replace('_', ' ')} of {'the ' * (prefix == 'flow')}{prefix}"
                add_variable(ds, f"{prefix}_{name}", ("network", "time"), values, long_name)
    add_variable(ds, "proxy", (), studies[0].proxy, "η over the proxy's η")
    ds["step"] = ((), studies[0].step_size, STEP_SIZE)
    return ds


def _summary(
    networks: Mapping[str, ContinuousVsDiscrete],
    facts: Mapping[str, Mapping[str, Any]],
    ds: xr.Dataset,
) -> dict[str, Any]:
    studies = list(networks.values())
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
            **final_measures(ds.sel(network=name), "flow_"),
            "certificate": certificate_summary(s.trajectory),
            "cost": cost_summary(s.trajectory),
            **facts[name],
        }
        for name, s in networks.items()
    ]
    return {
        "t_end": float(studies[0].trajectory.ts[-1]),
        "step_size": studies[0].step_size,
        "proxy": studies[0].proxy,
        "stability_limit": min(s.stability_limit for s in studies),
        "networks": rows,
        **combined_summary({name: s.trajectory for name, s in networks.items()}),
    }
