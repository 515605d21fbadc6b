"""Events: functions of the state that stop a solve when they fall to zero.

Any callable ``event(y)`` that returns one number for each member can be passed to
``gflow.integrate(flow, y0, ts, until=event)``. A member whose event is zero or negative at
the start stops there. This module has the usual events.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gflow.checks import require_callable, require_count, require_number
from gflow.errors import InputError
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow

#: event(y), (..., *state) → (...): positive until the event, zero when it happens.
Event = Callable[[Tensor], Tensor]


def loss_reaches(flow: Flow, value: float) -> Event:
    """Stop when the loss φ(y) falls to a value.

    Parameters
    ----------
    flow : Flow
        The flow that is integrated.
    value : float
        The loss to stop at.

    Returns
    -------
    callable
        The event φ(y) − value.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.events import loss_reaches
    >>> flow = gflow.KernelFlow(torch.eye(1).double(), torch.zeros(1).double())
    >>> u0 = torch.ones(1).double()                          # u = e^{−t}, φ = ½e^{−2t}
    >>> path = gflow.integrate(flow, u0, [0.0, 100.0], until=loss_reaches(flow, 0.005))
    >>> round(path.event_times[0], 4), path.ts.tolist()[-1] == path.event_times[0]   # ln 10
    (2.3026, True)
    """
    require_flow(flow, "loss_reaches(flow, value)")
    level = _level(value)
    return lambda y: flow.loss(y) - level


def _level(value: float) -> float:
    level = require_number("value", value)
    if math.isnan(level):
        raise InputError("value must be a number that can be reached, got NaN")
    return level


def gradient_norm_reaches(flow: Flow, value: float) -> Event:
    """Stop when the speed ‖ẏ‖, for parameters the norm of the gradient, falls to a value.

    Parameters
    ----------
    flow : Flow
        The flow that is integrated.
    value : float
        The speed to stop at.

    Returns
    -------
    callable
        The event ‖ẏ‖ − value.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.events import gradient_norm_reaches
    >>> flow = gflow.KernelFlow(torch.eye(1), torch.zeros(1))
    >>> gradient_norm_reaches(flow, 0.25)(torch.ones(1)).item()
    0.75
    """
    require_flow(flow, "gradient_norm_reaches(flow, value)")
    speed = _level(value)
    return lambda y: flow.norm(flow(0.0, y)) - speed


def rank_reaches(flow: Flow, rank: int, threshold: float) -> Event:
    """Stop when a singular value of the end-to-end matrix rises to a threshold.

    Parameters
    ----------
    flow : Flow
        The flow that is integrated; its end-to-end object is a matrix.
    rank : int
        Which singular value, counted from 1 for the largest.
    threshold : float
        The singular value to stop at.

    Returns
    -------
    callable
        The event threshold − σ_rank.

    Raises
    ------
    InputError
        If the rank is not positive.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.events import rank_reaches
    >>> flow, _ = gflow.EndToEndFlow.example()
    >>> rank_reaches(flow, 2, threshold=0.5)(torch.zeros(2, 3)).item()
    0.5
    """
    require_flow(flow, "rank_reaches(flow, rank, threshold)")
    rank, level = require_count("rank", rank), require_number("threshold", threshold)
    return lambda y: level - torch.linalg.svdvals(flow.end_to_end(y))[..., rank - 1]


def first_of(*events: Event) -> Event:
    """Stop at whichever of several events happens first."""
    if not events:
        raise InputError("first_of needs at least one event, got none; pass events")
    for event in events:
        require_callable("each event", event, "event(y)")
    return lambda y: torch.stack([event(y) for event in events]).amin(dim=0)
