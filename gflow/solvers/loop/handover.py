"""Hand members over to another method, by the rules of switching.py and rkc2_switch.py."""

from __future__ import annotations

import numpy as np

from gflow.solvers.elementwise import NO_ROWS, Values, any_true, select, select_rows
from gflow.solvers.loop import rkc2_switch, switching
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.spectrum_monitor import SpectrumMonitor
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.switching import EXPLICIT, HIGH_ORDER, RKC2_METHOD
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
            moved = self._from_stiff_method(plan, measured, accepted, spent)
        else:
            return
        if not len(moved):
            return
        if past is not None and m.method[0] == HIGH_ORDER:
            past.restart()
        if state.system.single:
            t = state.problem.flow_time(float(m.t[0]))
            state.switches.append(f"{state.methods[m.method[0]].name} from t = {t:.3g}")

    def _from_starter(self, plan: StepPlan, accepted: Values) -> np.ndarray:
        past = self._state.past
        if plan.method != EXPLICIT or past is None or not past.can_start:
            return NO_ROWS
        return switching.move(self._state.members, select_rows(plan.rows, accepted), HIGH_ORDER)

    def _from_explicit(self, plan: StepPlan, measured: StepMeasurement) -> np.ndarray:
        state, m, explicit = self._state, self._state.members, self._state.methods[EXPLICIT]
        end = state.record.ends[m.index[plan.rows]]
        stiff = switching.vote(explicit, m, plan.rows, measured.signal, end)
        if not len(stiff) or (state.past is not None and not state.past.can_start):
            return NO_ROWS
        self._spectrum.estimate_unless_fresh(stiff)
        return switching.confirm(explicit, m, stiff)

    def _from_stiff_method(
        self, plan: StepPlan, measured: StepMeasurement, accepted: Values, spent: Values
    ) -> np.ndarray:
        """From the high-order method to rkc2 or back, or from either to the explicit one."""
        state, m, problem = self._state, self._state.members, self._state.problem
        values = select(accepted, plan.rows, plan.step, spent, measured.signal, measured.size)
        rows, step, spent, signal, size = values
        if plan.method == RKC2_METHOD:
            moved = rkc2_switch.switch_from_rkc2(m, rows, spent)
        else:
            bound = problem.atol + problem.rtol * size
            error = state.methods.error_factor[RKC2_METHOD] * signal / bound
            cheaper = rkc2_switch.rkc2_is_cheaper(m, rows, spent, step, error, problem.rtol)
            # While its steps still grow, as after a start, they are no measure of the method.
            settled = ~(m.h[rows] > switching.GROWING * step)
            candidates = rkc2_switch.count_votes(m, rows, cheaper & settled)
            moved = NO_ROWS
            if any_true(candidates):
                chosen = select_rows(rows, candidates)
                self._spectrum.estimate_unless_fresh(chosen)
                m.votes[chosen] = 0
                sure = candidates & rkc2_switch.rkc2_is_cheaper(
                    m, rows, spent, step, error, problem.rtol
                )
                moved = rkc2_switch.switch_to_rkc2(m, select_rows(rows, sure))
        if state.past is None or state.past.steps >= state.past.patience:
            back = switching.hand_back(state.methods[EXPLICIT], m, rows)
            moved = np.union1d(moved, back) if len(back) else moved
        return moved
