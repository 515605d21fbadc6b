"""What every result shares: labelled arrays, units, certificate and cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from gflow.flows.base import Flow, Observables
from gflow.trajectory import Trajectory, invariant_drift

_TIME = {"long_name": "time t = k · step size", "units": "step size × steps"}


_STEP_SIZE = {"long_name": "step size of descent", "units": "1"}


_LONG_NAMES = {
    "loss": "loss",
    "singular_values": "singular values of W",
    "eigenvalues": "eigenvalues of W = UUᵀ",
    "effective_rank": "effective rank of W",
    "nuclear_norm": "nuclear norm of W",
    "balancedness": "balancedness ‖W_{j+1}ᵀW_{j+1} − W_jW_jᵀ‖_F",
    "balanced_product_defect": "relative defect of (W_j⋯W_1)ᵀ(W_j⋯W_1) = [WᵀW]^{j/N}",
    "projection_ratio": "‖(N−1) G P_W‖ / ‖G‖",
    "least_eigenvalue": "least eigenvalue of W",
    "symmetry_defect": "‖W − Wᵀ‖ / ‖W‖",
    "residual_norm": "residual ‖u − y‖",
    "mode_residuals": "residual along each eigenvector of H",
}


#: Extra measurements of a setting: name -> (long name, values over leading times)
Measure = Callable[[Tensor, Tensor], Mapping[str, tuple[str, Tensor]]]


@dataclass(frozen=True)
class Setup:
    """What a scenario builds from its data: a flow, a start, and what else to measure.

    ``measure(ts, ys)`` adds measurements of any path (a held-out error), ``measure_flow``
    such as make sense for the flow's own (a bound), ``measure_descent`` for descents'.
    ``sharpness``: how many of the Hessian's largest eigenvalues the flow's solve is to follow.
    ``spectral`` are measurements of the flow alone: name -> (long name, dimensions, values).
    ``facts`` go into the summary as they are.
    """

    flow: Flow
    y0: Tensor
    measure: Measure = lambda ts, ys: {}
    measure_flow: Measure = lambda ts, ys: {}
    measure_descent: Measure = lambda ts, ys: {}
    sharpness: int = 0
    spectral: Mapping[str, tuple[str, tuple[str, ...], Tensor]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


#: What the dimensions without coordinates of their own count, and from where.
_COUNTS = {
    "mode": (1, "mode, the largest first"),
    "layer": (1, "layer j, W_j, the inputs' first"),
    "layer_pair": (1, "j of the layers j and j + 1"),
    "save": (0, "saved state of descent"),
    "saved_central": (0, "saved state of the central flow"),
    "step": (0, "step of descent"),
}


def numbered(ds: xr.Dataset) -> xr.Dataset:
    """The same with a coordinate for every dimension, so that ``ds.sel(layer=2)`` works.

    Examples
    --------
    >>> ds = numbered(xr.Dataset({"s": ("mode", [3.0, 0.5])}))
    >>> float(ds["s"].sel(mode=2)), ds["mode"].attrs["long_name"]
    (0.5, 'mode, the largest first')
    """
    bare = [str(dim) for dim in ds.dims if dim not in ds.coords]
    counts = {dim: _COUNTS.get(dim, (0, dim)) for dim in bare}
    return ds.assign_coords(
        {
            dim: (dim, first + np.arange(ds.sizes[dim]), {"long_name": label, "units": "1"})
            for dim, (first, label) in counts.items()
        }
    )


def _array(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().double().cpu().numpy()
    return array


def _add(ds: xr.Dataset, name: str, dims: tuple[str, ...], values: Any, long_name: str) -> None:
    ds[name] = (dims, values, {"long_name": long_name, "units": "1"})


def _add_observables(
    ds: xr.Dataset, flow: Flow, found: Observables, prefix: str, lead: tuple[str, ...]
) -> None:
    for name, values in found.items():
        dims = (*lead, *flow.observable_dims.get(name, ()))
        _add(ds, f"{prefix}{name}", dims, _array(values), _LONG_NAMES.get(name, name))


def path_dataset(path: Trajectory) -> xr.Dataset:
    """A trajectory's observables and invariants against ``time``."""
    ds = xr.Dataset(coords={"time": ("time", path.ts.numpy(), _TIME)})
    _add_observables(ds, path.flow, path.observables(), "", ("time",))
    _add_drift(ds, path)
    return ds


def _add_drift(ds: xr.Dataset, path: Trajectory) -> None:
    drift = invariant_drift(path.flow, path.ys)
    if drift:
        bound = path.certificate.bounds["invariant_drift"]
        _add(ds, "drift_bound", (), bound, "bound of the certificate")
    for name, values in drift.items():
        label = f"relative change of {name.replace('_', ' ')}"
        _add(ds, f"drift_{name}", ("time",), _array(values), label)


def _padded(rows: list[np.ndarray], length: int = 0) -> np.ndarray:
    """Rows of different lengths as one array, NaN where a row has ended."""
    longest = max(length, *(len(row) for row in rows))
    full = np.full((len(rows), longest, *rows[0].shape[1:]), np.nan)
    for i, row in enumerate(rows):
        full[i, : len(row)] = row
    return full


def certificate_summary(path: Trajectory) -> dict[str, Any]:
    """A trajectory's certificate as plain values."""
    c = path.certificate
    return {
        "holds": c.holds,
        "failures": c.failures(),
        "energy_residual": c.energy_residual,
        "loss_increase": c.loss_increase,
        "invariant_drift": dict(c.invariant_drift),
        "velocity_error": c.velocity_error,
        "error_estimate": c.error_estimate,
        "bounds": dict(c.bounds),
    }


def cost_summary(path: Trajectory) -> dict[str, Any]:
    """A trajectory's statistics as plain values."""
    s = path.stats
    return {
        "method": s.method,
        "reason": s.reason,
        "rhs_evals": s.rhs_evals,
        "jvp_evals": s.jvp_evals,
        "accepted": s.accepted,
        "rejected": s.rejected,
        "wall_seconds": s.wall_seconds,
    }


def _several(paths: Mapping[str, Trajectory]) -> dict[str, Any]:
    """One certificate and one cost of several trajectories by name."""
    all_ = list(paths.values())
    failures = [f"{name}: {f}" for name, t in paths.items() for f in t.certificate.failures()]
    return {
        "certificate": {"holds": not failures, "failures": failures},
        "cost": {
            "method": ", ".join(dict.fromkeys(t.stats.method for t in all_)),
            "reason": all_[0].stats.reason,
            "rhs_evals": sum(t.stats.rhs_evals for t in all_),
            "wall_seconds": sum(t.stats.wall_seconds for t in all_),
        },
    }
