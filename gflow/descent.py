"""Discrete gradient descent on the parameters: explicit Euler for the parameter flow.

θ_{k+1} = θ_k − ηg_k at time t = kη. With heavy-ball momentum β,
v_{k+1} = βv_k − ηg_k, θ_{k+1} = θ_k + v_{k+1}, the flow it follows runs 1/(1 − β) times
faster: t = kη/(1 − β). `gflow.flows.momentum` and `gflow.flows.modified` say how closely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.checks import require_fraction, require_positive
from gflow.errors import InputError
from gflow.execution import current
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Flow
from gflow.flows.momentum import time_unit
from gflow.linalg.arrays import to_numpy

_CHECK_EVERY = 50  # steps between looks at the device for a divergence
_EXPLODED = 1e6  # growth of the loss that counts as divergence: a catapult comes back
_FLOOR = 1e-9  # of what the growth is measured against, for a start at a minimum


@dataclass(frozen=True, repr=False)
class Descent:
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
    step_size, momentum : float
    diverged_at : int or None
        The step from which the gradient grew without bound; saved steps end where the
        numbers do.
    """

    ts: Tensor
    steps: Tensor
    parameters: Tensor
    ys: Tensor
    flow: Flow
    step_size: float
    momentum: float
    diverged_at: int | None

    @property
    def losses(self) -> Tensor:
        """φ at every saved step, shape (S, ...)."""
        return self.flow.loss(self.ys)

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
    progress: Progress | None = None,
) -> Descent:
    """Full-batch gradient descent from the start that a flow starts from.

    A reduced flow (`EndToEndFlow`, `ProductFlow`) lifts its start to parameters, descent
    acts on those, and what is saved is projected back.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
        A state of ``flow``, or an ensemble.
    step_size : float
        η > 0; t = k·step_size, or k·step_size/(1 − momentum).
    steps : int
        Number of steps, at least 0.
    save_every : int
        Save every so many steps; the last is always saved.
    momentum : float
        Heavy-ball β in [0, 1).
    progress : callable, optional
        ``progress(t, loss)`` now and then.

    Returns
    -------
    Descent
        Divergence is reported in it, not raised.

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
    require_positive("step_size", step_size)
    require_fraction("momentum", momentum)
    if steps < 0 or steps != int(steps) or save_every < 1 or save_every != int(save_every):
        raise InputError(
            f"steps must be a whole number ≥ 0 and save_every one ≥ 1, got {steps} and {save_every}"
        )
    chosen = {*range(0, int(steps) + 1, int(save_every)), int(steps)}
    return descend_to(flow, y0, step_size, sorted(chosen), momentum=momentum, progress=progress)


def descend_to(
    flow: Flow,
    y0: Tensor,
    step_size: float,
    saved_steps: list[int],
    *,
    momentum: float = 0.0,
    progress: Progress | None = None,
) -> Descent:
    """`descend` with the step counts to save given one by one (ascending)."""
    flow.check_state(y0)
    flow = flow.for_start(y0)
    with torch.no_grad():
        start = flow.lift(y0.detach())
        request = DescentRequest(flow.parameter_flow, start, step_size, saved_steps, momentum)
        record = current().request(request) or serve_descent(request, progress)
        diverged = [k for k in record.diverged_at if k is not None]
        whole = record.values["parameters"]
        good = torch.isfinite(whole).flatten(1).all(1).cpu()
        parameters = whole[good.to(whole.device)]
        count = torch.tensor(record.steps)[good]
        return Descent(
            ts=count.double() * time_unit(step_size, momentum),
            steps=count,
            parameters=parameters,
            ys=flow.project(parameters),
            flow=flow,
            step_size=step_size,
            momentum=momentum,
            diverged_at=min(diverged, default=None),
        )


class DescentRequest(NamedTuple):
    """A descent to compute; `gflow.sweeping.ensembles` may serve several as one ensemble."""

    flow: Flow
    start: Tensor
    step_size: float
    saved_steps: list[int]
    momentum: float

    @property
    def batch(self) -> torch.Size:
        """The shape of the ensemble that it starts from."""
        return self.flow.batch_shape(self.start)


def serve_descent(request: DescentRequest, progress: Progress | None = None) -> DescentRecord:
    """Compute a requested descent; its states are recorded as ``parameters``."""
    return descend_measured(
        *request[:4],
        lambda k, theta: {"parameters": theta.clone()},
        momentum=request.momentum,
        progress=progress,
    )


@dataclass(frozen=True)
class DescentRecord:
    """What was measured along a descent.

    Attributes
    ----------
    steps : list of int
        The step counts, S of them.
    values : mapping of str to Tensor, shapes (S, ...)
    diverged_at : list of (int or None)
        For each member the step from which its gradient grew without bound; what was
        measured of it from there on may be infinite or NaN.
    """

    steps: list[int]
    values: Mapping[str, Tensor]
    diverged_at: list[int | None]


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
    """Descent that keeps no states: where an ensemble's would not fit into memory.

    Parameters
    ----------
    flow : Flow
        A parameter flow.
    theta : Tensor, shape (..., *state)
        The start; it is not changed.
    step_size, saved_steps, momentum, progress
        As for `descend_to`.
    measure : callable
        ``measure(k, parameters)`` at the saved steps: tensors by name, always the same names
        and shapes. The parameters are overwritten afterwards.

    Returns
    -------
    Measured
    """
    unit, wanted, last = time_unit(step_size, momentum), set(saved_steps), saved_steps[-1]
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
                raise InputError(f"a descent resumes from step 0 to {last}, got {state.step}")
        else:
            state = _DescentState(
                theta.clone(), torch.zeros_like(theta), _DivergenceMonitor(flow.loss(theta))
            )
            if 0 in wanted:
                state.record(0, measure(0, state.theta))
        for k in range(state.step, last):
            rate = flow(k * unit, state.theta)
            state.speeds.append(flow.norm(rate))
            change = step_size * rate
            state.velocity = change if momentum == 0 else momentum * state.velocity + change
            state.theta += state.velocity
            state.step = k + 1
            if k + 1 in wanted:
                state.record(k + 1, measure(k + 1, state.theta))
            if (k + 1) % _CHECK_EVERY == 0 or k + 1 == last:
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
    """A descent between two steps."""

    def __init__(self, theta: Tensor, velocity: Tensor, monitor: _DivergenceMonitor):
        self.step = 0
        self.theta = theta
        self.velocity = velocity
        self.speeds: list[Tensor] = []  # of the steps that the watch has not seen
        self.monitor = monitor
        self.steps: list[int] = []
        self.rows: list[Mapping[str, Tensor]] = []

    def record(self, k: int, found: Mapping[str, Tensor]) -> None:
        """Keep what was measured at step k."""
        self.steps.append(k)
        self.rows.append(found)

    def result(self) -> DescentRecord:
        """What was measured so far."""
        names = self.rows[0] if self.rows else ()
        values = {name: torch.stack([row[name] for row in self.rows]) for name in names}
        return DescentRecord(self.steps, values, self.monitor.diverged_at)

    def checkpoint(self) -> Checkpoint:
        """All of it."""
        found = {f"measured {name}": value for name, value in self.result().values.items()}
        now = {"theta": self.theta.clone(), "velocity": self.velocity, **self.monitor.tensors()}
        if self.speeds:
            now["speeds"] = torch.stack(self.speeds)
        counts = {"step": self.step, "steps": list(self.steps), "watch": self.monitor.meta()}
        return Checkpoint({**now, **found}, counts)

    @classmethod
    def from_checkpoint(cls, found: Checkpoint, like: Tensor) -> _DescentState:
        """The inverse of `checkpoint`, on the device of like."""
        now = {name: value.to(like.device) for name, value in found.tensors.items()}
        monitor = _DivergenceMonitor.from_checkpoint(found.meta["watch"], found.tensors)
        state = cls(now["theta"], now["velocity"], monitor)
        state.step, state.steps = found.meta["step"], list(found.meta["steps"])
        state.speeds = list(now.get("speeds", ()))
        result = {k.removeprefix("measured "): v for k, v in now.items() if " " in k}
        state.rows = [{k: v[i] for k, v in result.items()} for i in range(len(state.steps))]
        return state


class _DivergenceMonitor:
    """Whether a member's loss has exploded, and from which step on its speed only grew."""

    def __init__(self, first_loss: Tensor):
        first = first_loss.reshape(-1)
        self._limit = first + _EXPLODED * first.abs().clamp_min(_FLOOR)
        self._count = 0
        self._least = np.full(len(first), np.inf)
        self._least_step = np.zeros(len(first), np.int64)
        self.diverged_at: list[int | None] = [None] * len(first)

    def tensors(self) -> dict[str, Tensor]:
        """Its arrays, copied."""
        arrays = {"limit": self._limit, "least": self._least, "least_step": self._least_step}
        return {name: torch.as_tensor(value).clone() for name, value in arrays.items()}

    def meta(self) -> dict[str, Any]:
        """Its counts."""
        return {"count": self._count, "diverged_at": list(self.diverged_at)}

    @classmethod
    def from_checkpoint(
        cls, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> _DivergenceMonitor:
        """The inverse of `tensors` and `meta`."""
        monitor = cls(tensors["limit"])
        monitor._limit = tensors["limit"]
        monitor._least, monitor._least_step = (
            tensors[name].numpy().copy() for name in ("least", "least_step")
        )
        monitor._count, monitor.diverged_at = meta["count"], list(meta["diverged_at"])
        return monitor

    def update(self, speeds: Tensor, loss: Tensor) -> None:
        """Take in the next steps' speeds (steps, ...) and the loss after them."""
        exploded = ~(loss.reshape(-1) <= self._limit)
        rows = torch.cat([speeds.reshape(len(speeds), -1), exploded[None].to(speeds)])
        *found, over = to_numpy(rows)
        for row in found:
            lower = row < self._least
            self._least = np.where(lower, row, self._least)
            self._least_step = np.where(lower, self._count, self._least_step)
            self._count += 1
        for i in np.flatnonzero(over):
            if self.diverged_at[i] is None:
                self.diverged_at[i] = int(self._least_step[i])
