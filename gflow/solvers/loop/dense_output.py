"""States at the requested times within accepted steps, with ``dense=True``.

The steps of dop853 are long for their tolerance. Where its interpolant is not as accurate as the
step, half the step is computed, too: that is one more node, in the middle of it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import norm
from gflow.solvers.elementwise import Rows
from gflow.solvers.loop.interpolation import hermite
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.system import TrialStep
from gflow.solvers.loop.trial import StepComputer

_WIDE = 7  # order of the error estimate from which on dense output takes three steps


@dataclass
class _Nodes:
    """Times with the state and the velocity at each, in order."""

    times: list[float]
    values: list[Tensor]
    slopes: list[Tensor]

    def last(self, count: int) -> _Nodes:
        """Return the last nodes."""
        return _Nodes(self.times[-count:], self.values[-count:], self.slopes[-count:])

    def state(self, t: float) -> Tensor:
        """Return the interpolant at t."""
        return hermite(t, self.times, self.values, self.slopes)

    def error(self) -> float:
        """Estimate the interpolant's error in the middle of the last step.

        The errors of the interpolants of two, three and four nodes are taken to fall by the same
        factor. With fewer nodes than four, return that of the next lower one, or infinity.
        """
        middle = 0.5 * (self.times[-2] + self.times[-1])
        states = [self.last(count).state(middle) for count in range(2, len(self.times) + 1)]
        changes = [norm(b - a) for a, b in itertools.pairwise(states)]
        if len(changes) == 2 and changes[1] < changes[0]:
            return changes[1] ** 2 / changes[0]
        return changes[-1] if changes else np.inf


class DenseOutput:
    """Saves the states at requested times within steps.

    Parameters
    ----------
    state : LoopState
    computer : StepComputer
        Of the steps in the middle of others.
    """

    def __init__(self, state: LoopState, computer: StepComputer):
        self._state, self._computer = state, computer

    def save(self, plan: StepPlan, trial: TrialStep, accepted: np.ndarray) -> None:
        """Save the states within a step of the members that will accept it, and so end there."""
        m, record = self._state.members, self._state.record
        wide = self._state.methods[plan.method].error_order >= _WIDE
        ends = np.atleast_1d(plan.t_new)
        for i in np.flatnonzero(accepted).tolist():
            row, end = int(np.atleast_1d(plan.rows)[i]), float(ends[i])
            index = m.index[row]
            ts = record.ts[index]
            if not ts[m.next[row]] < end:
                continue
            nodes = self._nodes(row, end, trial.y[i], trial.f[i], wide=wide)
            while ts[m.next[row]] < end:
                time = m.next[row]
                record.saved[time, index] = nodes.state(ts[time])
                m.next[row] += 1

    def _nodes(self, row: int, end: float, y: Tensor, f: Tensor, *, wide: bool) -> _Nodes:
        m = self._state.members
        times = [float(m.oldest_t[row]), float(m.older_t[row]), float(m.t[row]), end]
        first = max(int(np.isnan(times).sum()), 0 if wide else 1)
        values = [m.oldest_y[row], m.older_y[row], m.y[row], y]
        slopes = [m.oldest_f[row], m.older_f[row], m.f[row], f]
        nodes = _Nodes(times[first:], values[first:], slopes[first:])
        problem = self._state.problem
        tolerance = problem.atol + problem.rtol * float(m.size[row])
        if wide and not nodes.error() <= tolerance:
            self._add_middle(row, nodes)
        return nodes.last(4)

    def _add_middle(self, row: int, nodes: _Nodes) -> None:
        """Compute the first half of the last step again, and add its end to the nodes."""
        state = self._state
        m, t = state.members, nodes.times[-2]
        method, half = int(m.method[row]), 0.5 * (nodes.times[-1] - t)
        if m.evals[row] + state.methods[method].stages(0.0) > state.problem.max_evals:
            return
        rows: Rows = 0 if state.system.single else np.array([row])
        step = np.float64(half) if state.system.single else np.array([half])
        plan = StepPlan(rows, method, step, t + step, 0.0, state.methods[method].stages(0.0))
        middle = self._computer.compute(plan)
        if bool(torch.isfinite(middle.y).all() & torch.isfinite(middle.f).all()):
            nodes.times.insert(-1, t + half)
            nodes.values.insert(-1, middle.y[0])
            nodes.slopes.insert(-1, middle.f[0])
