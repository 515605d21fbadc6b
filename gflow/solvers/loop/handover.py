"""Hand members over to another method, by the rules of switching.py and rival.py."""

from __future__ import annotations

import numpy as np

from gflow.solvers.elementwise import NO_ROWS, Values, any_true, select, select_rows
from gflow.solvers.loop import rival, switching
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.spectrum_monitor import SpectrumMonitor
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.switching import EXPLICIT, RIVAL, SECOND
from gflow.solvers.loop.system import StepMeasurement


class Handover:
    """Moves members to the method that has become cheaper for them."""

    def __init__(self, state: LoopState, spectrum: SpectrumMonitor):
        self._state = state
        self._spectrum = spectrum

    def after_step(
        self, plan: StepPlan, measured: StepMeasurement, accepted: Values, spent: Values
    ) -> None:
        """Move members after a step.

        Parameters
        ----------
        plan : StepPlan
        measured : StepMeasurement
        accepted : ndarray or scalar of bool
        spent : ndarray or scalar of int
            Evaluations since the last accepted step.
        """
        state, m, past = self._state, self._state.members, self._state.past
        if state.methods.starter:
            moved = self._from_starter(plan, accepted)
        elif plan.method == EXPLICIT:
            moved = self._from_explicit(plan, measured)
        elif any_true(accepted):
            moved = self._from_second(plan, measured, accepted, spent)
        else:
            return
        if not len(moved):
            return
        if past is not None and m.method[0] == SECOND:
            past.restart()
        if state.system.lone:
            state.switches.append(f"{state.methods[m.method[0]].name} from t = {m.t[0]:.3g}")

    def _from_starter(self, plan: StepPlan, accepted: Values) -> np.ndarray:
        past = self._state.past
        if plan.method != EXPLICIT or past is None or not past.can_start:
            return NO_ROWS
        return switching.move(self._state.members, select_rows(plan.rows, accepted), SECOND)

    def _from_explicit(self, plan: StepPlan, measured: StepMeasurement) -> np.ndarray:
        state, m, explicit = self._state, self._state.members, self._state.methods[EXPLICIT]
        end = state.record.ends[m.index[plan.rows]]
        stiff = switching.vote(explicit, m, plan.rows, measured.signal, end)
        if not len(stiff) or (state.past is not None and not state.past.can_start):
            return NO_ROWS
        self._spectrum.estimate_unless_fresh(stiff)
        return switching.confirm(explicit, m, stiff)

    def _from_second(
        self, plan: StepPlan, measured: StepMeasurement, accepted: Values, spent: Values
    ) -> np.ndarray:
        """From the second method to its rival or back, or from either to the explicit one."""
        state, m, problem = self._state, self._state.members, self._state.problem
        values = select(accepted, plan.rows, plan.step, spent, measured.signal, measured.size)
        rows, step, spent, signal, size = (np.atleast_1d(v) for v in values)
        if plan.method == RIVAL:
            moved = rival.from_rival(m, rows, spent)
        else:
            bound = problem.atol + problem.rtol * size
            error = state.methods.error_factor[RIVAL] * signal / bound
            cheaper = rival.rival_is_cheaper(m, rows, spent, step, error)
            doubted = rival.doubt(m, rows, cheaper)
            self._spectrum.estimate_unless_fresh(rows[doubted])
            m.signs[rows[doubted]] = 0
            sure = doubted & rival.rival_is_cheaper(m, rows, spent, step, error)
            moved = rival.to_rival(m, rows[sure])
        if state.past is None or state.past.steps >= state.past.patience:
            back = switching.hand_back(state.methods[EXPLICIT], m, rows)
            moved = np.union1d(moved, back)
        return moved
