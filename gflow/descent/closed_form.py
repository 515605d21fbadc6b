"""Descent in closed form, where the flow has one: no step is taken.

A flow that is affine in its state, such as a kernel's, moves every mode of its residual by a fixed
factor a step. Loss and speed ‖g‖ are then sums of powers of the step count with positive
coefficients: they are convex in it, so the step at which a descent diverges is found by bisection.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.descent.divergence import explosion_limit
from gflow.descent.loop import CHECK_EVERY, DescentRecord, DescentRequest
from gflow.flows.base import Flow

_MEMORY = 2**24  # numbers in the states computed at once

States = Callable[[Tensor], Tensor]


def closed_form_descent(
    request: DescentRequest, progress: Progress | None = None
) -> DescentRecord | None:
    """Compute a requested descent in closed form.

    Parameters
    ----------
    request : DescentRequest
        The descent.
    progress : callable, optional
        ``progress(t, loss)``, called once, at the end.

    Returns
    -------
    DescentRecord or None
        What `serve_descent` returns, to round-off; None where the flow has no closed form of this
        descent, or its steps cost less.

    Examples
    --------
    >>> import gflow
    >>> flow = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
    >>> request = DescentRequest(flow, torch.zeros(1).double(), 0.5, [0, 2], 0.0)
    >>> closed_form_descent(request).values["parameters"].tolist()
    [[0.0], [0.75]]
    """
    flow, step_size, last = request.flow, request.step_size, request.saved_steps[-1]
    if request.momentum:
        return None
    members = request.start.reshape(-1, *request.start.shape[len(request.batch) :])
    forms = [flow.closed_descent(start, step_size, last * len(members)) for start in members]
    states = [form for form in forms if form is not None]
    if len(states) < len(forms) or not states:
        return None
    ends = [_divergence(flow, form, last) for form in states]
    stop = max(end for _, end in ends)
    steps = [k for k in request.saved_steps if k <= stop]
    chunks = torch.tensor(steps).split(max(1, _MEMORY // request.start.numel()))
    paths = [torch.cat([form(chunk) for chunk in chunks]) for form in states]
    parameters = torch.stack(paths, 1).reshape(len(steps), *request.start.shape)
    if progress is not None and steps:
        progress(steps[-1] * step_size, float(flow.loss(parameters[-1]).mean()))
    return DescentRecord(steps, {"parameters": parameters}, [step for step, _ in ends])


def _divergence(flow: Flow, states: States, last: int) -> tuple[int | None, int]:
    """Return the step from which a descent diverges, and that at which it ends.

    They are those of `gflow.descent.loop`, which checks the loss at every 50th step and at the
    last: None, and the last step, for a descent that does not diverge.
    """

    def loss(k: int) -> Tensor:
        return flow.loss(states(torch.tensor([k]))[0])

    def speed(k: int) -> float:
        return float(flow.norm(flow(0.0, states(torch.tensor([k]))[0])))

    limit = explosion_limit(loss(0))
    checks = range(0, last + CHECK_EVERY, CHECK_EVERY)

    def explodes(check: int) -> bool:
        return not bool(loss(min(check, last)) <= limit)

    if not explodes(last):
        return None, last
    stop = min(checks[bisect_left(checks, True, key=explodes)], last)
    rises = bisect_left(range(stop - 1), True, key=lambda k: not speed(k + 1) < speed(k))
    return rises, stop
