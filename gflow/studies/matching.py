"""Times that a flow and descents share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gflow.checks import require_count
from gflow.descent.loop import MAX_CLOSED_STEPS, MAX_STEPS
from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.solvers.options import SolveOptions, Spacing

_SAME_TIME = 1e-9  # relative difference of times that count as one
_SAME_SINGLE = 4 * torch.finfo(torch.float32).eps  # the same of times from single precision


def shared_times(first: Tensor, second: Tensor) -> tuple[list[int], list[int]]:
    """Find the times that two paths have in common, up to the precision they were made in.

    Times that are all numbers of single precision, as `torch.arange` makes them by default, are
    compared in that precision; each is matched with the nearest one.

    Parameters
    ----------
    first, second : Tensor, shape (T,) and (S,)
        Ascending times.

    Returns
    -------
    (list of int, list of int)
        The indices of the common times in the first and in the second.

    Examples
    --------
    >>> import torch
    >>> shared_times(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 2.0]))
    ([0, 2], [0, 1])
    """
    a, b = first.double().cpu(), second.double().cpu()
    single = any(torch.equal(times.float().double(), times) for times in (a, b))
    scale = max(float(a.abs().max()), float(b.abs().max()), 1e-300)
    right = torch.searchsorted(b, a).clamp_max(len(b) - 1)
    left = (right - 1).clamp_min(0)
    nearest = torch.where((b[right] - a).abs() <= (a - b[left]).abs(), right, left)
    distance = (b[nearest] - a).abs()
    pairs: dict[int, tuple[float, int]] = {}  # column: distance and row of its nearest partner
    for i in (distance <= (_SAME_SINGLE if single else _SAME_TIME) * scale).nonzero().flatten():
        candidate = float(distance[i]), int(i)
        j = int(nearest[i])
        pairs[j] = min(candidate, pairs.get(j, candidate))
    columns = sorted(pairs)
    return [pairs[j][1] for j in columns], columns


def max_descent_steps(flow: Flow, y0: Tensor, steps: float) -> float:
    """Return the largest number of steps of a descent: more where it has a closed form.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (*state)
        Its start.
    steps : float
        The number of steps it would take.

    Returns
    -------
    float

    Examples
    --------
    >>> import gflow
    >>> f"{max_descent_steps(*gflow.FactorFlow.example(), 1e9):g}"
    '1e+08'
    """
    form = flow.parameter_flow.closed_descent(flow.lift(y0), 1.0, int(steps))
    return MAX_STEPS if form is None else MAX_CLOSED_STEPS


def matched_times(
    t_end: float,
    step_sizes: Sequence[float],
    points: int,
    *,
    spacing: Spacing = "linear",
    max_steps: float = MAX_STEPS,
) -> tuple[list[float], list[list[int]]]:
    """Choose the times of a flow, and the steps of each descent, at which they are compared.

    Parameters
    ----------
    t_end : float
    step_sizes : sequence of float
    points : int
        The number of comparisons for each step size, approximately; at most one a step.
    spacing : str
        ``linear``, or ``log`` for times that grow by equal factors from the first step on.
    max_steps : float
        The largest number of steps of one descent; see `max_descent_steps`.

    Returns
    -------
    (list of float, list of list of int)
        The union of all k·step_size with 0 and t_end, ascending, and the step counts k of each
        step size, 0 included. Times that differ by round-off count as one.

    Raises
    ------
    InputError
        If a step size is not positive, takes more than max_steps, or is longer than the time
        span, or points is below 1.

    Examples
    --------
    >>> matched_times(1.0, [0.5, 0.25], 2)
    ([0.0, 0.5, 1.0], [[0, 1, 2], [0, 2, 4]])
    """
    require_count("points", points)
    counts = []
    times: list[float] = [0.0]
    for step in step_sizes:
        if step > 0 and t_end / step > max_steps:
            raise InputError(
                f"a descent takes at most {max_steps:g} steps, but step size {step:g} takes "
                f"{t_end / step:.1g} to t_end = {t_end:g}; use a larger step or a shorter time"
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


def require_linear_spacing(study: str, options: SolveOptions) -> None:
    """Raise InputError unless comparisons are equally spaced in time.

    Parameters
    ----------
    study : str
        The name of the study, for the message.
    options : SolveOptions

    Raises
    ------
    InputError
        If the spacing is logarithmic.

    Examples
    --------
    >>> require_linear_spacing("edge of stability", SolveOptions())
    """
    if options.spacing != "linear":
        raise InputError(
            f"{study} compares at equally spaced times, got {options.spacing} spacing; use linear"
        )
