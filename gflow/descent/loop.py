"""The loop of gradient descent: its request, its state between two steps, and its record.

θ_{k+1} = θ_k − ηg_k at time t = kη; see `gflow.descent.path` for momentum. A descent is one piece
of a resumable run, or a member of a batch where several jobs run in lockstep
(`gflow.execution.context`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.descent.divergence import DivergenceMonitor
from gflow.errors import InputError
from gflow.execution import current
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Flow
from gflow.flows.momentum import time_unit

#: Steps between two checks for a divergence, which wait for the device.
CHECK_EVERY = 50

#: The largest number of steps of a descent: days.
MAX_STEPS = 10**8

#: The same where no step is taken: the largest count that is exact as a float.
MAX_CLOSED_STEPS = 2**53


class DescentRequest(NamedTuple):
    """A descent to compute; `gflow.sweeping.ensembles` may serve several as one ensemble.

    Attributes
    ----------
    flow : Flow
        A flow of parameters.
    start : Tensor, shape (..., *state)
        The start.
    step_size : float
        Step size η > 0.
    saved_steps : list of int
        Step counts to record, ascending; the last one is the number of steps.
    momentum : float
        Heavy-ball momentum β in [0, 1).
    """

    flow: Flow
    start: Tensor
    step_size: float
    saved_steps: list[int]
    momentum: float

    @property
    def batch(self) -> torch.Size:
        """The shape of the ensemble of starts."""
        return self.flow.batch_shape(self.start)


@dataclass(frozen=True)
class DescentRecord:
    """Measurements along a descent.

    Attributes
    ----------
    steps : list of int
        The step counts, S of them.
    values : mapping of str to Tensor, shapes (S, ...)
        The measurements.
    diverged_at : list of (int or None)
        For each member the step from which its gradient grew without bound; its measurements from
        there on may be infinite or NaN.
    """

    steps: list[int]
    values: Mapping[str, Tensor]
    diverged_at: list[int | None]


def serve_descent(request: DescentRequest, progress: Progress | None = None) -> DescentRecord:
    """Compute a requested descent.

    Parameters
    ----------
    request : DescentRequest
        The descent.
    progress : callable, optional
        ``progress(t, loss)``, called every 50 steps and at the end.

    Returns
    -------
    DescentRecord
        The saved states as ``parameters``, (S, ..., *state).

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
    >>> request = DescentRequest(flow, torch.zeros(1).double(), 0.5, [0, 2], 0.0)
    >>> serve_descent(request).values["parameters"].tolist()
    [[0.0], [0.75]]
    """
    return descend_measured(
        *request[:4],
        lambda k, theta: {"parameters": theta.clone()},
        momentum=request.momentum,
        progress=progress,
    )


def descend_measured(
    flow: Flow,
    theta: Tensor,
    step_size: float,
    saved_steps: list[int],
    measure: Callable[[int, Tensor], Mapping[str, Tensor]],
    *,
    momentum: float = 0.0,
    progress: Progress | None = None,
) -> DescentRecord:
    """Run gradient descent and record measurements instead of states.

    For ensembles whose states at all steps would not fit into memory.

    Parameters
    ----------
    flow : Flow
        A flow of parameters.
    theta : Tensor, shape (..., *state)
        The start; it is not changed.
    step_size : float
        Step size η > 0.
    saved_steps : list of int
        Step counts to record, ascending; the last one is the number of steps.
    measure : callable
        ``measure(k, parameters)`` at the saved steps: tensors by name, always the same names
        and shapes. The parameters are overwritten afterwards.
    momentum : float
        Heavy-ball momentum β in [0, 1).
    progress : callable, optional
        ``progress(t, loss)``, called every 50 steps and at the end.

    Returns
    -------
    DescentRecord
        The measurements.

    Raises
    ------
    InputError
        If a checkpoint to resume from is beyond the last step.

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
    >>> start, measure = torch.zeros(1).double(), lambda k, u: {"loss": flow.loss(u)}
    >>> descend_measured(flow, start, 0.5, [0, 1], measure).values["loss"].tolist()
    [0.5, 0.125]
    """
    unit, last = time_unit(step_size, momentum), saved_steps[-1]
    saved = set(saved_steps)
    inputs: dict[str, Any] = {
        "step_size": step_size,
        "saved_steps": saved_steps,
        "momentum": momentum,
    }
    with torch.no_grad(), current().resumable("descent", start=theta, **inputs) as piece:
        if piece.finished is not None:
            return _DescentState.from_checkpoint(piece.finished, theta).result()
        if piece.resumed is not None:
            state = _DescentState.from_checkpoint(piece.resumed, theta)
            if not 0 <= state.step <= last:
                raise InputError(
                    f"a descent resumes from a step between 0 and {last}, got {state.step}"
                )
        else:
            state = _DescentState(
                theta.clone(), torch.zeros_like(theta), DivergenceMonitor(flow.loss(theta))
            )
            if 0 in saved:
                state.record(0, measure(0, state.theta))
        for k in range(state.step, last):
            rate = flow(k * unit, state.theta)
            state.speeds.append(flow.norm(rate))
            change = step_size * rate
            state.velocity = change if momentum == 0 else momentum * state.velocity + change
            state.theta += state.velocity
            state.step = k + 1
            if k + 1 in saved:
                state.record(k + 1, measure(k + 1, state.theta))
            if (k + 1) % CHECK_EVERY == 0 or k + 1 == last:
                loss = flow.loss(state.theta)
                state.monitor.update(torch.stack(state.speeds), loss)
                state.speeds.clear()
                if progress is not None:
                    progress((k + 1) * unit, float(loss.mean()))
                if None not in state.monitor.diverged_at:
                    break
            piece.step(state.checkpoint)
        piece.finish(state.checkpoint)
        return state.result()


class _DescentState:
    """The state of a descent between two steps."""

    def __init__(self, theta: Tensor, velocity: Tensor, monitor: DivergenceMonitor):
        self.step = 0
        self.theta = theta
        self.velocity = velocity
        self.speeds: list[Tensor] = []  # of the steps since the monitor's last update
        self.monitor = monitor
        self.steps: list[int] = []
        self.rows: list[Mapping[str, Tensor]] = []

    def record(self, k: int, values: Mapping[str, Tensor]) -> None:
        """Append the measurements at step k."""
        self.steps.append(k)
        self.rows.append(values)

    def result(self) -> DescentRecord:
        """Return the measurements so far."""
        names = self.rows[0] if self.rows else ()
        values = {name: torch.stack([row[name] for row in self.rows]) for name in names}
        return DescentRecord(self.steps, values, self.monitor.diverged_at)

    def checkpoint(self) -> Checkpoint:
        """Return the complete state."""
        measured = {f"measured {name}": value for name, value in self.result().values.items()}
        tensors = {"theta": self.theta.clone(), "velocity": self.velocity, **self.monitor.tensors()}
        if self.speeds:
            tensors["speeds"] = torch.stack(self.speeds)
        meta = {"step": self.step, "steps": list(self.steps), "watch": self.monitor.meta()}
        return Checkpoint({**tensors, **measured}, meta)

    @classmethod
    def from_checkpoint(cls, stored: Checkpoint, like: Tensor) -> _DescentState:
        """Restore what `checkpoint` returned, on the device of like."""
        tensors = {name: value.to(like.device) for name, value in stored.tensors.items()}
        monitor = DivergenceMonitor.from_checkpoint(stored.meta["watch"], stored.tensors)
        state = cls(tensors["theta"], tensors["velocity"], monitor)
        state.step, state.steps = stored.meta["step"], list(stored.meta["steps"])
        state.speeds = list(tensors.get("speeds", ()))
        measured = {k.removeprefix("measured "): v for k, v in tensors.items() if " " in k}
        state.rows = [{k: v[i] for k, v in measured.items()} for i in range(len(state.steps))]
        return state
