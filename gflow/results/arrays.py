"""Labelled arrays: xarray variables with ``long_name`` and ``units``.

Times are in units of step_size × steps of gradient descent on the same loss. Plots, reports and
files are made from these arrays alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from gflow.flows.base import Flow
from gflow.linalg.arrays import to_numpy
from gflow.measures import measures
from gflow.trajectory import Trajectory, invariant_drift


def label(long_name: str, units: str = "1") -> dict[str, str]:
    """Return the attributes of a labelled variable.

    Parameters
    ----------
    long_name : str
    units : str

    Returns
    -------
    dict

    Examples
    --------
    >>> label("loss")
    {'long_name': 'loss', 'units': '1'}
    """
    return {"long_name": long_name, "units": units}


TIME = label("time t = k · step size", "step size × steps")
STEP_SIZE = label("step size of descent")

#: Long names of observables.
LONG_NAMES = {
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
    **{name: kind.long_name for name, kind in measures().items()},
}

#: Dimensions without values: the first number and what is counted.
_COUNTS = {
    "mode": (1, "mode, the largest first"),
    "layer": (1, "layer j, W_j, the inputs' first"),
    "layer_pair": (1, "j of the layers j and j + 1"),
    "save": (0, "saved state of descent"),
    "saved_central": (0, "saved state of the central flow"),
    "step": (0, "step of descent"),
    "point": (0, "time of a path"),
    "member": (0, "member of the ensemble"),
    "plateau": (1, "plateau of the loss"),
    "jump": (1, "jump between two plateaus"),
}


def numbered(ds: xr.Dataset) -> xr.Dataset:
    """Return the dataset with a coordinate for every dimension, so that ``sel(layer=2)`` works.

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
            dim: (dim, first + np.arange(ds.sizes[dim]), label(long_name))
            for dim, (first, long_name) in counts.items()
        }
    )


def add_variable(
    ds: xr.Dataset, name: str, dims: tuple[str, ...], values: Any, long_name: str
) -> None:
    """Add a dimensionless variable to a dataset.

    Parameters
    ----------
    ds : xarray.Dataset
        Changed in place.
    name : str
    dims : tuple of str
    values : array_like
    long_name : str

    Examples
    --------
    >>> ds = xr.Dataset()
    >>> add_variable(ds, "loss", ("time",), [1.0, 0.5], "loss of the flow")
    >>> ds["loss"].attrs
    {'long_name': 'loss of the flow', 'units': '1'}
    """
    ds[name] = (dims, values, label(long_name))


def add_drift(ds: xr.Dataset, path: Trajectory) -> None:
    """Add the relative change of every invariant, and the certificate's bound for it.

    Parameters
    ----------
    ds : xarray.Dataset
        With a dimension ``time``; changed in place.
    path : Trajectory

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.flows import LayerwiseFlow
    >>> from gflow.losses import SquaredDistance
    >>> W = torch.eye(2, dtype=torch.float64)
    >>> flow = LayerwiseFlow(SquaredDistance(2 * W), dims=[2, 2, 2])
    >>> ds = xr.Dataset()
    >>> add_drift(ds, gflow.integrate(flow, flow.balanced_start(W), [0.0, 1.0]))
    >>> sorted(ds)
    ['drift_balancedness_1', 'drift_bound']
    """
    drift = invariant_drift(path.flow, path.ys, path.ts)
    if drift:
        bound = path.certificate.bounds["invariant_drift"]
        add_variable(ds, "drift_bound", (), bound, "bound of the certificate")
    dims = "time", *member_dims(path.flow, path.ys)
    for name, values in drift.items():
        long_name = f"relative change of {name.replace('_', ' ')}"
        add_variable(ds, f"drift_{name}", dims, to_numpy(values), long_name)


def padded(rows: Sequence[np.ndarray], length: int = 0) -> np.ndarray:
    """Stack rows of different lengths into one array, with NaN after the end of a row.

    Parameters
    ----------
    rows : sequence of numpy.ndarray, shape (n_i, ...)
    length : int
        Least length of the result.

    Returns
    -------
    numpy.ndarray, shape (len(rows), max(length, n_1, n_2, ...), ...)

    Examples
    --------
    >>> padded([np.ones(2), np.ones(1)], 3).tolist()
    [[1.0, 1.0, nan], [1.0, nan, nan]]
    """
    longest = max(length, *(len(row) for row in rows))
    full = np.full((len(rows), longest, *rows[0].shape[1:]), np.nan)
    for i, row in enumerate(rows):
        full[i, : len(row)] = row
    return full


def member_dims(flow: Flow, ys: Tensor) -> tuple[str, ...]:
    """Return the dimensions of an ensemble: ``member``, ``member_2`` and so on.

    Parameters
    ----------
    flow : Flow
    ys : Tensor, shape (T, ..., *state)
        States at T times.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from gflow.flows import FactorFlow
    >>> flow, U = FactorFlow.example()
    >>> member_dims(flow, U.expand(5, 3, *U.shape)), member_dims(flow, U.expand(5, *U.shape))
    (('member',), ())
    """
    count = ys.ndim - flow.state_ndim - 1
    return tuple("member" if i == 0 else f"member_{i + 1}" for i in range(count))


def observable_dims(flow: Flow, name: str, lead: tuple[str, ...], ndim: int) -> tuple[str, ...]:
    """Return the dimensions of an observable; what a flow does not name, it is named after.

    Parameters
    ----------
    flow : Flow
    name : str
        The observable's.
    lead : tuple of str
        Dimensions of times and members.
    ndim : int
        The number of all dimensions.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from gflow.flows import FactorFlow
    >>> flow, _ = FactorFlow.example()
    >>> observable_dims(flow, "eigenvalues", ("time",), 2), observable_dims(flow, "w", ("time",), 2)
    (('time', 'mode'), ('time', 'w_entry'))
    """
    own = tuple(flow.observable_dims.get(name, ()))
    if len(lead) + len(own) != ndim:
        count = max(0, ndim - len(lead))
        own = tuple(f"{name}_entry" if i == 0 else f"{name}_entry_{i + 1}" for i in range(count))
    return (*lead, *own)


def path_dataset(path: Trajectory) -> xr.Dataset:
    """Return a trajectory's observables and invariants against ``time``."""
    ds = observables_dataset(path)
    add_drift(ds, path)
    return labelled(ds, path.flow)


def observables_dataset(path: Trajectory) -> xr.Dataset:
    """Return a trajectory's observables against ``time``."""
    ds = xr.Dataset(coords={"time": ("time", path.ts.numpy(), TIME)})
    lead = "time", *member_dims(path.flow, path.ys)
    for name, values in path.observables().items():
        dims = observable_dims(path.flow, name, lead, values.ndim)
        add_variable(ds, name, dims, to_numpy(values), LONG_NAMES.get(name, name))
    return labelled(ds, path.flow)


def labelled(ds: xr.Dataset, flow: Flow) -> xr.Dataset:
    """Return the dataset with the names of what its dimensions count, as far as a flow has them.

    Parameters
    ----------
    ds : xarray.Dataset
    flow : Flow

    Returns
    -------
    xarray.Dataset

    Examples
    --------
    >>> from gflow.flows import NetworkFlow
    >>> flow, start = NetworkFlow.example()
    >>> str(labelled(xr.Dataset({"size": ("parameter", [1, 2, 3, 4])}), flow).parameter.values[0])
    '0.weight'
    """
    labels = {k: list(v) for k, v in flow.dimension_labels.items() if k in ds.dims}
    return ds.assign_coords({k: (k, v, label(k)) for k, v in labels.items()})
