"""One solve: what is requested, the counters, and the saved states."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.events import Event
from gflow.execution.checkpointing import Checkpoint, Piece
from gflow.flows.base import Flow
from gflow.flows.sharpness import SharpnessPath

Number = TypeVar("Number", float, np.ndarray, Tensor)


#: save(checkpoint), called between two steps
Save = Callable[[Checkpoint], None]


NOT_FINITE = "the right-hand side returned NaN or infinity"


EXPLODED = "the loss became NaN or infinite; the flow explodes or its start is bad"


UNDERFLOW = (
    "the step size underflowed: the tolerance cannot be met, because the right-hand "
    "side is discontinuous or grows without bound; loosen rtol or choose another method"
)


RISES = (
    "the loss rises along every step, however short: the right-hand side is not the "
    "gradient flow of its loss, or is too noisy for the tolerance; correct it or loosen rtol"
)


STIFF = "it has become stiff, and is solved faster on its own"


def out_of_budget(max_evals: int) -> str:
    """The reason of a solve that used up its evaluations."""
    return (
        f"the budget of {max_evals} evaluations ran out; loosen rtol, shorten the "
        "time or raise max_evals"
    )


def energy_bound(rtol: float, loss: Number, bound: Number) -> Number:
    """What an error of the energy integral is held to, where states are held to bound."""
    return rtol / 3 * loss + bound * bound


class Stop(Exception):
    """A solve cannot go on; the message is the reason in one line."""


def velocity_of(flow: Flow, t: Tensor | float, y: Tensor) -> Tensor:
    """flow(t, y); NaN where a trial state overflowed so that a decomposition gave up."""
    try:
        return flow(t, y)
    except torch.linalg.LinAlgError:
        batch = y.ndim - flow.state_ndim
        if batch == 0 or len(y) == 1:
            return torch.full_like(y, torch.nan)
        # One bad member must not spoil the others.
        return torch.stack([velocity_of(flow, t, member) for member in y])


class Problem:
    """One solve: what is asked for, the counters, and the saved states."""

    def __init__(
        self,
        flow: Flow,
        y0: Tensor,
        ts: list[float],
        *,
        rtol: float,
        atol: float,
        step_size: float | None = None,
        max_evals: int = 1_000_000,
        own_ts: list[list[float]] | None = None,
        leave_stiff: bool = False,
        dense: bool = False,
        event: Event | None = None,
        sharpness: int = 0,
        progress: Progress | None = None,
        resume: Checkpoint | None = None,
        checkpoint: Save | None = None,
        checkpoint_every: float = 60.0,
    ):
        self.flow = flow
        self.y0 = y0
        self.ts = ts
        #: Times of each member's own from ts[0] on, where an ensemble's have not the same.
        self.own_ts = own_ts
        #: Whether members of an ensemble fail where `auto` would hand them over as stiff.
        self.leave_stiff = leave_stiff
        self.rtol = rtol
        self.atol = atol
        self.step_size = step_size
        self.max_evals = max_evals
        self.dense = dense
        self.event = event
        self.progress = progress
        self.resume = resume
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.size = y0.numel()
        self.batch = flow.batch_shape(y0)
        loss = flow.loss(y0)
        self.rhs_evals = 0
        self.accepted = 0
        self.rejected: int | None = 0
        self.t = ts[0]
        self.y = y0
        self.saved = [y0]
        self.dissipated: Tensor | None = torch.zeros_like(loss)
        self.y_norm = flow.norm(y0)
        self.first_loss = loss
        self.largest_rise = torch.zeros_like(loss)
        #: Why members of an ensemble stopped early, by their index in y0.reshape(-1, *state).
        self.failures: dict[int, str] = {}
        #: What was spent on each member: evaluations, good and bad steps, (3, members).
        self.spent: np.ndarray | None = None
        #: The members that an event stopped, and when.
        self.event_times: dict[int, float] = {}
        #: Where a solve that stopped early can be resumed, given a larger budget.
        self.last_checkpoint: Checkpoint | None = None
        #: What the solver has to say of how it went, for ``stats.reason``.
        self.remark = ""
        #: The sharpness at the requested times so far; `integrate` adds those that are missing.
        self.sharpness = SharpnessPath(flow, sharpness) if sharpness else None
        #: The piece of a run that the solve is, where a run keeps its work.
        self.piece = Piece()
        self.began = time.perf_counter()
        self.ended: float | None = None
        self._loss = loss
        self._healthy = torch.ones((), dtype=torch.bool, device=y0.device)

    # -- for solvers --------------------------------------------------------------

    @functools.cached_property
    def closed_form(self) -> str | None:
        """The name of the flow's closed form from this start, found once (it can take an SVD)."""
        return self.flow.closed_form(self.y0)

    @property
    def z0(self) -> Tensor:
        """The start as one vector, with no energy dissipated."""
        energy = torch.zeros(self.batch.numel(), dtype=self.y0.dtype, device=self.y0.device)
        return torch.cat([self.y0.reshape(-1), energy])

    def rhs(self, t: Tensor | float, z: Tensor) -> Tensor:
        """dz/dt; counts, and remembers without a host synchronisation whether all is finite."""
        if self.rhs_evals >= self.max_evals:
            raise Stop(out_of_budget(self.max_evals))
        self.rhs_evals += 1
        y = z[: self.size].view(self.y0.shape)
        velocity = velocity_of(self.flow, t, y)
        rate = self.flow.dissipation(y, velocity)
        self._healthy = self._healthy & torch.isfinite(rate).all()
        return torch.cat([velocity.reshape(-1), rate.reshape(-1)])

    @property
    def energy_tolerance(self) -> Tensor:
        """What an error of the energy integral is held to in one step, for each member.

        A third of rtol of the loss, and not below round-off where that is zero. Left to
        follow, the integral is wrong by 6 % where dopri5 at rtol 1e-3 has states right to
        0.2 %; held so, it costs up to 10 % more evaluations.
        """
        loss = torch.maximum(self.first_loss.abs(), self._loss.abs())
        return energy_bound(self.rtol, loss, self.atol + self.rtol * self.y_norm)

    @property
    def resolution(self) -> Tensor:
        """(atol + rtol‖y‖)², the energy of an error of the size allowed, for each member."""
        return (self.atol + self.rtol * self.y_norm).square()

    def error_norm(self, e: Tensor) -> Tensor:
        """max over members of ‖e‖₂/(atol + rtol‖y‖₂), y the last accepted state, and of
        the energy integral's error against its own tolerance."""
        size = self.flow.norm(e[: self.size].view(self.y0.shape))
        bound = self.atol + self.rtol * self.y_norm
        energy = e[self.size :].abs().view(self.batch) / self.energy_tolerance
        return torch.maximum(size / bound, energy).max()

    def accept(self, t: float, z: Tensor) -> None:
        """Take note of the state at the end of an accepted step."""
        y = z[: self.size].view(self.y0.shape).clone()
        self.accept_state(t, y, z[self.size :].reshape(self.batch).clone())

    def accept_state(self, t: float, y: Tensor, dissipated: Tensor | None) -> None:
        """As `accept`, for solvers that do not carry the energy integral."""
        loss = self.flow.loss(y)
        self.require_finite(loss)
        self.largest_rise = torch.maximum(self.largest_rise, loss - self._loss)
        self.accepted += 1
        self.t, self.y, self._loss, self.dissipated = t, y, loss, dissipated
        self.y_norm = self.flow.norm(y)
        if len(self.saved) < len(self.ts) and t == self.ts[len(self.saved)]:
            self.saved.append(y)
        if self.progress is not None:
            self.progress(t, float(loss.mean()))

    def require_finite(self, value: Tensor) -> None:
        """Stop unless all of a tensor is finite."""
        if not bool(torch.isfinite(value).all()):
            raise Stop(EXPLODED)

    def reject(self) -> None:
        """Take note of a rejected step."""
        self.rejected = (self.rejected or 0) + 1

    def why_stuck(self) -> str:
        """The reason that fits a step size that underflowed."""
        return UNDERFLOW if bool(self._healthy) else NOT_FINITE

    @property
    def next_time(self) -> float:
        """The first requested time not yet reached; infinity after the last."""
        return self.ts[len(self.saved)] if len(self.saved) < len(self.ts) else float("inf")

    @property
    def wall_seconds(self) -> float:
        """Seconds that the solve took so far, in this process and before it was resumed."""
        return (time.perf_counter() if self.ended is None else self.ended) - self.began
