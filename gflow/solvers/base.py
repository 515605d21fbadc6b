"""The contract of a solver, and what every solve shares: counting, watching, saving.

For authors of solvers. A file in this folder holds one subclass of `Solver`; its
``names`` are what users pass as ``method``. `solve` integrates the problem by calling

1. ``problem.rhs(t, z)`` for the right-hand side, where z is one vector: the state,
   then the energy dissipated so far (an integral carried along, one entry a member);
2. ``problem.accept(t, z)`` after each accepted step, in order of time, landing on every
   time in ``problem.ts`` exactly (to the bit);
3. ``problem.reject()`` after each rejected one.

Errors are measured by ``problem.error_norm(e)``: ‖e‖₂ ≤ atol + rtol‖y‖₂, the largest
over members. It does not depend on the basis, so an error in a single sharp direction
cannot hide among thousands of parameters as it does in a root-mean-square norm.

`problem` stops a solve by raising `Stop`: a solver lets it pass.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from gflow.flows.base import Flow

#: progress(t, loss), called after accepted steps
Progress = Callable[[float, float], None]


class Stop(Exception):
    """A solve cannot go on; the message is the reason in one line."""


class Solver(abc.ABC):
    """One family of methods."""

    #: What users pass as ``method``.
    names: ClassVar[tuple[str, ...]]
    #: Whether it takes steps of a size given by the caller.
    fixed_step: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def solve(self, problem: Problem, method: str) -> None:
        """Integrate from ``problem.ts[0]`` to ``problem.ts[-1]``."""


class Problem:
    """One solve: the augmented right-hand side, its counters, and the saved states."""

    def __init__(
        self,
        flow: Flow,
        y0: Tensor,
        ts: list[float],
        *,
        rtol: float,
        atol: float,
        step_size: float | None,
        max_evals: int,
        progress: Progress | None,
    ):
        self.flow = flow
        self.y0 = y0
        self.ts = ts
        self.rtol = rtol
        self.atol = atol
        self.step_size = step_size
        self._max_evals = max_evals
        self._progress = progress
        self._size = y0.numel()
        self._batch = flow.batch_shape(y0)
        loss = flow.loss(y0)
        self.rhs_evals = 0
        self.accepted = 0
        self.rejected: int | None = 0
        self.t = ts[0]
        self.y = y0
        self.saved = [y0]
        self.dissipated: Tensor | None = torch.zeros_like(loss)
        self._y_norm = flow.norm(y0)
        self._first_loss = loss
        self.largest_rise = torch.zeros_like(loss)
        self._loss = loss
        self._healthy = torch.ones((), dtype=torch.bool, device=y0.device)
        self._began = time.perf_counter()

    # -- for solvers --------------------------------------------------------------

    @property
    def z0(self) -> Tensor:
        """The start as one vector, with no energy dissipated."""
        energy = torch.zeros(self._batch.numel(), dtype=self.y0.dtype, device=self.y0.device)
        return torch.cat([self.y0.reshape(-1), energy])

    def rhs(self, t: Tensor | float, z: Tensor) -> Tensor:
        """dz/dt; counts, and remembers without a host synchronisation whether all is finite."""
        if self.rhs_evals >= self._max_evals:
            raise Stop(
                f"the budget of {self._max_evals} evaluations ran out; loosen rtol, shorten the "
                "time or raise max_evals"
            )
        self.rhs_evals += 1
        y = z[: self._size].view(self.y0.shape)
        try:
            velocity = self.flow(t, y)
        except torch.linalg.LinAlgError:  # an SVD of a trial state that overflowed
            velocity = torch.full_like(y, torch.nan)
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
        loss = torch.maximum(self._first_loss.abs(), self._loss.abs())
        return self.rtol / 3 * loss + self.resolution

    @property
    def resolution(self) -> Tensor:
        """(atol + rtol‖y‖)², the energy of an error of the size allowed, for each member."""
        return (self.atol + self.rtol * self._y_norm).square()

    def error_norm(self, e: Tensor) -> Tensor:
        """max over members of ‖e‖₂/(atol + rtol‖y‖₂), y the last accepted state, and of
        the energy integral's error against its own tolerance."""
        size = self.flow.norm(e[: self._size].view(self.y0.shape))
        bound = self.atol + self.rtol * self._y_norm
        energy = e[self._size :].abs().view(self._batch) / self.energy_tolerance
        return torch.maximum(size / bound, energy).max()

    def accept(self, t: float, z: Tensor) -> None:
        """Take note of the state at the end of an accepted step."""
        y = z[: self._size].view(self.y0.shape).clone()
        self.accept_state(t, y, z[self._size :].reshape(self._batch).clone())

    def accept_state(self, t: float, y: Tensor, dissipated: Tensor | None) -> None:
        """As `accept`, for solvers that do not carry the energy integral."""
        loss = self.flow.loss(y)
        self.require_finite(loss)
        self.largest_rise = torch.maximum(self.largest_rise, loss - self._loss)
        self.accepted += 1
        self.t, self.y, self._loss, self.dissipated = t, y, loss, dissipated
        self._y_norm = self.flow.norm(y)
        if len(self.saved) < len(self.ts) and t == self.ts[len(self.saved)]:
            self.saved.append(y)
        if self._progress is not None:
            self._progress(t, float(loss.mean()))

    def rises(self, z: Tensor) -> bool:
        """Whether the loss at the end of a step exceeds the last accepted one by more than
        the tolerance allows, or is not finite: no step of a gradient flow may end so."""
        loss = self.flow.loss(z[: self._size].view(self.y0.shape))
        slack = 0.1 * self.rtol * self._first_loss.abs() + self.resolution
        return not bool((loss - self._loss <= slack).all())

    def require_finite(self, value: Tensor) -> None:
        """Stop unless all of a tensor is finite."""
        if not bool(torch.isfinite(value).all()):
            raise Stop("the loss became NaN or infinite; the flow explodes or its start is bad")

    def reject(self) -> None:
        """Take note of a rejected step."""
        self.rejected = (self.rejected or 0) + 1

    def why_stuck(self) -> str:
        """The reason that fits a step size that underflowed."""
        if not bool(self._healthy):
            return "the right-hand side returned NaN or infinity"
        return (
            "the step size underflowed: the tolerance cannot be met, because the right-hand "
            "side is discontinuous or grows without bound; loosen rtol or choose another method"
        )

    @property
    def next_time(self) -> float:
        """The first requested time not yet reached; infinity after the last."""
        return self.ts[len(self.saved)] if len(self.saved) < len(self.ts) else float("inf")

    @property
    def wall_seconds(self) -> float:
        """Seconds since the problem was made."""
        return time.perf_counter() - self._began
