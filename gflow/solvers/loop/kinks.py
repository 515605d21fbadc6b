"""Says where a solve makes hardly any way because the right-hand side jumps step after step.

Where a gradient flow meets a kink of its loss (a ReLU, |x|, a maximum) that attracts it from both
sides, it slides along the kink, and every step across it has an error of its length times the jump:
steps shrink to the tolerance for as long as the sliding lasts. With a narrow network that is most
of the time. A warning says so, and the solve stops where the rest would take more than a tenth of
its budget.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from torch.linalg import vector_norm

from gflow.solvers.loop.member_removal import MemberRemoval
from gflow.solvers.loop.state import LoopState

_EVERY = 64  # trial steps between two looks
_WINDOWS = 400  # windows in a budget of evaluations
_SHORTEST = 1000  # evaluations in a window
_STRIKES = 3  # slow windows in a row that are reported
_SLOW = 20  # windows to the end at the present pace, from which a window is slow
_SHARE = 0.1  # of the budget: a member that would need more is stopped


class _Mark(NamedTuple):
    """A member at the start of a window."""

    evals: int
    t: float
    moved: float  #: in the window before
    strikes: int


class KinkMonitor:
    """Measures the way that members make in windows of evaluations.

    Parameters
    ----------
    state : LoopState
    removal : MemberRemoval
        Fails the members that are stuck.
    """

    def __init__(self, state: LoopState, removal: MemberRemoval):
        self._state, self._removal = state, removal
        self._window = max(_SHORTEST, state.problem.max_evals // _WINDOWS)
        self._marks: dict[int, _Mark] = {}
        self._trials = 0
        self._reported = False

    def check(self) -> None:
        """Fail the members whose steps end at kinks and would not reach the end in the budget."""
        self._trials += 1
        if self._trials % _EVERY:
            return
        m, problem = self._state.members, self._state.problem
        for row, index in enumerate(m.index.tolist()):
            evals, t = int(m.evals[row]), float(m.t[row])
            mark = self._marks.setdefault(index, _Mark(evals, t, np.inf, 0))
            spent, moved = evals - mark.evals, t - mark.t
            if spent < self._window:
                continue
            left = float(self._state.record.ends[index]) - t
            needed = spent * left / moved if moved > 0 else np.inf
            slow = needed > _SLOW * self._window and moved < 2 * mark.moved
            strikes = mark.strikes + 1 if slow and self._jumps(row) else 0
            self._marks[index] = _Mark(evals, t, moved, strikes)
            if strikes == _STRIKES:
                self._report(t, at_kinks(needed))
            if strikes >= _STRIKES and needed > _SHARE * (problem.max_evals - evals):
                self._removal.fail(np.arange(len(m)) == row, at_kinks(needed))
                return

    def _report(self, t: float, reason: str) -> None:
        if not self._reported:
            self._reported = True
            self._state.switches.append(f"slow from t = {t:.6g}: {reason}")
            warnings.warn(f"the solve is slow at t = {t:.6g}: {reason}", stacklevel=8)

    def _jumps(self, row: int) -> bool:
        """Whether the velocity ahead changes by a jump: not in proportion to the distance."""
        system, m = self._state.system, self._state.members
        system.select(m.index[row : row + 1])
        t, h = system.scalars(m.t[row]), float(m.h[row])
        y, f = m.y[row : row + 1], m.f[row : row + 1]
        changes = [vector_norm(system.velocity(t, y + s * h * f) - f) for s in (8.0, 32.0)]
        self._state.problem.rhs_evals += 2
        return bool((changes[1] < 2 * changes[0]) & (changes[0] > 1e-3 * vector_norm(f)))


def at_kinks(needed: float) -> str:
    """Return the reason of a stop at kinks.

    Examples
    --------
    >>> at_kinks(2e7).split(":")[0]
    'the right-hand side jumps step after step, at kinks of the loss (ReLU, |x|, max)'
    """
    return (
        "the right-hand side jumps step after step, at kinks of the loss (ReLU, |x|, max): at this "
        f"pace the rest takes about {needed:.1g} evaluations; take a smooth activation (GELU, "
        "Softplus) or a wider network, loosen rtol, end earlier, or "
        "raise max_evals to ten times as many to go on"
    )
