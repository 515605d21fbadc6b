"""The stepping loop of gflow's own methods.

Every member of an ensemble has its own time, step size, stages and method; members that have
ended leave the loop. The parts of the loop act in turn on one state (state.py):

===================  ==============================================================
initialization.py    the first evaluation and the first step length
spectrum_monitor.py  estimates the spectral radius when it is too old
growth_monitor.py    estimates how fast a mode grows; no step is too long for it
proposal.py          proposes a step for each member, and groups members
trial.py             computes the step of a group
dense_output.py      saves the states at requested times within it
acceptance.py        accepts or rejects it (control.py), sets the next step length
handover.py          hands members over to another method (switching.py, rkc2_switch.py)
member_removal.py    drops members that have ended or failed
rest.py              ends members that are at rest
kinks.py             stops members that make hardly any way at kinks of the loss
rank_watch.py        ends the solve where it goes on in other coordinates (carried.py)
===================  ==============================================================

The measurements of a step are copied to the host at once. A rejected step is repeated with a
shorter length; where that underflows the member fails, and the others continue. Time is counted
from the start of the solve.
"""

from __future__ import annotations

import contextlib
import copy
import time

import numpy as np

from gflow.solvers.base import Method, Solver
from gflow.solvers.bdf import BDF
from gflow.solvers.elementwise import all_true, any_true
from gflow.solvers.loop.acceptance import StepJudge
from gflow.solvers.loop.carried import carry_on
from gflow.solvers.loop.dense_output import DenseOutput
from gflow.solvers.loop.growth_monitor import GrowthMonitor
from gflow.solvers.loop.handover import Handover
from gflow.solvers.loop.initialization import Initializer
from gflow.solvers.loop.kinks import KinkMonitor
from gflow.solvers.loop.member_removal import MemberRemoval
from gflow.solvers.loop.proposal import StepPlan, StepProposer
from gflow.solvers.loop.rank_watch import RankWatch
from gflow.solvers.loop.rest import RestMonitor
from gflow.solvers.loop.snapshot import restore, snapshot
from gflow.solvers.loop.spectrum_monitor import SpectrumMonitor
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.trial import StepComputer
from gflow.solvers.problem import Problem, Stop, failed, out_of_budget
from gflow.solvers.rock4 import ROCK4


class SteppedSolver(Solver):
    """gflow's own methods: one, or several that hand over to each other.

    Parameters
    ----------
    *methods : Method
        In the order of `gflow.solvers.loop.switching`.
    starter : bool
        Whether the first method only takes the starting steps of the second, a multistep method.
    """

    def __init__(self, *methods: Method, starter: bool = False):
        self.methods = methods
        self.names = (methods[-1].name if starter else "+".join(m.name for m in methods),)
        self._starter = starter

    def for_ensembles(self) -> SteppedSolver | None:
        """Return the same for an ensemble, with rock4 for bdf; None if there is none."""
        if self._starter:
            return None
        return SteppedSolver(*(ROCK4() if isinstance(m, BDF) else m for m in self.methods))

    def solve(self, problem: Problem, method: str) -> None:
        """Integrate a problem; see `Solver.solve`."""
        methods = tuple(copy.copy(method) for method in self.methods)
        # Numbers that are not finite or not measured yet are carried along as inf and NaN.
        with np.errstate(all="ignore"):
            SteppingLoop(LoopState.initial(problem, methods, starter=self._starter)).run()


