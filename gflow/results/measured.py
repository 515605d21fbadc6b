"""What networks are measured by, along a flow, its descents and their central flows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from gflow.descent import Descent
from gflow.linalg.arrays import to_numpy
from gflow.measures import measures
from gflow.results.arrays import LONG_NAMES, add_variable, observables_dataset, padded
from gflow.results.paths import descents_dataset
from gflow.studies.central_path import CentralPath
from gflow.trajectory import Trajectory


def measures_dataset(
    path: Trajectory,
    descents: Sequence[Descent],
    central: Sequence[CentralPath | None] = (),
) -> xr.Dataset:
    """Return what a network is measured by; empty for a flow of another kind.

    Parameters
    ----------
    path : Trajectory
    descents : sequence of Descent
        One a step size.
    central : sequence of CentralPath or None, optional
        The central flow of each descent, if it has one.

    Returns
    -------
    xarray.Dataset
        ``<name>`` over ``time``, ``descent_<name>`` over ``step_size`` × ``save``, and
        ``central_<name>`` over ``step_size`` × ``saved_central``; the last for one number a state.

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.NetworkFlow.example()
    >>> path = gflow.integrate(flow, start, [0.0, 1.0])
    >>> sorted(measures_dataset(path, [gflow.descend(flow, start, 0.1, 3)]).data_vars)[:3]
    ['descent_distance', 'descent_gradient_norm', 'descent_layer_norms']
    """
    along = observables_dataset(path)
    names = [name for name in measures() if name in along]
    ds = along[names]
    if not names:
        return ds
    of_descents = descents_dataset(descents, path.flow)
    ds = ds.assign({f"descent_{name}": of_descents[f"descent_{name}"] for name in names})
    if any(one is not None for one in central):
        seen = [{} if one is None else path.flow.observables(one.ys) for one in central]
        for name in (name for name in names if ds[name].dims == ("time",)):
            rows = padded([to_numpy(of[name]) if of else np.empty(0) for of in seen])
            long_name = "central flow: " + LONG_NAMES.get(name, name)
            add_variable(ds, f"central_{name}", ("step_size", "saved_central"), rows, long_name)
    return ds


def final_measures(ds: xr.Dataset, prefix: str = "") -> dict[str, Any]:
    """Return what the flow's network is measured by at the end, as ``final_<name>``.

    Parameters
    ----------
    ds : xarray.Dataset
        With measures over ``time``.
    prefix : str
        Before the names of measures there.

    Returns
    -------
    dict of str to float

    Examples
    --------
    >>> final_measures(xr.Dataset({"test_loss": ("time", [2.0, 1.0])}))
    {'final_test_loss': 1.0}
    """
    seen = {name: f"{prefix}{name}" for name in measures() if f"{prefix}{name}" in ds}
    return {
        f"final_{name}": float(ds[key][-1])
        for name, key in seen.items()
        if ds[key].dims == ("time",)
    }
