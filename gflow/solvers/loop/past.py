"""The multistep method in the stepping loop: past states of a single start, order and step size."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import Array, empty, norm, row_norms
from gflow.linalg.large import is_large
from gflow.solvers import bdf
from gflow.solvers.loop.growth_limit import bdf_growth_limit
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.rkc2_switch import rkc2_error_of_step
from gflow.solvers.loop.system import StepMeasurement, System, TrialStep
from gflow.solvers.problem import Problem, energy_bound
from gflow.trajectory import attempt

_GROWS = 0.5  # log of the growth to come of a mode that may leave a saddle: at t = 4/(3μ) or later
_AMPLIFIED = 10.0  # log of a growth after which modes may be as small as round-off
_REJECTED = 20  # steps to one that is rejected: where more are, noise is the cause
_CAPACITY = 4 * bdf.HISTORY  # rows of memory: with more rows, states are moved less often


class Past:
    """The last accepted states, whatever method computed them, and the order of the next step."""

    def __init__(self) -> None:
        self.times: list[float] = []  #: of the states, the newest first
        self.energies: list[float] = []  #: dissipated until then
        self.order = 1
        self.since = 0  #: accepted steps since the order last changed
        self.steps = 0  #: accepted steps since the last restart
        self.patience = 10  #: steps after a restart before the explicit method may take over
        self.fastest = 0.0  #: rate of the last step, see `bdf.differences_blur`
        self._has_products = True  # until one fails
        self.dense = False  #: whether to decompose the Jacobian: products are too noisy
        self._rejected = 0
        self._errors: dict[int, float] = {}  # of the trial step by order, over the tolerance
        self._rows: list[Any] = []  # the states, where they are large
        self._memory: Any = np.empty(0)
        self._first = 0  # row of the newest state

    @property
    def states(self) -> Any:
        """Return the states, the newest first, (m, size); a list of them where they are large."""
        if self._rows:
            return self._rows
        return self._memory[self._first : self._first + len(self.times)]

    def stacked(self) -> Tensor:
        """Return a copy of the states, (m, size)."""
        if self._rows:
            return torch.stack([torch.as_tensor(row) for row in self._rows])
        return torch.as_tensor(self.states).clone()

    def replace(self, states: Array) -> None:
        """Replace the values of the states, (m, size)."""
        if self._rows:
            self._rows = list(states)
        else:
            self.states[...] = states

    def add(self, t: float, y: Array, energy: float) -> None:
        """Add an accepted state, and drop the oldest one; a large one is not copied."""
        self.times = [t, *self.times][: bdf.HISTORY]
        self.energies = [energy, *self.energies][: bdf.HISTORY]
        if is_large(y):
            self._rows = [y, *self._rows][: bdf.HISTORY]
            return
        if not len(self._memory):
            self._memory, self._first = empty((_CAPACITY, len(y)), y), _CAPACITY
        elif self._first == 0:
            count = len(self.times) - 1
            self._memory[_CAPACITY - count :] = 1 * self._memory[:count]
            self._first = _CAPACITY - count
        self._first -= 1
        self._memory[self._first] = y

    @property
    def meta(self) -> list[Any]:
        """Return everything except the states, as plain numbers."""
        numbers = [self.order, self.since, self.steps, self.patience, self.fastest]
        return [self.times, self.energies, *numbers, self._rejected, self.dense]

    def restore(self, states: Array, meta: list[Any]) -> None:
        """Restore the values of `states` and `meta`."""
        for row in range(len(states) - 1, -1, -1):
            self.add(0.0, states[row], 0.0)
        self.times, self.energies, self.order, self.since, *numbers = meta
        self.steps, self.patience, self.fastest, self._rejected, self.dense = numbers

    @property
    def can_start(self) -> bool:
        """Whether there are enough states for a first step."""
        return len(self.times) > 3

    def restart(self) -> None:
        """Restart at order 1 from another method's states, and double the patience.

        The states of an explicit method at its edge of stability are noisy: order 1 damps that.
        """
        self.order, self.since, self.steps = 1, bdf.HISTORY, 0
        self.patience *= 2

    def attempt(
        self,
        system: System,
        problem: Problem,
        members: Members,
        t_new: float,
        first_loss: float,
        *,
        with_rkc2_error: bool,
    ) -> TrialStep:
        """Compute a step of the only member to a new time.

        With ``with_rkc2_error``, its signal is the error that rkc2 would have made in this step.
        """
        m, order, dtype = members, self.order, torch.finfo(members.y.dtype)
        velocity = system.native(m.f)[0]
        size, distance = float(m.size[0]), (t_new - self.times[0]) * norm(velocity)
        # Bounds on the errors of the state and of the energy; not zero by underflow.
        bound = max(problem.atol + problem.rtol * size, dtype.tiny)
        scale = max(first_loss, abs(float(m.loss[0])))
        energy_tolerance = max(energy_bound(problem.rtol, scale, bound), dtype.tiny)
        grows = bool(m.growth[0] * (problem.ts[-1] - self.times[0]) > _GROWS)
        length = norm(self.states[0]) if system.own_scale else size
        tolerance = bdf.step_tolerance(bound, distance, size, dtype.eps * length, grows=grows)
        tolerance = max(tolerance, dtype.tiny)
        formulas = bdf.formulas(self.times, t_new, order)
        solve = functools.partial(
            bdf.bdf_step,
            functools.partial(system.velocity, t_new),
            self.states,
            formulas,
            tolerance,
            size,
            exact=bool(m.gain[0] > _AMPLIFIED),
            max_products=min(bdf.MAX_PRODUCTS, problem.max_evals - int(m.evals[0])),
        )
        if self.dense and system.has_jacobian:
            step = solve(jacobian=system.jacobian)
        else:
            blurred = bdf.differences_blur(self.fastest, formulas.alpha, dtype.eps)
            step = (self._by_products(system, problem, solve) if blurred else None) or solve()
        self.fastest = step.fastest or self.fastest
        y, f = step.state[None], step.rate[None]
        signal = rate = system.dissipation(y, f)
        if with_rkc2_error:
            signal = rkc2_error_of_step(
                self.states[0][None], velocity[None], y, f, t_new - self.times[0]
            )
        numbers = system.measure(
            y, problem.event, signal, rate, row_norms(f), step.predictor_errors
        )
        loss, size, event, signal, rate, speed = numbers[:6]
        # The energy obeys the same formulas.
        before = [past_energy - self.energies[0] for past_energy in self.energies]
        energy = (float(rate) - _dot(formulas.slope, before)) / formulas.alpha
        self._errors = {}
        predictors = zip(formulas.predictors.items(), numbers[6:].tolist(), strict=True)
        for (p, weights), predictor_error in predictors:
            energy_error = abs(energy - _dot(weights, before)) / energy_tolerance
            self._errors[p] = formulas.errors[p] * max(predictor_error / tolerance, energy_error)
        # The larger of both errors counts as one of the state; it is infinite if not converged.
        error = self._errors[order] * bound if step.converged else math.inf
        measured = StepMeasurement(error, 0.0, energy, rate, speed, size, loss, signal, event)
        return TrialStep(torch.as_tensor(y), torch.as_tensor(f), measured)

    def _by_products(
        self, system: System, problem: Problem, solve: Callable[..., bdf.BDFStep]
    ) -> bdf.BDFStep | None:
        """Solve a step with exact products; None where the flow has none."""
        # Those of a reduced flow may be undefined where singular values meet.
        if not (self._has_products and problem.flow.is_of_parameters):
            return None
        step, failures = attempt("products", lambda: solve(product=system.product))
        self._has_products = not failures
        return step

    def next_step(self, step: float, growth: float, rtol: float) -> float:
        """Choose the order after an accepted step, and return the length of the next one.

        A mode that grows at the rate ``growth`` limits the length of the step for each order.
        """
        self.since += 1
        self.steps += 1
        settled = self.since > self.order
        limits = None
        if growth > 0:
            limits = {p: bdf_growth_limit(p, rtol) / growth for p in self._errors}
        order, h = bdf.next_order_and_step(
            self._errors, self.order, step, settled=settled, limits=limits
        )
        if order != self.order and self.steps > bdf.HISTORY:
            self.since = 0
        self.order = order
        return h

    def shorter_step(self, step: float, error: float, retried: bool) -> float:
        """Return the next step after a rejected one; lower the order if it is rejected again."""
        self._rejected += 1
        self.dense |= _REJECTED * self._rejected > self.steps + _REJECTED
        if retried and self.order > 1:
            self.order, self.since = self.order - 1, 0
        if not 0 < error < math.inf:  # no estimate, or rejected for its loss alone
            return 0.4 * step
        return step * min(max(0.3, 0.85 * error ** (-1 / (self.order + 1))), 0.7)


def _dot(weights: list[float], values: list[float]) -> float:
    """Return Σ weights·values, over the length of weights."""
    return sum(map(operator.mul, weights, values))