class SteppingLoop:
    """Advances the state of a solve step by step until every member has ended."""

    def __init__(self, state: LoopState):
        self._state = state
        self._removal = MemberRemoval(state)
        self._spectrum = SpectrumMonitor(state)
        self._growth = GrowthMonitor(state)
        self._proposer = StepProposer(state)
        self._computer = StepComputer(state)
        self._judge = StepJudge(state)
        self._dense_output = DenseOutput(state, self._computer)
        self._handover = Handover(state, self._spectrum)
        self._kinks = KinkMonitor(state, self._removal)
        self._watch = RankWatch(state, self._removal)
        self._rest = RestMonitor(state, self._growth, self._watch)
        self._saved_at = time.perf_counter()

    def run(self) -> None:
        """Integrate to the end of every member, and write the results to the problem."""
        state, problem = self._state, self._state.problem
        if problem.resume is None:
            Initializer(state, self._spectrum, self._removal).evaluate()
            if problem.goes_on_from is not None and len(state.members):
                carry_on(state, problem.goes_on_from)
        else:
            restore(state, problem.resume)
        try:
            while len(state.members):
                self._advance()
                if len(state.members):
                    problem.piece.step(lambda: snapshot(state))
                    self._save_if_due()
        except Exception as error:  # of the flow, the event or a callback
            self._removal.fail(np.ones(len(state.members), bool), failed(error))
            with contextlib.suppress(Stop):
                state.record.write_results()
            raise
        except KeyboardInterrupt:
            problem.last_checkpoint = snapshot(state)
            raise
        problem.remark = "; ".join(state.switches)
        if len(state.methods) > 1 and not state.methods.starter:
            names = [method.name for method in state.methods.methods]
            problem.main_methods = [names[i] for i in state.record.steps.argmax(axis=0)]
        state.record.write_results()

    def _advance(self) -> None:
        """Try one step of every member."""
        state, m, problem = self._state, self._state.members, self._state.problem
        over_budget = self._spectrum.over_budget()
        if over_budget is not None:
            if any_true(over_budget):
                self._removal.fail(over_budget, out_of_budget(problem.max_evals))
                return
            self._spectrum.estimate_due()
        self._growth.estimate_due()
        step, t_new = self._proposer.propose()
        moves = t_new > m.t[state.all_rows]
        if not all_true(moves):
            self._removal.fail(~moves, None)
            return
        any_accepted = False
        for plan in self._proposer.plans(step, t_new):
            if problem.rhs_evals + plan.stages > problem.max_evals:  # perhaps also that of a member
                over_budget = np.zeros(len(m), bool)
                over_budget[plan.rows] = m.evals[plan.rows] + plan.stages > problem.max_evals
                if any_true(over_budget):
                    self._removal.fail(over_budget, out_of_budget(problem.max_evals))
                    return
            any_accepted |= self._try(plan)
        if any_accepted:
            self._growth.follow_speed()
            self._rest.look()
            self._report_progress()
        finished = state.finished()
        if any_true(finished):
            self._growth.finish(finished)
            self._watch.finish()
        self._removal.drop_finished(finished)
        self._kinks.check()
        if any_accepted and problem.guard is not None and len(state.members):
            self._watch.look()

    def _try(self, plan: StepPlan) -> bool:
        """Take a step of some members; return whether any was accepted."""
        m = self._state.members
        trial = self._computer.compute(plan)
        outcome = self._judge.judge(plan, trial.measured)
        self._judge.set_next_steps(plan, outcome)
        spent = m.evals[plan.rows] - m.evals_at_last_accept[plan.rows]
        any_accepted = any_true(outcome.accepted)
        if any_accepted:
            if self._state.problem.dense:
                self._dense_output.save(plan, trial, np.atleast_1d(outcome.accepted))
            self._judge.accept(plan, trial, outcome.accepted)
            self._spectrum.measure_sharpness()
        self._spectrum.mark_due(plan, outcome.rejected)
        if len(self._state.methods) > 1:
            self._handover.after_step(plan, trial.measured, outcome.accepted, spent)
        return any_accepted

    def _report_progress(self) -> None:
        state, m, progress = self._state, self._state.members, self._state.problem.progress
        if progress is not None:
            t, loss = (m.t[0], m.loss[0]) if state.system.single else (m.t.min(), m.loss.mean())
            progress(self._state.problem.flow_time(float(t)), float(loss))

    def _save_if_due(self) -> None:
        """Call ``problem.checkpoint`` if enough time has passed since the last call."""
        problem, now = self._state.problem, time.perf_counter()
        if problem.checkpoint is not None and now - self._saved_at >= problem.checkpoint_every:
            self._saved_at = now
            problem.checkpoint(snapshot(self._state))
