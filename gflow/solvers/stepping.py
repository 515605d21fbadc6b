"""The one stepping loop of gflow's own methods.

Every member of an ensemble has its own time, step size, stages and method; members that
are done leave the work. The loop proposes a step for each, lets the stepper compute it
(members of one method and similar stiffness together), brings what is measured of it to
the host in one piece, and decides. A step is good where

1. ‖e‖₂ ≤ atol + rtol·‖y‖₂, e the estimated error and ‖y‖ the larger of both ends, and the
   energy integral's error is below a third of rtol of the loss;
2. the loss has not risen, beyond a tenth of rtol of its first value, the energy of an
   error of the size allowed, and round-off. No step of a gradient flow may end otherwise.

A bad step is tried again shorter; where it cannot be shorter the member has failed, and
the others go on. Time is that of the flow.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.solvers import base, control, locating, switching
from gflow.solvers.base import Problem, Solver, Step, Stepper
from gflow.solvers.checkpoint import Checkpoint
from gflow.solvers.members import Members
from gflow.solvers.record import Record
from gflow.solvers.spectrum import first_vectors, spectral_radius

_REFRESH = 10  # good steps between two looks at the spectrum
_ERROR, _NOT_FINITE, _RISE = range(3)
_REASONS = (base.UNDERFLOW, base.NOT_FINITE, base.RISES)


class SteppedSolver(Solver):
    """gflow's own methods: one stepper, or an explicit and a stabilised one that switch."""

    def __init__(self, *steppers: Stepper):
        self.steppers = steppers
        self.names = ("+".join(stepper.name for stepper in steppers),)

    def solve(self, problem: Problem, method: str) -> None:
        Stepping(problem, self.steppers).run()


class Measured(NamedTuple):
    """What is known of a tried step on the host, one entry a member."""

    error: np.ndarray  #: ‖e‖ of the state
    energy_error: np.ndarray
    size: np.ndarray  #: ‖y‖ at its end
    loss: np.ndarray
    reach: np.ndarray  #: h|λ|, NaN where the method does not tell
    event: np.ndarray  #: NaN without one


