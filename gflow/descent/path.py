"""Discrete gradient descent on the parameters: explicit Euler for the parameter flow.

θ_{k+1} = θ_k − ηg_k at time t = kη. With heavy-ball momentum β,
v_{k+1} = βv_k − ηg_k, θ_{k+1} = θ_k + v_{k+1}, the flow it follows runs 1/(1 − β) times
faster: t = kη/(1 − β). `gflow.flows.momentum` and `gflow.flows.modified` say how closely.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.callbacks import Progress, as_progress
from gflow.checks import require_count, require_fraction, require_positive, shown
from gflow.descent.closed_form import closed_form_descent
from gflow.descent.loop import MAX_CLOSED_STEPS, MAX_STEPS, DescentRequest, serve_descent
from gflow.display import Display
from gflow.errors import InputError
from gflow.execution import current
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow, Observables
from gflow.flows.momentum import time_unit
from gflow.flows.starts import checked_start

_USAGE = "gflow.descend(flow, y0, step_size, steps)"
_MOST_SAVED = 10**7  # states, of any size
_MEMORY = 2**33  # numbers in the saved states


@dataclass(frozen=True, repr=False)
class Descent(Display):
    """The path of gradient descent at the saved steps.

    Attributes
    ----------
    ts : Tensor, shape (S,)
        Times of the saved steps, float64 on the host.
    steps : Tensor, shape (S,)
        Their step counts.
    parameters : Tensor, shape (S, ..., p)
        States of ``flow.parameter_flow``, on which descent acted.
    ys : Tensor, shape (S, ..., *state)
        The same as states of ``flow``.
    flow : Flow
        The flow that descent discretises.
    step_size, momentum : float
        Step size η and heavy-ball momentum β.
    diverged_at : int or None
        The step from which the gradient grew without bound; the saved steps end before the first
        value that is not finite.
    """

    ts: Tensor
    steps: Tensor
    parameters: Tensor
    ys: Tensor
    flow: Flow
    step_size: float
    momentum: float
    diverged_at: int | None

    @functools.cached_property
    def losses(self) -> Tensor:
        """φ at every saved step, shape (S, ...); computed once."""
        return self.flow.loss(self.ys)

    def observables(self) -> Observables:
        """Measure the flow's observables at every saved step, steps first."""
        return self.flow.observables(self.ys)

    def __repr__(self) -> str:
        state = "" if self.diverged_at is None else f", DIVERGED from step {self.diverged_at}"
        return (
            f"Descent({type(self.flow).__name__}, step_size = {self.step_size:g}, "
            f"{int(self.steps[-1])} steps to t = {float(self.ts[-1]):g}{state})"
        )


def descend(
    flow: Flow,
    y0: Tensor,
    step_size: float,
    steps: int,
    save_every: int = 1,
    *,
    momentum: float = 0.0,
    progress: Progress | bool | None = None,
) -> Descent:
    """Run full-batch gradient descent from the start of a flow.

    For a reduced flow (`EndToEndFlow`, `ProductFlow`) the start is lifted to parameters, descent
    acts on those, and the saved steps are projected back.

    Parameters
    ----------
    flow : Flow
        The flow that descent discretises.
    y0 : Tensor, shape (..., *state)
        A state of ``flow``, or an ensemble.
    step_size : float
        Step size η > 0; t = k·step_size, or k·step_size/(1 − momentum).
    steps : int
        Number of steps, at least 0.
    save_every : int
        Number of steps between two saved ones; the last is always saved.
    momentum : float
        Heavy-ball momentum β in [0, 1).
    progress : callable or bool, optional
        ``progress(t, loss)``, called every 50 steps and at the end (at the end alone
        where the steps have a closed form); True shows a bar.

    Returns
    -------
    Descent
        The path. A divergence is reported in it, not raised.

    Raises
    ------
    InputError
        If an argument is out of range.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.tensor([[1.0]], dtype=torch.float64)
    >>> flow = gflow.KernelFlow(H, torch.ones(1, dtype=torch.float64))
    >>> gflow.descend(flow, torch.zeros(1, dtype=torch.float64), step_size=0.5, steps=2).ys.tolist()
    [[0.0], [0.5], [0.75]]
    """
    require_flow(flow, _USAGE)
    steps, save_every = require_count("steps", steps, 0), require_count("save_every", save_every)
    if steps > MAX_CLOSED_STEPS:
        raise InputError(f"steps must be at most 2^53, got {shown(steps)}; take longer steps")
    size = y0.numel() if isinstance(y0, torch.Tensor) else 1
    most = max(1, min(_MOST_SAVED, _MEMORY // max(size, 1)))
    if steps // save_every > most:
        raise InputError(
            f"the states after {steps:.3g} steps, {steps // save_every:.3g} of them, take too much "
            f"memory; save at most {most:.3g} of them, by save_every = {math.ceil(steps / most)}"
        )
    saved_steps = {*range(0, steps + 1, save_every), steps}
    return descend_to(
        flow, y0, step_size, sorted(saved_steps), momentum=momentum, progress=progress
    )


def descend_to(
    flow: Flow,
    y0: Tensor,
    step_size: float,
    saved_steps: list[int],
    *,
    momentum: float = 0.0,
    progress: Progress | bool | None = None,
) -> Descent:
    """Run gradient descent as `descend` does, saving a given list of steps.

    Parameters
    ----------
    flow : Flow
        The flow that descent discretises.
    y0 : Tensor, shape (..., *state)
        A state of ``flow``, or an ensemble.
    step_size : float
        Step size η > 0.
    saved_steps : list of int
        Step counts to save, ascending; the last one is the number of steps.
    momentum : float
        Heavy-ball momentum β in [0, 1).
    progress : callable or bool, optional
        ``progress(t, loss)``, called every 50 steps and at the end (at the end alone
        where the steps have a closed form); True shows a bar.

    Returns
    -------
    Descent
        The path at the saved steps.

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
    >>> descend_to(flow, torch.zeros(1).double(), 0.5, [0, 2]).ys.tolist()
    [[0.0], [0.75]]
    """
    step_size = require_positive("step_size", step_size)
    momentum = require_fraction("momentum", momentum)
    flow, y0 = checked_start(flow, y0, _USAGE)
    progress = as_progress(progress, "descent", saved_steps[-1] * time_unit(step_size, momentum))
    with torch.no_grad():
        start = flow.lift(y0)
        request = DescentRequest(flow.parameter_flow, start, step_size, saved_steps, momentum)
        record = (
            closed_form_descent(request, progress)
            or current().request(_of_possible_length(request))
            or serve_descent(request, progress)
        )
        diverged_at = [k for k in record.diverged_at if k is not None]
        parameters = record.values["parameters"]
        is_finite = torch.isfinite(parameters).flatten(1).all(1).cpu()
        parameters = parameters[is_finite.to(parameters.device)]
        counts = torch.tensor(record.steps)[is_finite]
        return Descent(
            ts=counts.double() * time_unit(step_size, momentum),
            steps=counts,
            parameters=parameters,
            ys=flow.project(parameters),
            flow=flow,
            step_size=step_size,
            momentum=momentum,
            diverged_at=min(diverged_at, default=None),
        )


def _of_possible_length(request: DescentRequest) -> DescentRequest:
    """Return a request; raise InputError where its steps, taken one by one, would take years."""
    steps = request.saved_steps[-1]
    if steps > MAX_STEPS:
        raise InputError(
            f"steps must be at most {MAX_STEPS:.0e} where descent has no closed form, got "
            f"{steps:.3g}; take longer steps, or gflow.integrate(flow, ...)"
        )
    return request
