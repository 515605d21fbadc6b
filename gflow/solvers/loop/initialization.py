"""The start of a solve: the first evaluation, and the first step length of every member."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.linalg import vector_norm

from gflow.linalg.arrays import to_numpy
from gflow.solvers.loop import control
from gflow.solvers.loop.member_removal import MemberRemoval
from gflow.solvers.loop.spectrum_monitor import SpectrumMonitor
from gflow.solvers.loop.state import LoopState
from gflow.solvers.problem import NOT_FINITE


class Initializer:
    """Evaluates the members of a new solve at their start."""

    def __init__(self, state: LoopState, spectrum: SpectrumMonitor, removal: MemberRemoval):
        self._state = state
        self._spectrum = spectrum
        self._removal = removal

    def evaluate(self) -> None:
        """Measure every member, and drop those that end at once."""
        state, problem, system, m = (
            self._state,
            self._state.problem,
            self._state.system,
            self._state.members,
        )
        everyone = np.arange(len(m))
        system.select(m.index)
        rates: list[Any] = []
        m.f = system.rhs(system.scalars(m.t), m.y, rates)
        if problem.dense:
            m.older_f = m.oldest_f = m.f
        m.loss[:] = to_numpy(problem.first_loss.reshape(-1))
        sizes = system.scale(m.y), vector_norm(m.f, dim=1), rates[0].reshape(-1)
        m.size[:], speed, m.rate[:] = to_numpy(torch.stack(sizes))
        if problem.event is not None:
            m.event[:] = to_numpy(system.event_value(problem.event, m.y))
        if state.past is not None:
            state.past.add(problem.ts[0], system.native(m.y[0]), 0.0)
        m.h[:] = self._first_step(speed)
        state.count_evals(everyone, system.calls)
        self._spectrum.measure_sharpness()
        if state.methods[0].stabilised:
            self._spectrum.estimate_unless_fresh(everyone)
        ended, bad = m.event <= 0, ~np.isfinite(speed + m.loss)
        state.record.event_times.update({int(i): problem.ts[0] for i in m.index[ended & ~bad]})
        self._removal.fail(bad, NOT_FINITE)
        self._removal.drop(ended[~bad])

    def _first_step(self, speed: np.ndarray) -> np.ndarray:
        """Estimate how fast the velocity turns along itself, by one evaluation."""
        state, system, m = self._state, self._state.system, self._state.members
        span = state.record.ends - m.t
        nudge = np.minimum(1e-4 * m.size / speed, 1e-3 * span)
        nudge = np.where((m.size > 0) & (speed > 0), nudge, 1e-6 * span)
        moved = m.y + torch.as_tensor(nudge).to(m.y)[:, None] * m.f
        turn = system.velocity(system.scalars(m.t + nudge), moved) - m.f
        change = to_numpy(vector_norm(turn, dim=1))
        rate = np.where(speed > 0, change / (nudge * speed), 0.0)
        bound = state.problem.atol + state.problem.rtol * m.size
        order = state.methods[0].error_order
        return control.first(bound, speed, rate, state.problem.rtol, span, order)
