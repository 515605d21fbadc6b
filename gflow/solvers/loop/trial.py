"""Compute a trial step of some members, by a one-step or a multistep method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gflow.linalg.arrays import Array, row_norms
from gflow.solvers.base import Step, Stepper
from gflow.solvers.elementwise import max_of
from gflow.solvers.loop.proposal import StepPlan
from gflow.solvers.loop.rkc2_switch import rkc2_error_of_step
from gflow.solvers.loop.state import LoopState
from gflow.solvers.loop.switching import HIGH_ORDER, RKC2_METHOD
from gflow.solvers.loop.system import StepMeasurement, TrialStep


class StepComputer:
    """Computes trial steps; changes only the counters in the state of a solve."""

    def __init__(self, state: LoopState):
        self._state = state

    def compute(self, plan: StepPlan) -> TrialStep:
        """Return a step and its measurements on the host."""
        state, system, m = self._state, self._state.system, self._state.members
        method = state.methods[plan.method]
        system.select(m.index[plan.rows])
        before = system.calls
        if isinstance(method, Stepper):
            trial = self._one_step(method, plan)
        elif state.past is not None:
            first_loss, t_new = float(state.first_loss[0]), float(plan.t_new)
            with_rkc2 = len(state.methods) > RKC2_METHOD
            trial = state.past.attempt(
                system, state.problem, m, t_new, first_loss, with_rkc2_error=with_rkc2
            )
        state.count_evals(plan.rows, system.calls - before)
        return trial

    def _one_step(self, method: Stepper, plan: StepPlan) -> TrialStep:
        state, system, m, rows = self._state, self._state.system, self._state.members, plan.rows
        y, f = system.native(m.y), system.native(m.f)
        if not state.covers(rows):
            at = system.indices(rows)
            y, f = y[at], f[at]
        t, steps = system.scalars(m.t[rows]), system.scalars(plan.step)
        h = max_of(plan.step)
        fraction = (steps / h)[:, None] if isinstance(steps, Tensor) else None
        rates: list[Any] = []

        def increment(c: float, Y: Any, out: Any = None) -> Any:
            nonlocal f
            f = system.rhs(t + c * steps, Y, rates)
            if fraction is not None:
                return torch.mul(f, fraction, out=out)
            if out is None:
                return f
            out[...] = f
            return out

        k0 = f if fraction is None else f * fraction
        new = method.step(increment, y, k0, plan.stages, h)
        error = row_norms(new.error)
        signal = self._signal(plan, new, y, k0, h)
        speed = row_norms(f)
        # The speed takes the place of the rate at the start, which is on the host.
        numbers = system.measure(
            new.y, state.problem.event, error, error if signal is None else signal, speed, *rates
        )
        loss, size, event, error, signal, speed = numbers[:6]
        rates_on_host = numbers[5:].copy()
        rates_on_host[0] = m.rate[rows]
        energy, energy_error = method.energy(rates_on_host, plan.stages)
        measured = StepMeasurement(
            error=error,
            energy_error=plan.step * energy_error,
            energy=plan.step * energy,
            rate=rates_on_host[-1],
            speed=speed,
            size=size,
            loss=loss,
            signal=signal,
            event=event,
        )
        return TrialStep(torch.as_tensor(new.y), torch.as_tensor(f), measured)

    def _signal(self, plan: StepPlan, new: Step, y: Array, k0: Array, h: float) -> Any:
        """Return the signal for the choice of method; None if there is none."""
        if len(self._state.methods) == 1:
            return None
        if new.signal is not None:
            return new.signal()
        return rkc2_error_of_step(y, k0, new.y, new.k, h) if plan.method == HIGH_ORDER else None