class Stepping:
    """A problem on its way, by one stepper or by two that hand over to each other."""

    def __init__(self, problem: Problem, steppers: Sequence[Stepper]):
        self.problem = problem
        self.steppers = steppers
        self.steps = self.rejections = 0
        self.switches: list[str] = []
        self.record = Record(problem)
        self._lone = len(problem.batch) == 0
        self._state_shape = problem.y0.shape[len(problem.batch) :]
        self._size = self.record.size
        self._flow = problem.flow
        self._members_of_flow: np.ndarray | None = None
        self._calls = 0
        eps = torch.finfo(problem.y0.dtype).eps
        self._round_off = 20 * eps
        self._most = [s.most_stages(problem.rtol, eps) for s in steppers]
        self._first_loss = problem.first_loss.reshape(-1).double().cpu().numpy()
        self._began = time.perf_counter()
        y = problem.y0.reshape(-1, self._size)
        z = torch.cat([y, torch.zeros_like(y[:, :1])], dim=1)
        self.members = Members.start(z, first_vectors(y), problem.ts[0])
        if problem.resume is None:
            self._begin()
        else:
            self._resume(problem.resume)

    def run(self) -> None:
        """To the end of every member; the problem has the results then."""
        while len(self.members):
            self._advance()
            problem = self.problem
            if problem.checkpoint is not None and len(self.members):
                now = time.perf_counter()
                if now - self._began >= problem.checkpoint_every:
                    self._began = now
                    problem.checkpoint(self.snapshot())
        self.problem.accepted, self.problem.rejected = self.steps, self.rejections
        self.problem.remark = "; ".join(self.switches)
        self.record.hand_in()

    # -- the right-hand side --------------------------------------------------------

    def _turn_to(self, rows: np.ndarray) -> None:
        """Evaluate these members from now on."""
        index = self.members.index[rows]
        known = self._members_of_flow
        if not self._lone and (known is None or not np.array_equal(index, known)):
            self._members_of_flow = index
            self._flow = self.problem.flow.of_members(self._to_device(index))

    def _states(self, z: Tensor) -> Tensor:
        """The states in rows of z; one without a leading dimension for a lone start."""
        y = z[:, : self._size]
        return y.view(self._state_shape) if self._lone else y.reshape(-1, *self._state_shape)

    def _rhs(self, t: Tensor | float, z: Tensor) -> Tensor:
        """dz/dt of the members turned to."""
        self._calls += 1
        y = self._states(z)
        velocity = base.velocity_of(self._flow, t, y)
        rate = self._flow.dissipation(y, velocity)
        return torch.cat([velocity.reshape(len(z), -1), rate.reshape(-1, 1)], dim=1)

    def _per_member(self, values: np.ndarray) -> Tensor | float:
        """A number a member, as the right-hand side takes it: one float for a lone start."""
        if self._lone:
            return float(values[0])
        return self._to_device(values).to(self.problem.y0)

    def _to_device(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, device=self.problem.y0.device)

    def _spend(self, rows: np.ndarray, calls: int) -> None:
        """Count evaluations of some members."""
        self.problem.rhs_evals += calls * len(rows)
        self.members.evals[rows] += calls

    # -- start ----------------------------------------------------------------------

    def _begin(self) -> None:
        m, problem, everyone = self.members, self.problem, np.arange(len(self.members))
        self._turn_to(everyone)
        m.f = m.older_f = self._rhs(self._per_member(m.t), m.z)
        self._spend(everyone, 1)
        n = self._size
        sizes = torch.stack([m.z[:, :n].norm(dim=1), m.f[:, :n].norm(dim=1)]).double().cpu()
        m.size[:], speed = sizes.numpy()
        m.loss[:] = self._first_loss
        if problem.event is not None:
            m.event[:] = problem.event(self._states(m.z)).reshape(-1).double().cpu().numpy()
        m.h[:] = self._first_step(everyone, speed)
        if self.steppers[0].stabilized:
            self._look(everyone)
        with np.errstate(invalid="ignore"):
            over, bad = m.event <= 0, ~np.isfinite(speed + m.loss)
        self.record.event_times.update({int(i): problem.ts[0] for i in m.index[over & ~bad]})
        self._fail(bad, base.NOT_FINITE)
        self._drop(over[~bad])

    def _first_step(self, rows: np.ndarray, speed: np.ndarray) -> np.ndarray:
        """From how fast the velocity turns along itself: one evaluation."""
        m, problem, n = self.members, self.problem, self._size
        span = problem.ts[-1] - problem.ts[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            nudge = np.minimum(1e-4 * m.size / speed, 1e-3 * span)
            nudge = np.where((m.size > 0) & (speed > 0), nudge, 1e-6 * span)
        moved = m.z + torch.as_tensor(nudge).to(m.z)[:, None] * m.f
        turn = self._rhs(self._per_member(m.t + nudge), moved)[:, :n] - m.f[:, :n]
        self._spend(rows, 1)
        change = turn.norm(dim=1).double().cpu().numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.where(speed > 0, change / (nudge * speed), 0.0)
        bound = problem.atol + problem.rtol * m.size
        order = self.steppers[0].error_order
        return control.first(bound, speed, rate, problem.rtol, span, order)

    # -- one step -------------------------------------------------------------------

    def _advance(self) -> None:
        """One step of every member, good or bad."""
        m, problem = self.members, self.problem
        step, t_new = self._propose()
        stuck = ~(t_new > m.t)
        if stuck.any():
            self._fail(stuck, None)
            return
        accepted = False
        for rows in self._groups(step):
            method = int(m.method[rows[0]])
            with np.errstate(invalid="ignore"):
                reach = float(np.nan_to_num(step[rows] * m.radius[rows]).max())
            stages = self.steppers[method].stages(reach)
            spent = m.evals + stages > problem.max_evals
            if spent[rows].any():
                self._fail(spent & np.isin(np.arange(len(m)), rows), self._over_budget)
                return
            accepted |= self._try(rows, method, stages, step[rows], t_new[rows])
        if accepted and problem.progress is not None:
            problem.progress(float(m.t.min()), float(m.loss.mean()))
        self._drop((m.next >= len(problem.ts)) | np.isin(m.index, list(self.record.event_times)))

    @property
    def _over_budget(self) -> str:
        return base.out_of_budget(self.problem.max_evals)

    def _propose(self) -> tuple[np.ndarray, np.ndarray]:
        """Step and its end for every member: landing on times, closing in on events."""
        m, problem = self.members, self.problem
        for method, stepper in enumerate(self.steppers):
            if stepper.stabilized:
                with np.errstate(divide="ignore"):
                    most = stepper.reach(self._most[method]) / m.radius
                m.h = np.where(m.method == method, np.fmin(m.h, most), m.h)
        ts = np.asarray(problem.ts)
        target = np.full(len(m), ts[-1]) if problem.dense else ts[m.next]
        left = target - m.t
        # Land on the requested time, and do not leave a sliver before it.
        lands = m.h * 1.01 >= left
        step = np.where(lands, left, np.minimum(m.h, 0.6 * left))
        t_new = np.where(lands, target, m.t + step)
        closing = locating.closing(m)
        if closing.any():
            step = np.where(closing, locating.proposal(m, problem.rtol), step)
            t_new = np.where(closing, np.minimum(m.t + step, target), t_new)
        return step, t_new

    def _groups(self, step: np.ndarray) -> list[np.ndarray]:
        """Rows to step together: of one method, and within a factor 2 in h·ρ."""
        m = self.members
        if len(m) == 1:
            return [np.zeros(1, np.int64)]
        stabilized = np.array([s.stabilized for s in self.steppers])[m.method]
        with np.errstate(invalid="ignore"):
            reach = np.where(stabilized, np.maximum(np.nan_to_num(step * m.radius), 1.0), 1.0)
        key = m.method * 10_000 + np.ceil(np.log2(reach)).astype(np.int64)
        return [np.flatnonzero(key == k) for k in np.unique(key)]

    def _try(
        self, rows: np.ndarray, method: int, stages: int, step: np.ndarray, t_new: np.ndarray
    ) -> bool:
        """One step of some members; whether any was good."""
        m, problem, stepper = self.members, self.problem, self.steppers[method]
        at = None if len(rows) == len(m) else self._to_device(rows)
        z, f = (m.z, m.f) if at is None else (m.z[at], m.f[at])
        self._turn_to(rows)
        t, h = self._per_member(m.t[rows]), self._per_member(step)
        scale = h if isinstance(h, float) else h[:, None]

        def increment(c: float, Y: Tensor) -> Tensor:
            return self._rhs(t + c * h, Y).mul_(scale)

        before = self._calls
        new = stepper.step(increment, z, f * scale, stages)
        new = new._replace(k=new.k / scale)
        self._spend(rows, self._calls - before)
        got = self._measure(new)
        error, good = self._judge(rows, got)
        if problem.event is not None:
            good = locating.watch(m, rows, good, step, got.event, problem.rtol)
        self._control(rows, method, step, error, good)
        if good.any():
            self._accept(rows, good, new, t_new, got)
        if stepper.stabilized:
            self._look(rows[self._needs_look(rows, good)])
        if len(self.steppers) > 1:
            self._switch(rows, method, good, got.reach)
        return bool(good.any())

    def _measure(self, new: Step) -> Measured:
        """All that the decision needs, in one copy to the host."""
        n, states = self._size, self._states(new.z)
        loss = self._flow.loss(states).reshape(-1)
        nothing = torch.full_like(loss, torch.nan)
        event = self.problem.event
        rows = [
            new.error[:, :n].norm(dim=1),
            new.error[:, n].abs(),
            new.z[:, :n].norm(dim=1),
            loss,
            nothing if new.reach is None else new.reach,
            nothing if event is None else event(states).reshape(-1),
        ]
        return Measured(*torch.stack(rows).double().cpu().numpy())

    def _judge(self, rows: np.ndarray, got: Measured) -> tuple[np.ndarray, np.ndarray]:
        """The error of each member's step relative to the tolerance, and whether it is good."""
        m, rtol = self.members, self.problem.rtol
        bound = self.problem.atol + rtol * np.fmax(m.size[rows], got.size)
        resolution = bound**2
        first, last = np.abs(self._first_loss[m.index[rows]]), m.loss[rows]
        tiny = np.finfo(float).tiny
        with np.errstate(invalid="ignore", over="ignore"):
            energy_bound = rtol / 3 * np.maximum(first, np.abs(last)) + resolution
            of_state = got.error / np.maximum(bound, tiny)
            of_energy = got.energy_error / np.maximum(energy_bound, tiny)
            error = np.maximum(of_state, of_energy)  # NaN where either is
            slack = (0.1 * rtol + self._round_off) * first + resolution
            falls = got.loss - last <= slack
            good = (error <= 1) & falls & np.isfinite(got.size)
        finite = np.isfinite(error) & np.isfinite(got.loss)
        m.fault[rows] = np.where(finite, np.where(error <= 1, _RISE, _ERROR), _NOT_FINITE)
        return error, good

    # -- after a step ---------------------------------------------------------------

    def _control(
        self, rows: np.ndarray, method: int, step: np.ndarray, error: np.ndarray, good: np.ndarray
    ) -> None:
        """The next step of each member."""
        m, order = self.members, self.steppers[method].error_order
        bad = ~good & ~locating.closing(m)[rows]
        with np.errstate(invalid="ignore", over="ignore"):
            longer = control.grown(step, error, m.before[rows], m.error_before[rows], order)
            shorter = control.shrunk(step, error, order)
        longer = np.where(m.retried[rows] > 0, np.minimum(longer, step), longer)
        # A step cut short to land says nothing against the longer one it was cut from.
        longer = np.where(step < m.h[rows], np.maximum(longer, m.h[rows]), longer)
        m.h[rows] = np.where(good, longer, np.where(bad, shorter, m.h[rows]))
        m.before[rows] = np.where(good, step, m.before[rows])
        m.error_before[rows] = np.where(good, error, m.error_before[rows])
        m.retried[rows] = bad
        self.rejections += int(bad.sum())

    def _accept(
        self, rows: np.ndarray, good: np.ndarray, new: Step, t_new: np.ndarray, got: Measured
    ) -> None:
        """Move the members whose step was good."""
        m, at = self.members, rows[good]
        z, f = new.z, new.k
        if not good.all():
            of = self._to_device(np.flatnonzero(good))
            z, f = z[of], f[of]
        if self.problem.dense:
            self.record.interpolate(m, at, t_new[good], z, f)
        older = m.z, m.f
        if len(at) == len(m):
            m.z, m.f = z, f
        else:
            to = self._to_device(at)
            m.z, m.f = m.z.index_copy(0, to, z), m.f.index_copy(0, to, f)
            if self.problem.dense:
                older = (
                    m.older_z.index_copy(0, to, older[0][to]),
                    m.older_f.index_copy(0, to, older[1][to]),
                )
        if self.problem.dense:
            m.older_z, m.older_f = older
        index = m.index[at]
        rise = self.record.rise
        rise[index] = np.maximum(rise[index], got.loss[good] - m.loss[at])
        m.older_t[at], m.t[at] = m.t[at], t_new[good]
        m.loss[at], m.size[at] = got.loss[good], got.size[good]
        m.age[at] += 1
        m.fault[at] = _ERROR
        self.steps += len(at)
        self.record.land(m, at)
        if self.problem.event is not None:
            m.event[at], m.high[at] = got.event[good], np.nan
            ended = at[got.event[good] <= 0]
            self.record.event_times.update(
                zip(m.index[ended].tolist(), m.t[ended].tolist(), strict=True)
            )

    def _needs_look(self, rows: np.ndarray, good: np.ndarray) -> np.ndarray:
        """Whether a member's radius is old, or a bad step throws doubt on it."""
        age = self.members.age[rows]
        doubtful = ~good & (age > 0) & ~locating.closing(self.members)[rows]
        return ((age >= _REFRESH) | doubtful) & (not self.problem.flow.affine)

    def _look(self, rows: np.ndarray) -> None:
        """Measure the spectral radius of some members."""
        m, n = self.members, self._size
        if not len(rows):
            return
        self._turn_to(rows)
        m.age[rows] = 0
        at = self._to_device(rows)
        y = m.z[at, :n]
        known = self._flow.spectral_radius(self._states(y))
        if known is not None:
            m.radius[rows] = known
            return
        t, calls = self._per_member(m.t[rows]), 0

        def velocity(y: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return base.velocity_of(self._flow, t, self._states(y)).reshape(len(rows), -1)

        radius, vectors = spectral_radius(velocity, y, m.f[at, :n], m.vector[at])
        self._spend(rows, calls)
        m.radius[rows] = radius
        m.vector = m.vector.index_copy(0, at, vectors)
        self._unfit(rows[np.isnan(radius)])

    def _unfit(self, rows: np.ndarray) -> None:
        """Members beside which the right-hand side is not finite: they cannot go on."""
        self.members.h[rows] = 0.0
        self.members.fault[rows] = _NOT_FINITE

    def _switch(self, rows: np.ndarray, method: int, good: np.ndarray, reach: np.ndarray) -> None:
        """Hand members over to the other stepper where stiffness has changed."""
        m, explicit = self.members, self.steppers[switching.EXPLICIT]
        if method == switching.EXPLICIT:
            asked = switching.vote(explicit, m, rows, reach)
            self._look(asked)
            moved = switching.confirm(explicit, m, asked)
        else:
            second = self.steppers[switching.STABILIZED]
            farthest = second.reach(self._most[switching.STABILIZED])
            moved = switching.after_stabilized(self.steppers, farthest, m, method, rows[good])
        if self._lone and len(moved):
            name = self.steppers[int(m.method[0])].name
            self.switches.append(f"{name} from t = {m.t[0]:.3g}")

    # -- the end of members ---------------------------------------------------------

    def _fail(self, gone: np.ndarray, reason: str | None) -> None:
        """Take note of why members stop early, and drop them."""
        m = self.members
        if not gone.any():
            return
        self.problem.last_checkpoint = self.snapshot()
        for row in np.flatnonzero(gone).tolist():
            why = _REASONS[m.fault[row]] if reason is None else reason
            if not self._lone:
                why = f"stopped at t = {m.t[row]:.6g}: {why}"
            self.record.failures[int(m.index[row])] = why
        self._drop(gone)

    def _drop(self, gone: np.ndarray) -> None:
        """Let members leave the work."""
        if gone.any():
            self.record.leave(self.members, gone)
            self.members = self.members.only(~gone)

    # -- checkpoints ----------------------------------------------------------------

    def snapshot(self) -> Checkpoint:
        """The whole state between two steps."""
        problem, record = self.problem, self.record
        return Checkpoint(
            tensors={**self.members.tensors(), **record.tensors()},
            meta={
                "asked": self._asked,
                "rhs_evals": problem.rhs_evals,
                "steps": self.steps,
                "rejections": self.rejections,
                "switches": list(self.switches),
                "failures": list(record.failures.items()),
                "event_times": list(record.event_times.items()),
            },
        )

    @property
    def _asked(self) -> list[object]:
        """What must be the same in a resumed solve."""
        problem = self.problem
        names = [stepper.name for stepper in self.steppers]
        return [names, list(problem.ts), problem.rtol, problem.atol, problem.dense]

    def _resume(self, found: Checkpoint) -> None:
        meta, tensors = found.meta, dict(found.tensors)
        if meta["asked"] != self._asked or tensors["last"].shape != self.record.last.shape:
            raise InputError(
                "a checkpoint resumes the solve it was taken from: the same flow, start, times, "
                "method, tolerances and dense; got another one. Integrate from the start"
            )
        self.record.restore(tensors)
        self.record.failures.update({int(i): str(why) for i, why in meta["failures"]})
        self.record.event_times.update({int(i): float(t) for i, t in meta["event_times"]})
        self.members = Members.from_tensors(tensors, self.problem.y0)
        self.problem.rhs_evals = meta["rhs_evals"]
        self.steps, self.rejections = meta["steps"], meta["rejections"]
        self.switches = list(meta["switches"])
