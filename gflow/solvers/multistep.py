"""A multistep method in the stepping loop: the past of a lone start, and its next step."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.solvers import bdf
from gflow.solvers.base import Method
from gflow.solvers.bdf import BDFStep, Formulas
from gflow.solvers.system import System

_ROOM = 4 * bdf.HISTORY  # rows of memory: the past moves to its end once in so many steps


class BDF(Method):
    """Matrix-free BDF of orders 1 to 6, for one start at a time."""

    name = "bdf"
    error_order = 2  # of the lowest order, for the first step

    def stages(self, reach: float) -> int:
        return 2  # at least the residual and one product

    def reach(self, stages: int) -> float:
        return math.inf


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
        self._tolerance: float  #: of the step in progress
        self._formulas: Formulas  #: of the step in progress
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
        self, system: System, new: float, f: Tensor, size: float, bound: float, most_products: int
    ) -> BDFStep:
        """A step to the time new; f, (n,), is the velocity at its start and size ‖y‖ there.

        ``bound`` is what the error of the state is held to.
        """
        way, dtype = (new - self.times[0]) * float(vector_norm(f)), torch.finfo(f.dtype)
        self._formulas = bdf.formulas(self.times, new, self.order)
        self._tolerance = max(bdf.step_tolerance(bound, way, size, dtype.eps), dtype.tiny)
        return bdf.bdf_step(
            functools.partial(system.velocity, new),
            self.states,
            self._formulas,
            self._tolerance,
            size,
            most_products=most_products,
        )

    def assess(
        self, rate: float, misses: Sequence[float], energy_bound: float
    ) -> tuple[float, float]:
        """Of the step just attempted: its error over its tolerance, and the energy dissipated.

        ``rate`` is −dφ/dt at its end, ``misses`` are `BDFStep.misses`, and ``energy_bound``
        is what the error of the energy integral is held to.
        """
        order, alpha, slope, predictors, errors = self._formulas
        before = [energy - self.energies[0] for energy in self.energies]
        gained = (rate - _dot(slope, before)) / alpha
        self._errors = {}
        for miss, (p, weights) in zip(misses, predictors.items(), strict=True):
            of_energy = abs(gained - _dot(weights, before)) / energy_bound
            self._errors[p] = errors[p] * max(miss / self._tolerance, of_energy)
        return self._errors[order], gained

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
