"""Plateaus of a path as labelled arrays, beside those of the path."""

from __future__ import annotations

import xarray as xr

from gflow.results.arrays import TIME, add_variable
from gflow.results.paths import trajectory_dataset
from gflow.studies.plateaus import Plateaus


def plateaus_dataset(found: Plateaus) -> xr.Dataset:
    """Return the path over ``time``, its plateaus over ``plateau`` and its jumps over ``jump``.

    Parameters
    ----------
    found : Plateaus

    Returns
    -------
    xarray.Dataset
        Times are those of the path, not multiples of ``found.unit``.

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> found = gflow.studies.plateaus(gflow.integrate(flow, start, [0.0, 50.0, 100.0]))
    >>> plateaus_dataset(found).sizes["plateau"]
    1
    """
    ds = trajectory_dataset(found.trajectory)
    begins, ends = zip(*found.intervals, strict=True) if found.intervals else ((), ())
    at = {"plateau_begin": ("plateau", begins), "plateau_end": ("plateau", ends)}
    for name, (dim, times) in (at | {"jump_time": ("jump", found.times)}).items():
        ds[name] = (dim, [found.unit * t for t in times], TIME)
    add_variable(ds, "plateau_loss", ("plateau",), list(found.losses), "loss on the plateau")
    counts = [len(modes) for modes in found.active]
    add_variable(ds, "active_modes", ("plateau",), counts, "modes that are active on the plateau")
    return ds
