"""The discretisation gap: descent at t = kη against the flow at the same times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gflow.descent import Descent
from gflow.errors import InputError
from gflow.trajectory import Trajectory

_MOST_STEPS = 1e8  # of one descent: days
_SAME_TIME = 1e-9  # relative difference of times that count as one


@dataclass(frozen=True)
class Gap:
    """Distance between a flow and descent at matched times.

    Attributes
    ----------
    ts : Tensor, shape (T,)
        The times both have.
    end_to_end : Tensor, shape (T, ...)
        ‖·‖_F distance of the objects the loss sees (W, UUᵀ, the outputs).
    parameters : Tensor, shape (T, ...), or None
        Euclidean distance of the parameters, where the trajectory is one of parameters.
    relative : Tensor, shape (T, ...)
        ``end_to_end`` over the flow's norm at that time.
    solver_error : float or None
        The trajectory's own relative error, where its certificate has an estimate.
    """

    ts: Tensor
    end_to_end: Tensor
    parameters: Tensor | None
    relative: Tensor
    solver_error: float | None

    @property
    def largest(self) -> float:
        """The largest end-to-end distance over times and members."""
        return float(self.end_to_end.max())


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
        If they share no time, or their end-to-end objects differ in shape.

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
    rows, columns = _shared(trajectory.ts - trajectory.ts[0], descent.ts)
    if not rows:
        raise InputError(
            "trajectory and descent share no time since their start; integrate at descent.ts, or "
            "at multiples of the step size"
        )
    flow, own = trajectory.flow, descent.flow
    ys, states = trajectory.ys[rows], descent.ys[columns]
    first, second = flow.end_to_end(ys), own.end_to_end(states)
    if first.shape != second.shape:
        raise InputError(
            "trajectory and descent must describe the same object, "
            f"got shapes {tuple(first.shape[1:])} and {tuple(second.shape[1:])}"
        )
    ndim = first.ndim - len(flow.batch_shape(ys))
    distance = _norm(first - second, ndim)
    size = _norm(first, ndim).clamp_min(torch.finfo(first.dtype).tiny)
    parameters = None
    theta = descent.parameters[columns]
    if flow.parameter_flow is flow and ys.shape == theta.shape:
        parameters = flow.norm(ys - theta)
    return Gap(
        ts=trajectory.ts[rows],
        end_to_end=distance,
        parameters=parameters,
        relative=distance / size,
        solver_error=trajectory.certificate.error_estimate,
    )


def _norm(value: Tensor, ndim: int) -> Tensor:
    return value.flatten(value.ndim - ndim).norm(dim=-1) if ndim else value.abs()


def _shared(first: Tensor, second: Tensor) -> tuple[list[int], list[int]]:
    """Index pairs of times that agree, both ascending."""
    a, b = first.tolist(), second.tolist()
    scale = max(abs(a[-1]), abs(b[-1]), 1e-300)
    rows, columns = [], []
    i = j = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= _SAME_TIME * scale:
            rows.append(i)
            columns.append(j)
            i, j = i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return rows, columns


Spacing = Literal["linear", "log"]


def matched_times(
    t_end: float, step_sizes: Sequence[float], points: int, *, spacing: Spacing = "linear"
) -> tuple[list[float], list[list[int]]]:
    """Times for one trajectory, and steps for each descent, that can be compared.

    Parameters
    ----------
    t_end : float
    step_sizes : sequence of float
    points : int
        About so many comparisons for each step size, at most one a step.
    spacing : str
        ``linear``, or ``log`` for times that grow by equal factors from the first step on.

    Returns
    -------
    (list of float, list of list of int)
        The union of all k·step_size with 0 and t_end, ascending, and the step counts k of each
        step size, 0 included. Times closer than round-off are one.

    Raises
    ------
    InputError
        If a step size is not positive, absurdly small, or longer than the time span, or
        points is below 1.
    """
    if points < 1:
        raise InputError(f"points must be at least 1, got {points}")
    counts = []
    times: list[float] = [0.0]
    for step in step_sizes:
        if step > 0 and t_end / step > _MOST_STEPS:
            raise InputError(
                f"step size {step:g} takes {t_end / step:.1g} steps to t_end = {t_end:g}; at most "
                f"{_MOST_STEPS:g} are taken: use a larger step or a shorter time"
            )
        total = int(t_end / step * (1 + 1e-12)) if step > 0 else 0
        if total < 1:
            raise InputError(
                f"every step size must be positive and at most t_end = {t_end:g}, got {step:g}"
            )
        if spacing == "log":
            chosen = sorted({0, *(round(total ** (i / points)) for i in range(points + 1))})
        else:
            chosen = sorted({round(total * i / points) for i in range(points + 1)})
        counts.append(chosen)
        times += [k * step for k in chosen]
    times.append(t_end)
    union: list[float] = []
    for t in sorted(times):
        if not union or t - union[-1] > _SAME_TIME * t_end / 10:
            union.append(t)
    return union, counts
