"""The contracts of solvers, and what every solve shares: counting, watching, saving.

For authors of solvers there are two ways in, each a file in this folder.

A **method of gflow's own** is a `Stepper`: a name, two orders and the formula of one
step. The stepping loop (stepping.py) owns step sizes, stages, landing, ensembles,
events and checkpoints.

A **library's method** is a `Solver` that hands the whole problem to the library. Its
``names`` are what users pass as ``method``. `solve` integrates by calling

1. ``problem.rhs(t, z)`` for the right-hand side, where z is one vector: the state,
   then the energy dissipated so far (an integral carried along, one entry a member);
2. ``problem.accept(t, z)`` after each accepted step, in order of time, landing on every
   time in ``problem.ts`` exactly (to the bit);
3. ``problem.reject()`` after each rejected one.

Errors are measured as ‖e‖₂ ≤ atol + rtol‖y‖₂, for each member. This norm is the one
that defines the gradient and does not depend on the basis, so an error in a single sharp
direction cannot hide among thousands of parameters as it does in a root-mean-square
norm over entries.

A solve that cannot go on raises `Stop`: a solver lets it pass.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.solvers.problem import Problem

#: increment(c, Y) = F(t + c·h, Y), of the shape of Y, (members, entries), times each member's own
#: h over that of the step where they differ; a third argument, if given, takes the result
Increment = Callable[..., Tensor]


class Solver(abc.ABC):
    """One family of methods."""

    #: What users pass as ``method``.
    names: tuple[str, ...]
    #: Those among them that take steps of a size given by the caller.
    fixed_step: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def solve(self, problem: Problem, method: str) -> None:
        """Integrate from ``problem.ts[0]`` to ``problem.ts[-1]``."""


class Step(NamedTuple):
    """What one step gives, for every member a row."""

    y: Tensor  #: at the end of the step, (members, entries)
    k: Tensor  #: the increment there, (members, entries)
    error: Tensor  #: estimated local error, (members, entries)
    #: What says whether another method would do better (switching.py), (members,).
    signal: Callable[[], Tensor] | None = None


class Method(abc.ABC):
    """What the loop knows of a method of gflow's own, whatever its kind."""

    #: What users pass as ``method``; empty for a base class.
    name: ClassVar[str] = ""
    #: Of the error estimate: error = O(h^error_order).
    error_order: ClassVar[int]
    #: Whether more stages reach farther: the loop then measures ρ = max(−λ).
    stabilized: ClassVar[bool] = False

    @abc.abstractmethod
    def stages(self, reach: float) -> int:
        """The fewest stages of a step that is stable for h·ρ = reach."""

    @abc.abstractmethod
    def reach(self, stages: int) -> float:
        """The largest stable h·ρ with so many stages."""

    def max_stages(self, rtol: float, eps: float) -> int:
        """Stages beyond which round-off, amplified, exceeds the tolerance."""
        return self.stages(0.0)

    def error_factor(self, rtol: float) -> float:
        """Factor on the estimated error that makes the global error proportional to rtol.

        1 where the estimate is of the order of the global error, h^error_order.
        """
        return 1.0


class Stepper(Method):
    """One explicit method: data and the formula of a step; the loop owns everything else.

    A step does not see t, and sees one h, the longest: its increments are those of F, or where
    members have steps of their own F times each one's part of h. It must not write to them.
    The last one is asked for at the end of the step. An instance serves one solve at a time,
    so that it may keep memory from step to step.
    """

    @abc.abstractmethod
    def step(
        self, increment: Increment, y: Tensor, k0: Tensor, stages: int, h: float = 1.0
    ) -> Step:
        """A step h from y, (members, entries), where the increment is k0."""

    def energy(self, rates: np.ndarray, stages: int) -> np.ndarray:
        """The energy dissipated in a step, and its estimated error, both over h, (2, members).

        ``rates``, (evaluations + 1, members), are −dφ/dt at the start and wherever an
        increment was asked for, in that order: the integral is one more equation, solved by
        the same step. A lone start's have no dimension of members.
        """
        return np.dot(quadrature(type(self), stages), rates)


@functools.lru_cache(maxsize=256)
def quadrature(method: type[Stepper], stages: int) -> np.ndarray:
    """Weights of a step's increments in its end and in its error estimate, (2, evaluations + 1).

    Read off one step from zero whose i-th increment is the i-th unit vector.

    Examples
    --------
    >>> from gflow.solvers.rkc2 import RKC2
    >>> ends, errors = quadrature(RKC2, 3)
    >>> round(float(ends.sum()), 12), abs(round(float(errors.sum()), 12))
    (1.0, 0.0)
    """
    evaluations = 0

    def count(c: float, Y: Tensor, out: Tensor | None = None) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return torch.mul(Y, 0.0, out=out)

    none = torch.zeros(1, 1, dtype=torch.float64)
    method().step(count, none, none, stages)
    units = iter(torch.eye(evaluations + 1, dtype=torch.float64).unsqueeze(1))
    k0, start = next(units), torch.zeros(1, evaluations + 1, dtype=torch.float64)

    def unit(c: float, Y: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mul(next(units), 1.0, out=out)

    step = method().step(unit, start, k0, stages)
    return torch.cat([step.y, step.error]).numpy()
