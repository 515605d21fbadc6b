"""The discretisation gap: descent at t = kη against the flow at the same times."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.descent import Descent
from gflow.display import Display
from gflow.errors import InputError
from gflow.studies.matching import shared_times
from gflow.trajectory import Trajectory


@dataclass(frozen=True, repr=False)
class Gap(Display):
    """Distance between a flow and descent at matched times.

    Attributes
    ----------
    ts : Tensor, shape (T,)
        The times that both have.
    end_to_end : Tensor, shape (T, ...)
        Frobenius distance of the objects that the loss sees (W, UUᵀ, the outputs).
    parameters : Tensor, shape (T, ...), or None
        Euclidean distance of the parameters, where the trajectory is one of parameters.
    relative : Tensor, shape (T, ...)
        ``end_to_end`` over the flow's norm at that time.
    solver_error : float or None
        The trajectory's own relative error, where its certificate has an estimate.
    step_size : float
        Of descent.
    flow_norm : float
        Largest norm of the flow's states, by which its relative error is one like the gap's.
    """

    ts: Tensor
    end_to_end: Tensor
    parameters: Tensor | None
    relative: Tensor
    solver_error: float | None
    step_size: float = math.nan
    flow_norm: float = math.nan

    @property
    def largest(self) -> float:
        """The largest end-to-end distance over times and members."""
        return float(self.end_to_end.max())

    def __repr__(self) -> str:
        error = "" if self.solver_error is None else f", solver error {self.solver_error:.1e}"
        return (
            f"Gap(largest {self.largest:.3g}, relative {float(self.relative.max()):.2g}, step_size "
            f"= {self.step_size:g}, {len(self.ts)} times to t = {float(self.ts[-1]):g}{error})"
        )


def compare(trajectory: Trajectory, descent: Descent) -> Gap:
    """Compare a trajectory and a descent at the times they share.

    The two may live on different levels: an end-to-end trajectory against descent on
    the layers is compared on W.

    Parameters
    ----------
    trajectory : Trajectory
    descent : Descent

    Returns
    -------
    Gap

    Raises
    ------
    InputError
        If they share no time but the start's, or their end-to-end objects differ in shape.

    Warns
    -----
    UserWarning
        If they share less than half of the times of either, or start at different states.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.tensor([[1.0]], dtype=torch.float64)
    >>> flow = gflow.KernelFlow(H, torch.ones(1, dtype=torch.float64))
    >>> start = torch.zeros(1, dtype=torch.float64)
    >>> gd = gflow.descend(flow, start, step_size=0.5, steps=2)
    >>> gap = gflow.compare(gflow.integrate(flow, start, gd.ts), gd)
    >>> [round(x, 4) for x in gap.end_to_end.tolist()]   # e^{−t} − (1 − η)^k
    [0.0, 0.1065, 0.1179]
    """
    _check_arguments(trajectory, descent)
    elapsed = trajectory.ts - trajectory.ts[0]
    rows, columns = shared_times(elapsed, descent.ts)
    _check_shared(elapsed, descent.ts, rows)
    flow = trajectory.flow
    ys, states = trajectory.ys[rows], descent.ys[columns]
    first, second = flow.end_to_end(ys), descent.flow.end_to_end(states)
    if first.shape != second.shape:
        raise InputError(
            "trajectory and descent must describe the same object, "
            f"got shapes {tuple(first.shape[1:])} and {tuple(second.shape[1:])}"
        )
    ndim = first.ndim - len(flow.batch_shape(ys))
    distance = _norm(first - second, ndim)
    size = _norm(first, ndim).clamp_min(torch.finfo(first.dtype).tiny)
    if rows[0] == 0 and columns[0] == 0 and bool((distance[0] > 1e-3 * size[0]).any()):
        warnings.warn(
            f"trajectory and descent start at different states, {float(distance[0].max()):.3g} "
            "apart; the gap includes that",
            stacklevel=2,
        )
    parameters = None
    theta = descent.parameters[columns]
    if flow.is_of_parameters and ys.shape == theta.shape:
        parameters = flow.norm(ys - theta)
    return Gap(
        ts=trajectory.ts[rows],
        end_to_end=distance,
        parameters=parameters,
        relative=distance / size,
        solver_error=trajectory.certificate.error_estimate,
        step_size=descent.step_size,
        flow_norm=float(flow.norm(ys).max()),
    )


def _check_arguments(trajectory: object, descent: object) -> None:
    if isinstance(trajectory, Trajectory) and isinstance(descent, Descent):
        return
    raise InputError(
        "compare takes a trajectory, then a descent, got "
        f"{type(trajectory).__name__} and {type(descent).__name__}; write "
        "gflow.compare(gflow.integrate(...), gflow.descend(...))"
    )


def _check_shared(first: Tensor, second: Tensor, rows: list[int]) -> None:
    """Raise InputError where two paths share nothing to compare at; warn where it is little."""
    end = min(float(first[-1]), float(second[-1])) * (1 + 1e-6)
    within = min(int((first <= end).sum()), int((second <= end).sum()))
    mend = "integrate at descent.ts, or at multiples of the step size"
    if not rows or (rows == [0] and within > 1):
        raise InputError(
            "trajectory and descent must have a time in common, counted from their start, but have "
            f"{'only the start itself' if rows else 'none'}; {mend}"
        )
    if len(rows) < within / 2:
        warnings.warn(
            f"trajectory and descent share only {len(rows)} times, of {len(first)} and "
            f"{len(second)}: the gap is that at these; {mend}",
            stacklevel=3,
        )


def _norm(value: Tensor, ndim: int) -> Tensor:
    return value.flatten(value.ndim - ndim).norm(dim=-1) if ndim else value.abs()
