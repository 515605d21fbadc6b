"""Events: functions of the state at whose fall to zero a solve stops.

Any callable ``event(y)`` serves that gives one number a member, positive at first, for
``gflow.integrate(flow, y0, ts, until=event)``. A member whose event is zero or below at
the start does not start. These are the usual ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.flows.base import Flow

Event = Callable[[Tensor], Tensor]


def loss_reaches(flow: Flow, value: float) -> Event:
    """φ(y) falls to value.

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
    return lambda y: flow.loss(y) - value


def gradient_norm_reaches(flow: Flow, value: float) -> Event:
    """‖ẏ‖ falls to value: for parameters the norm of the gradient."""
    return lambda y: flow.norm(flow(0.0, y)) - value


def rank_reaches(flow: Flow, rank: int, threshold: float) -> Event:
    """The rank-th singular value of the end-to-end matrix rises to threshold.

    Raises
    ------
    InputError
        If the rank is not positive.
    """
    if rank < 1:
        raise InputError(f"rank must be at least 1, got {rank}")
    return lambda y: threshold - torch.linalg.svdvals(flow.end_to_end(y))[..., rank - 1]


def first_of(*events: Event) -> Event:
    """Whichever of several events comes first."""
    return lambda y: torch.stack([event(y) for event in events]).amin(dim=0)
