"""A multistep method in the stepping loop: the past of a lone start, and its next step."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.solvers import bdf
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.switching import rival_error
from gflow.solvers.loop.system import StepMeasurement, System, Tried
from gflow.solvers.problem import Problem, energy_bound

_ROOM = 4 * bdf.HISTORY  # rows of memory: the past moves to its end once in so many steps


class Past:
    """The last good states, whatever method made them, and the order to go on with."""

    def __init__(self) -> None:
        self.times: list[float] = []  #: the newest first
        self.energies: list[float] = []  #: dissipated until then
        self.order = 1
        self.since = 0  #: steps since the order last changed
        self.steps = 0  #: good ones since the last restart
        self.patience = 10  #: steps after which the explicit method may be better again
        self._errors: dict[int, float] = {}  #: by order, relative to the tolerance
        self._memory = torch.empty(0)
        self._first = 0  # row of the newest state

    @property
    def states(self) -> Tensor:
        """The states, the newest first, (m, size)."""
        return self._memory[self._first : self._first + len(self.times)]

    def add(self, t: float, y: Tensor, energy: float) -> None:
        """Remember a good state."""
        self.times = [t, *self.times][: bdf.HISTORY]
        self.energies = [energy, *self.energies][: bdf.HISTORY]
        if not len(self._memory):
            self._memory, self._first = y.new_empty(_ROOM, len(y)), _ROOM
        elif self._first == 0:
            kept = len(self.times) - 1
            self._memory[_ROOM - kept :] = self._memory[:kept].clone()
            self._first = _ROOM - kept
        self._first -= 1
        self._memory[self._first] = y

    @property
    def meta(self) -> list[Any]:
        """What it knows besides the states, as plain numbers."""
        return [self.times, self.energies, self.order, self.since, self.steps, self.patience]

    def restore(self, states: Tensor, meta: list[Any]) -> None:
        """The inverse of `states` and `meta`."""
        for state in states.flip(0):
            self.add(0.0, state, 0.0)
        self.times, self.energies, self.order, self.since, self.steps, self.patience = meta

    @property
    def suffices(self) -> bool:
        """Whether there are states enough for a first step."""
        return len(self.times) > 3

    def restart(self) -> None:
        """Begin with states that another method has made, and be given longer than before.

        Those of an explicit method at its edge of stability are noisy: order 1 damps that.
        """
        self.order, self.since, self.steps = 1, bdf.HISTORY, 0
        self.patience *= 2

    def attempt(
        self,
        system: System,
        problem: Problem,
        members: Members,
        new: float,
        first_loss: float,
        *,
        rival: bool,
    ) -> Tried:
        """A step of the only member to the time new, and what it says of the ``rival``, if any."""
        m, order, dtype = members, self.order, torch.finfo(members.y.dtype)
        size, way = float(m.size[0]), (new - self.times[0]) * float(vector_norm(m.f))
        # What the errors of the state and of the energy are held to; not zero by underflow.
        bound = max(problem.atol + problem.rtol * size, dtype.tiny)
        scale = max(first_loss, abs(float(m.loss[0])))
        energy_tolerance = max(energy_bound(problem.rtol, scale, bound), dtype.tiny)
        tolerance = max(bdf.step_tolerance(bound, way, size, dtype.eps), dtype.tiny)
        formulas = bdf.formulas(self.times, new, order)
        found = bdf.bdf_step(
            functools.partial(system.velocity, new),
            self.states,
            formulas,
            tolerance,
            size,
            most_products=min(bdf.MOST_PRODUCTS, problem.max_evals - int(m.evals[0])),
        )
        y, f = found.state[None], found.rate[None]
        signal = rate = system.dissipation(y, f)
        if rival:
            signal = rival_error(m.y, m.f, y, f, new - self.times[0])
        numbers = system.measure(y, problem.event, signal, rate, found.misses)
        loss, size, event, signal, rate = numbers[:5]
        # The energy obeys the same formulas.
        before = [energy - self.energies[0] for energy in self.energies]
        gained = (float(rate) - _dot(formulas.slope, before)) / formulas.alpha
        self._errors = {}
        misses = zip(formulas.predictors.items(), numbers[5:].tolist(), strict=True)
        for (p, weights), miss in misses:
            of_energy = abs(gained - _dot(weights, before)) / energy_tolerance
            self._errors[p] = formulas.errors[p] * max(miss / tolerance, of_energy)
        # Whatever binds, as an error of the state; not converged, as one beyond all bounds.
        error = self._errors[order] * bound if found.converged else math.inf
        return Tried(y, f, StepMeasurement(error, 0.0, gained, rate, size, loss, signal, event))

    def next(self, step: float) -> float:
        """The next step after a good one; chooses its order, too."""
        self.since += 1
        self.steps += 1
        settled = self.since > self.order
        order, h = bdf.next_order_and_step(self._errors, self.order, step, settled=settled)
        if order != self.order and self.steps > bdf.HISTORY:
            self.since = 0
        self.order = order
        return h

    def shorter(self, step: float, error: float, again: bool) -> float:
        """The next step after a bad one; the order falls where that happens again."""
        if again and self.order > 1:
            self.order, self.since = self.order - 1, 0
        if not 0 < error < math.inf:  # no estimate, or refused for its loss alone
            return 0.4 * step
        return step * min(max(0.3, 0.85 * error ** (-1 / (self.order + 1))), 0.7)


def _dot(weights: list[float], values: list[float]) -> float:
    """Σ weights·values, over as many as there are weights."""
    return sum(map(operator.mul, weights, values))
