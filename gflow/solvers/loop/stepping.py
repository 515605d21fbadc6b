"""The one stepping loop of gflow's own methods.

Every member of an ensemble has its own time, step size, stages and method; members that
are done leave the work. The loop proposes a step for each, lets the stepper compute it
(members of one method and similar stiffness together), brings what is measured of it to
the host in one piece, and decides (control.py: small error, and a loss that does not
rise). A bad step is tried again shorter; where it cannot be shorter the member has
failed, and the others go on. Time is that of the flow.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.errors import InputError
from gflow.solvers.base import Method, Solver, Stepper
from gflow.solvers.bdf import BDF
from gflow.solvers.elementwise import (
    ONE,
    Rows,
    Values,
    choose,
    every,
    larger,
    largest,
    rows_of,
    smaller,
    some,
    those,
)
from gflow.solvers.loop import control, switching
from gflow.solvers.loop import event_location as locating
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.past import Past
from gflow.solvers.loop.record import Record
from gflow.solvers.loop.snapshot import restore, snapshot
from gflow.solvers.loop.spectral_radius import PRODUCTS, first_vectors, with_margin
from gflow.solvers.loop.system import StepMeasurement, System, Tried
from gflow.solvers.problem import NOT_FINITE, STIFF, Problem, Save, out_of_budget
from gflow.solvers.rock4 import ROCK4

_REFRESH = 10  # good steps between two looks at the spectrum
_SELDOM = 50  # the same where a radius so many times larger would need no more stages:
_AMPLE = 5.0


class SteppedSolver(Solver):
    """gflow's own methods: one, or several that hand over to each other.

    ``eager``: the first one only makes the past that the second one, a multistep method,
    begins with.
    """

    def __init__(self, *methods: Method, eager: bool = False):
        self.steppers = methods
        self.names = (methods[-1].name if eager else "+".join(m.name for m in methods),)
        self._eager = eager

    def for_many(self) -> SteppedSolver | None:
        """The same for an ensemble, if there is one: rock4 where bdf takes one start at a time."""
        if self._eager:
            return None
        return SteppedSolver(*(ROCK4() if isinstance(s, BDF) else s for s in self.steppers))

    def solve(self, problem: Problem, method: str) -> None:
        own = tuple(copy.copy(stepper) for stepper in self.steppers)
        # Members that are not finite, or have no past yet, are carried as inf and NaN.
        with np.errstate(all="ignore"):
            Stepping(problem, own, self._eager).run()


class Stepping:
    """A problem on its way, by steppers as `switching` orders them."""

    def __init__(self, problem: Problem, steppers: tuple[Method, ...], eager: bool = False):
        self.problem = problem
        self.past = Past() if any(isinstance(s, BDF) for s in steppers) else None
        self._eager = eager
        self.steppers = steppers
        self.system = System(problem)
        if self.past is not None and not self.system.lone:
            raise InputError(
                f"method 'bdf' integrates one start, got an ensemble of {tuple(problem.batch)}; "
                "choose auto, rock4 or rkc2, or a start at a time"
            )
        self.record = Record(problem)
        self.switches: list[str] = []
        eps = torch.finfo(problem.y0.dtype).eps
        self._round_off = 20 * eps
        self._farthest = [s.reach(s.most_stages(problem.rtol, eps)) for s in steppers]
        self._sharper = [s.sharper(problem.rtol) for s in steppers]
        self._stabilized = np.array([stepper.stabilized for stepper in steppers])
        self._all: Rows = 0 if self.system.lone else slice(None)
        self._first_loss = np.abs(problem.first_loss.reshape(-1).double().cpu().numpy())
        self._saved_at = time.perf_counter()
        flow = problem.flow
        #: Whether the Hessian's largest eigenvalue is the radius that the solver asks for.
        self._shares = (
            problem.sharpness is not None
            and flow.parameter_flow is flow
            and flow.spectral_radius(problem.y0) is None
        )
        y = problem.y0.reshape(-1, self.system.size)
        self.members = Members.start(y, first_vectors(y), problem.ts[0])
        if problem.resume is None:
            self._begin()
        else:
            restore(self, problem.resume)

    def run(self) -> None:
        """To the end of every member; the problem has the results then."""
        while len(self.members):
            self._advance()
            if len(self.members):
                self.problem.piece.step(lambda: snapshot(self))
            if self.problem.checkpoint is not None:
                self._maybe_save(self.problem.checkpoint)
        self.problem.remark = "; ".join(self.switches)
        self.record.hand_in()

    def _spend(self, rows: Rows, calls: int) -> None:
        """Count evaluations of some members."""
        self.problem.rhs_evals += calls * (1 if self.system.lone else len(rows))
        self.members.evals[rows] += calls

    # -- start ----------------------------------------------------------------------

    def _begin(self) -> None:
        m, problem, system = self.members, self.problem, self.system
        everyone = np.arange(len(m))
        system.turn_to(m.index)
        rates: list[Tensor] = []
        m.f = m.older_f = system.rhs(system.numbers(m.t), m.y, rates)
        m.loss[:] = problem.first_loss.reshape(-1).double().cpu().numpy()
        sizes = vector_norm(m.y, dim=1), vector_norm(m.f, dim=1), rates[0].reshape(-1)
        m.size[:], speed, m.rate[:] = torch.stack(sizes).double().cpu().numpy()
        if problem.event is not None:
            values = problem.event(system.states(m.y)).reshape(-1)
            m.event[:] = values.double().cpu().numpy()
        if self.past is not None:
            self.past.add(problem.ts[0], m.y[0], 0.0)
        m.h[:] = self._first_step(speed)
        self._spend(everyone, system.calls)
        self._sharpen()
        if self.steppers[0].stabilized:
            self._look_unless_fresh(everyone)
        over, bad = m.event <= 0, ~np.isfinite(speed + m.loss)
        self.record.event_times.update({int(i): problem.ts[0] for i in m.index[over & ~bad]})
        self._fail(bad, NOT_FINITE)
        self._drop(over[~bad])

    def _first_step(self, speed: np.ndarray) -> np.ndarray:
        """From how fast the velocity turns along itself: one evaluation."""
        m, problem, system = self.members, self.problem, self.system
        span = self.record.ends - m.t
        nudge = np.minimum(1e-4 * m.size / speed, 1e-3 * span)
        nudge = np.where((m.size > 0) & (speed > 0), nudge, 1e-6 * span)
        moved = m.y + torch.as_tensor(nudge).to(m.y)[:, None] * m.f
        turn = system.velocity(system.numbers(m.t + nudge), moved) - m.f
        change = vector_norm(turn, dim=1).double().cpu().numpy()
        rate = np.where(speed > 0, change / (nudge * speed), 0.0)
        bound = problem.atol + problem.rtol * m.size
        order = self.steppers[0].error_order
        return control.first(bound, speed, rate, problem.rtol, span, order)

    # -- one step -------------------------------------------------------------------

    def _advance(self) -> None:
        """One step of every member, good or bad."""
        m, problem = self.members, self.problem
        if some(m.due[self._all]):
            due = m.due > 0
            short = due & (m.evals + PRODUCTS > problem.max_evals)
            if some(short):
                self._fail(short, out_of_budget(problem.max_evals))
                return
            # Those whose turn comes soon join in: a look at few costs almost what one at many does.
            soon = self._stabilized[m.method] & (m.age >= _REFRESH // 2)
            self._look(np.flatnonzero(due | soon))
        step, t_new = self._propose()
        moves = t_new > m.t[self._all]
        if not every(moves):
            self._fail(~moves, None)
            return
        accepted = False
        for rows, method, h, t_end in self._groups(step, t_new):
            stepper = self.steppers[method]
            reach = largest(h * m.radius[rows]) if stepper.stabilized else 0.0
            stages = stepper.stages(reach)
            if problem.rhs_evals + stages > problem.max_evals:  # perhaps a member's, too
                spent = np.zeros(len(m), bool)
                spent[rows] = m.evals[rows] + stages > problem.max_evals
                if some(spent):
                    self._fail(spent, out_of_budget(problem.max_evals))
                    return
            accepted |= self._try(rows, method, stages, reach, h, t_end)
        if accepted and problem.progress is not None:
            lone = self.system.lone
            t, loss = (m.t[0], m.loss[0]) if lone else (m.t.min(), m.loss.mean())
            problem.progress(float(t), float(loss))
        done = m.t[self._all] >= self.record.ends[m.index[self._all]]
        if problem.event is not None:
            done |= m.event[self._all] <= 0
        if problem.leave_stiff and some(stiff := (m.method != switching.EXPLICIT) & ~done):
            self._fail(stiff, STIFF)
            done = done[~stiff]
        self._drop(done)

    def _propose(self) -> tuple[Values, Values]:
        """Step and its end for every member: landing on times, closing in on events."""
        m, problem, rows = self.members, self.problem, self._all
        h, t = m.h[rows], m.t[rows]
        for method, stepper in enumerate(self.steppers):
            if stepper.stabilized:
                most = self._farthest[method] / m.radius[rows]
                shorter = (m.method[rows] == method) & (most < h)  # not where it is NaN
                m.h[rows] = h = choose(shorter, most, h)
        index = m.index[rows]
        target = self.record.ends[index] if problem.dense else self.record.ts[index, m.next[rows]]
        left = target - t
        # Land on the requested time, and do not leave a sliver before it.
        lands = h * 1.01 >= left
        step = choose(lands, left, smaller(h, 0.6 * left))
        t_new = choose(lands, target, t + step)
        if problem.event is not None:
            closing = locating.closing(m)[rows]
            step = choose(closing, locating.proposal(m, problem.rtol)[rows], step)
            t_new = choose(closing, smaller(t + step, target), t_new)
        return step, t_new

    def _groups(self, step: Values, t_new: Values) -> Iterable[tuple[Rows, int, Values, Values]]:
        """What to step together: rows of one method, within a factor 2 in h·ρ; that method;
        their steps and ends."""
        m = self.members
        if len(m) == 1:
            return ((0 if self.system.lone else ONE, int(m.method[0]), step, t_new),)
        reach = np.where(self._stabilized[m.method], np.fmax(step * m.radius, 1.0), 1.0)
        key = m.method * 10_000 + np.ceil(np.log2(reach)).astype(np.int64)
        groups = (np.flatnonzero(key == k) for k in np.unique(key))
        return [(rows, int(m.method[rows[0]]), step[rows], t_new[rows]) for rows in groups]

    def _try(
        self, rows: Rows, method: int, stages: int, reach: float, step: Values, t_new: Values
    ) -> bool:
        """One step of some members; whether any was good."""
        m, problem, system, stepper = self.members, self.problem, self.system, self.steppers[method]
        system.turn_to(m.index[rows])
        before = system.calls
        if isinstance(stepper, Stepper):
            tried = self._step(stepper, rows, method, stages, step)
        elif self.past is not None:
            rival, first_loss = len(self.steppers) > switching.RIVAL, float(self._first_loss[0])
            tried = self.past.attempt(system, problem, m, float(t_new), first_loss, rival=rival)
        self._spend(rows, system.calls - before)
        got = tried.got
        error, good, m.fault[rows] = control.judge(
            got,
            m.size[rows],
            m.loss[rows],
            self._first_loss[m.index[rows]],
            rtol=problem.rtol,
            atol=problem.atol,
            sharper=self._sharper[method],
            round_off=self._round_off,
        )
        bad = ~good
        if problem.event is not None:
            many = np.atleast_1d(rows), np.atleast_1d(good), np.atleast_1d(step)
            event = np.atleast_1d(got.event)
            good = locating.watch(m, *many, event, problem.rtol)[self._all]
        self._control(rows, method, step, error, good, bad)
        spent = m.evals[rows] - m.mark[rows]
        if some(good):
            self._accept(rows, good, tried, t_new)
            self._sharpen()
        looks = stepper.stabilized or (method == switching.STABILIZED and not self._eager)
        if looks and not problem.flow.affine:
            ample = _AMPLE * reach <= stepper.reach(stages)
            old = m.age[rows] >= (_SELDOM if ample else _REFRESH)
            m.due[rows] = old | (bad & (m.age[rows] > 0)) if stepper.stabilized else old
        if len(self.steppers) > 1:
            self._switch(rows, method, spent, step, good, got)
        return bool(some(good))

    def _step(self, stepper: Stepper, rows: Rows, method: int, stages: int, step: Values) -> Tried:
        """A step of a one-step method."""
        m, system = self.members, self.system
        y, f = m.y, m.f
        if not self._are_all(rows):
            at = system.rows(rows)
            y, f = y[at], f[at]
        t, own = system.numbers(m.t[rows]), system.numbers(step)
        h = largest(step)
        part = (own / h)[:, None] if isinstance(own, Tensor) else None
        rates: list[Tensor] = []

        def increment(c: float, Y: Tensor, out: Tensor | None = None) -> Tensor:
            nonlocal f
            f = system.rhs(t + c * own, Y, rates)
            if part is not None:
                return torch.mul(f, part, out=out)
            return f if out is None else out.copy_(f)

        k0 = f if part is None else f * part
        new = stepper.step(increment, y, k0, stages, h)
        signal = error = vector_norm(new.error, dim=1)
        if len(self.steppers) > 1:
            if new.signal is not None:
                signal = new.signal()
            elif method == switching.STABILIZED:
                signal = switching.rival_error(y, k0, new.y, new.k, h)
        # The sixth is a place for the rate at the start, which is on the host.
        numbers = system.measure(new.y, self.problem.event, error, signal, error, *rates)
        loss, size, event, error, signal = numbers[:5]
        seen = numbers[5:]
        seen[0] = m.rate[rows]
        gained, missed = stepper.energy(seen, stages)
        got = StepMeasurement(
            error, step * missed, step * gained, seen[-1], size, loss, signal, event
        )
        return Tried(new.y, f, got)

    def _control(
        self, rows: Rows, method: int, step: Values, error: Values, good: Values, bad: Values
    ) -> None:
        """The next step of each member; one closing in on an event keeps its own."""
        m, order = self.members, self.steppers[method].error_order
        backward = self.past if type(self.steppers[method]) is BDF else None
        if some(good):
            at, h, e = those(good, rows, step, error)
            if backward:
                longer = backward.next(float(h))
            else:
                longer = control.grown(h, e, m.before[at], m.error_before[at], order)
            longer = choose(m.retried[at] > 0, smaller(longer, h), longer)
            # A step cut short to land says nothing against the longer one it was cut from.
            planned = m.h[at]
            m.h[at] = larger(longer, choose(h < planned, planned, 0.0))
            m.before[at], m.error_before[at] = h, e
        if some(bad):
            at, h, e = those(bad, rows, step, error)
            if backward:
                m.h[at] = backward.shorter(float(h), float(e), bool(m.retried[at]))
            else:
                m.h[at] = control.shrunk(h, e, order)
            m.bad[at] += 1
        m.retried[rows] = bad

    def _accept(self, rows: Rows, good: Values, tried: Tried, t_new: Values) -> None:
        """Move the members whose step was good."""
        m, dense, got = self.members, self.problem.dense, tried.got
        new = {"y": tried.y, "f": tried.f}
        if not every(good):
            of = self.system.rows(np.flatnonzero(good))
            new = {name: value[of] for name, value in new.items()}
            got, t_new, rows = StepMeasurement(*(v[good] for v in got)), t_new[good], rows[good]
        if dense:
            self.record.interpolate(m, rows, t_new, new["y"], new["f"])
            new |= {"older_y": m.y[self.system.rows(rows)], "older_f": m.f[self.system.rows(rows)]}
        whole = self._are_all(rows)
        for name, value in new.items():
            if not whole:
                value = getattr(m, name).index_copy(0, self.system.rows(rows), value)
            setattr(m, name, value)
        index, rise = m.index[rows], self.record.rise
        rise[index] = larger(rise[index], got.loss - m.loss[rows])
        m.older_t[rows], m.t[rows] = m.t[rows], t_new
        m.loss[rows], m.size[rows], m.rate[rows] = got.loss, got.size, got.rate
        m.energy[rows] += got.energy
        m.age[rows] += 1
        m.good[rows] += 1
        m.mark[rows] = m.evals[rows]
        m.fault[rows] = 0
        self.record.land(m, rows)
        if self.past is not None:
            self.past.add(float(t_new), m.y.view(-1), float(m.energy[0]))
        if self.problem.event is not None:
            m.event[rows], m.high[rows] = got.event, np.nan
            ended = rows_of(rows, got.event <= 0)
            found = zip(m.index[ended].tolist(), m.t[ended].tolist(), strict=True)
            self.record.event_times.update(found)

    def _are_all(self, rows: Rows) -> bool:
        """Whether rows are all members, in order."""
        return self.system.lone or len(rows) == len(self.members)

    def _sharpen(self) -> None:
        """Measure the sharpness at the times just reached by a lone start, where it is asked
        for. It serves as a look at the spectrum, and starts from the vector of the last one."""
        m, path = self.members, self.problem.sharpness
        if path is None:
            return
        for i in range(len(path.values), int(m.next[0])):
            if self._shares and path.vectors is not None:
                path.vectors = torch.cat([m.vector, path.vectors[1:]])
            top = path.add(self.system.states(self.record.saved[i]))
            radius = float(top.values[0])
            if self._shares and math.isfinite(radius):
                m.radius[0], m.vector = with_margin(radius), top.vectors[:1]
                m.age[0] = m.due[0] = 0

    def _look_unless_fresh(self, rows: np.ndarray) -> None:
        """Measure the spectral radius of those members for whom that was not just done."""
        m, fresh = self.members, _REFRESH if self._shares else 1
        self._look(rows[np.isnan(m.radius[rows]) | (m.age[rows] >= fresh)])

    def _look(self, rows: np.ndarray) -> None:
        """Measure the spectral radius of some members."""
        m, system, budget = self.members, self.system, self.problem.max_evals
        known = ~np.isnan(m.radius[rows])
        rows = rows[~known | (m.evals[rows] + PRODUCTS < budget)]
        if not len(rows):
            return
        at = system.rows(rows)
        system.turn_to(m.index[rows])
        before, y, f, t = system.calls, m.y[at], m.f[at], system.numbers(m.t[rows])
        radius, vectors = system.radius(t, y, f, m.vector[at])
        if np.isnan(radius).any():  # a fault that may not come again
            radius, vectors = system.radius(t, y, f, m.vector[at])
        m.radius[rows] = np.where(np.isnan(radius), m.radius[rows], radius)
        m.vector = m.vector.index_copy(0, at, vectors)
        m.age[rows] = m.due[rows] = 0
        self._spend(rows, system.calls - before)
        lost = rows[np.isnan(m.radius[rows]) & self._stabilized[m.method[rows]]]
        m.h[lost], m.fault[lost] = 0.0, control.FAULTS.index(NOT_FINITE)

    def _switch(
        self,
        rows: Rows,
        method: int,
        spent: Values,
        step: Values,
        good: Values,
        got: StepMeasurement,
    ) -> None:
        """Hand members over to another stepper where that has become the better one."""
        m, problem, steppers = self.members, self.problem, self.steppers
        if method == switching.EXPLICIT and self._eager:
            moved = rows_of(rows, good & (self.past is not None and self.past.suffices))
            switching.move(m, moved, switching.STABILIZED)
        elif self._eager:
            return
        elif method == switching.EXPLICIT:
            end = self.record.ends[m.index[rows]]
            asked = switching.vote(steppers[0], m, rows, got.signal, end)
            if not len(asked) or (self.past is not None and not self.past.suffices):
                return
            self._look_unless_fresh(asked)
            moved = switching.confirm(steppers[0], m, asked)
        elif not some(good):
            return
        else:
            found = those(good, rows, step, spent, got.signal, got.size)
            rows, step, spent, signal, size = (np.atleast_1d(x) for x in found)
            if method == switching.RIVAL:
                moved = switching.from_rival(m, rows, spent)
            else:
                sharper = self._sharper[switching.RIVAL]
                bound = problem.atol + problem.rtol * size
                steps = spent, step, sharper * signal / bound
                cheaper = switching.rival_is_cheaper(m, rows, *steps)
                asked = switching.doubt(m, rows, cheaper)
                self._look_unless_fresh(rows[asked])
                m.signs[rows[asked]] = 0
                sure = asked & switching.rival_is_cheaper(m, rows, *steps)
                moved = switching.to_rival(m, rows[sure])
            if self.past is None or self.past.steps >= self.past.patience:
                moved = np.union1d(moved, switching.hand_back(steppers[0], m, rows))
        if self.past is not None and len(moved) and m.method[0] == switching.STABILIZED:
            self.past.restart()
        if self.system.lone and len(moved):
            self.switches.append(f"{steppers[m.method[0]].name} from t = {m.t[0]:.3g}")

    # -- the end of members ---------------------------------------------------------

    def _fail(self, gone: Values, reason: str | None) -> None:
        """Take note of why members stop early, and drop them."""
        m = self.members
        if not some(gone):
            return
        self.problem.last_checkpoint = snapshot(self)
        for row in np.flatnonzero(gone).tolist():
            why = control.FAULTS[m.fault[row]] if reason is None else reason
            if not self.system.lone:
                why = f"stopped at t = {m.t[row]:.6g}: {why}"
            self.record.failures[int(m.index[row])] = why
        self._drop(gone)

    def _drop(self, gone: Values) -> None:
        """Let members leave the work."""
        if some(gone):
            gone = np.atleast_1d(gone)
            self.record.leave(self.members, gone)
            self.members = self.members.only(~gone)

    def _maybe_save(self, save: Save) -> None:
        now = time.perf_counter()
        if len(self.members) and now - self._saved_at >= self.problem.checkpoint_every:
            self._saved_at = now
            save(snapshot(self))
