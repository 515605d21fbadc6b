"""Labelled arrays of pictures of the state: the phase portrait of two parameters, and neurons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from gflow.descent import Descent
from gflow.errors import InputError
from gflow.linalg.arrays import to_numpy
from gflow.results.arrays import STEP_SIZE, TIME, add_variable, padded
from gflow.trajectory import Trajectory

_GRID = 41  # points of a phase portrait along each parameter
_MARGIN = 0.35  # of the extent of the paths, around them
_DIMS = ("second_parameter", "first_parameter")


def phase_portrait_dataset(path: Trajectory, descents: Sequence[Descent] = ()) -> xr.Dataset:
    """Return the velocity and the loss on a grid around a path of two parameters, and the path.

    Parameters
    ----------
    path : Trajectory
        Of one start whose state has two numbers.
    descents : sequence of Descent
        Of the same flow.

    Returns
    -------
    xarray.Dataset
        ``portrait_loss``, ``velocity`` and ``velocity_2`` over the grid, ``state`` over ``time``,
        and ``descent_state`` over ``step_size`` × ``save``.

    Raises
    ------
    InputError
        If the state has not two numbers.

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.flow_from_loss(lambda w: (w[0] * w[1] - 1) ** 2 / 2)
    >>> path = gflow.integrate(flow, torch.tensor([2.0, 0.1]).double(), [0.0, 1.0])
    >>> ds = phase_portrait_dataset(path)
    >>> ds.velocity.shape, ds.state.shape
    ((41, 41), (2, 2))
    """
    flow, shape = path.flow, path.flow.state_shape
    if path.ys[0].numel() != 2:
        raise InputError(
            "a phase portrait needs two parameters, one start, got a state of shape "
            f"{tuple(path.ys.shape[1:])}; draw another observable"
        )
    states = to_numpy(path.ys).reshape(-1, 2)
    others = [to_numpy(descent.ys).reshape(-1, 2) for descent in descents]
    every = np.concatenate([states, *others])
    low, high = every.min(axis=0), every.max(axis=0)
    around = _MARGIN * np.maximum(high - low, 0.1 * (high - low).max() + 1e-3)
    axes = [np.linspace(low[i] - around[i], high[i] + around[i], _GRID) for i in (0, 1)]
    grid = np.stack(np.meshgrid(*axes), axis=-1)
    points = torch.as_tensor(grid, dtype=path.ys.dtype, device=path.ys.device)
    with torch.no_grad():
        points = points.reshape(-1, *shape)
        velocity = to_numpy(flow(0.0, points)).reshape(*grid.shape)
        loss = to_numpy(flow.loss(points)).reshape(grid.shape[:2])
    ds = xr.Dataset(coords={"time": ("time", path.ts.numpy(), TIME)})
    for dim, values in zip(_DIMS, axes[::-1], strict=True):
        attributes = {"long_name": dim.replace("_", " "), "units": "1"}
        ds = ds.assign_coords({dim: (dim, values, attributes)})
    add_variable(ds, "portrait_loss", _DIMS, loss, "loss")
    add_variable(ds, "velocity", _DIMS, velocity[..., 0], "velocity of the first parameter")
    add_variable(ds, "velocity_2", _DIMS, velocity[..., 1], "velocity of the second parameter")
    add_variable(ds, "state", ("time", "parameter"), states, "state of the flow")
    if descents:
        sizes = [descent.step_size for descent in descents]
        ds = ds.assign_coords(step_size=("step_size", sizes, STEP_SIZE))
        times = padded([to_numpy(descent.ts) for descent in descents])
        ds["descent_time"] = (("step_size", "save"), times, TIME)
        dims = ("step_size", "save", "parameter")
        add_variable(ds, "descent_state", dims, padded(others), "state of descent")
    return ds


def neurons_dataset(path: Trajectory) -> xr.Dataset:
    """Return the input weights of hidden neurons in the plane in which they end up largest.

    Parameters
    ----------
    path : Trajectory
        Of a flow that has neurons: `gflow.flows.Flow.neurons`.

    Returns
    -------
    xarray.Dataset
        ``neurons`` over ``time`` × ``neuron`` × ``plane``, and ``neuron_share``, how much of the
        squared weights at the end is in the plane.

    Raises
    ------
    InputError
        If the flow has no neurons.

    Examples
    --------
    >>> import gflow
    >>> flow, W = gflow.flows.TwoLayerFlow.example()
    >>> neurons_dataset(gflow.integrate(flow, W, [0.0, 1.0])).neurons.dims
    ('time', 'neuron', 'plane')
    """
    found = None if path.ys.ndim != 1 + path.flow.state_ndim else path.flow.neurons(path.ys)
    if found is None:
        raise InputError(
            f"{type(path.flow).__name__} has no neurons to draw, or an ensemble of starts; they "
            "are those of TwoLayerFlow, NetworkFlow, LayerwiseFlow and FactorFlow"
        )
    weights, signs = (to_numpy(part) for part in found)
    if weights.shape[-1] == 1:
        weights = np.concatenate([weights, np.zeros_like(weights)], axis=-1)
    _, values, directions = np.linalg.svd(weights[-1], full_matrices=False)
    plane = directions[:2] if weights.shape[-1] > 2 else np.eye(2)
    ds = xr.Dataset(coords={"time": ("time", path.ts.numpy(), TIME)})
    dims = ("time", "neuron", "plane")
    add_variable(ds, "neurons", dims, weights @ plane.T, "input weights of hidden neurons")
    add_variable(ds, "neuron_sign", ("neuron",), signs, "sign of the output weight")
    squares = np.square(values)
    share = float(squares[:2].sum() / max(squares.sum(), np.finfo(float).tiny))
    add_variable(ds, "neuron_share", (), share, "share of the squared weights in the plane")
    return ds
