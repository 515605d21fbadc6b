"""The base classes of solvers.

A new method is one file in this folder, of one of two kinds.

A **method of gflow's own** is a `Stepper`: a name, the order of its error estimate and the formula
of one step. The stepping loop (``loop/``) owns step sizes, stages, landing on requested times,
ensembles, events and checkpoints.

A **library's method** is a `Solver` that passes the whole problem to the library. Its
``names`` are what users pass as ``method``. `Solver.solve` integrates by calling

1. ``problem.rhs(t, z)`` for the right-hand side, where z is one vector: the state,
   then the energy dissipated so far (one entry per member);
2. ``problem.accept(t, z)`` after each accepted step, in order of time, landing on every
   time in ``problem.ts`` exactly (to the bit);
3. ``problem.reject()`` after each rejected one.

Errors are measured as ‖e‖₂ ≤ atol + rtol‖y‖₂, for each member. This norm is the one
that defines the gradient and does not depend on the basis, so an error in a single sharp
direction cannot hide among thousands of parameters as it does in a root-mean-square
norm over entries.

A solve that cannot continue raises `Stop`, which a solver does not catch.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import Array
from gflow.solvers.problem import Problem

#: increment(c, Y) = F(t + c·h, Y), of the shape of Y, (members, entries); where members have steps
#: of different lengths, times each member's h over the longest. A third argument, if given,
#: receives the result.
Increment = Callable[..., Any]


class Solver(abc.ABC):
    """One family of methods."""

    #: What users pass as ``method``.
    names: tuple[str, ...]
    #: The names of fixed-step methods, whose step size the caller gives.
    fixed_step: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def solve(self, problem: Problem, method: str) -> None:
        """Integrate from ``problem.ts[0]`` to ``problem.ts[-1]``.

        Parameters
        ----------
        problem : Problem
            It receives the results.
        method : str
            One of ``names``.

        Raises
        ------
        Stop
            If the solve cannot continue.
        """


class Step(NamedTuple):
    """The result of one step, one row per member: tensors, or arrays as the states are."""

    y: Any  #: at the end of the step, (members, entries)
    k: Any  #: the increment there, (members, entries)
    error: Any  #: estimated local error, (members, entries)
    #: Computes h|λ| of the stiffest mode, (members,), for the choice of method (switching.py).
    signal: Callable[[], Any] | None = None


class Method(abc.ABC):
    """A method of gflow's own: the interface that the stepping loop uses."""

    #: What users pass as ``method``; empty for a base class.
    name: ClassVar[str] = ""
    #: Order of the error estimate: error = O(h^error_order).
    error_order: ClassVar[int]
    #: Whether more stages allow longer stable steps: the loop then estimates ρ = max(−λ).
    stabilised: ClassVar[bool] = False

    @abc.abstractmethod
    def stages(self, reach: float) -> int:
        """Return the fewest stages of a step that is stable for h·ρ = reach."""

    @abc.abstractmethod
    def reach(self, stages: int) -> float:
        """Return the largest stable h·ρ with this number of stages."""

    def max_stages(self, rtol: float, eps: float) -> int:
        """Return the number of stages beyond which amplified round-off exceeds the tolerance.

        Parameters
        ----------
        rtol : float
            Relative tolerance of the solve.
        eps : float
            Unit round-off of the state's dtype.

        Returns
        -------
        int
        """
        return self.stages(0.0)

    def error_factor(self, rtol: float) -> float:
        """Return a factor on the estimated error that makes the global error proportional to rtol.

        It is 1 where the global error has the order of the estimate, h^error_order.
        """
        return 1.0


class Stepper(Method):
    """One explicit method: the data and the formula of a step; the loop does the rest.

    The formula takes tensors, and NumPy arrays, with which small states are faster. A step does
    not receive t, and receives one h, the longest; see `Increment`. It must not write to the
    increments. The last one that it computes is at the end of the step. An instance serves one
    solve at a time, so that it may reuse memory from step to step.
    """

    @abc.abstractmethod
    def step(self, increment: Increment, y: Array, k0: Array, stages: int, h: float = 1.0) -> Step:
        """Compute one step of every member.

        Parameters
        ----------
        increment : callable
            ``increment(c, Y)`` is f(t + c·h, Y), scaled as `Increment` says; one evaluation.
        y : Tensor or ndarray, shape (members, entries)
            The states at the start of the step.
        k0 : Tensor or ndarray, shape (members, entries)
            The increment there; it must not be written to.
        stages : int
            The number of stages, as `stages` returned it.
        h : float
            The step size, the longest where members differ.

        Returns
        -------
        Step
            The states at its end, with their estimated errors.
        """

    def energy(self, rates: np.ndarray, stages: int) -> np.ndarray:
        """Return the energy dissipated in a step and its estimated error, both over h.

        The integral is treated as one more equation, solved by the same step.

        Parameters
        ----------
        rates : ndarray, shape (evaluations + 1, members)
            −dφ/dt at the start and at every increment, in the order of their evaluation. For a
            single start without the dimension of members.
        stages : int

        Returns
        -------
        ndarray, shape (2, members)
        """
        return np.dot(quadrature(type(self), stages), rates)


@functools.lru_cache(maxsize=256)
def quadrature(method: type[Stepper], stages: int) -> np.ndarray:
    """Return the weights of a step's increments in its end and in its error estimate.

    They are the result of one step from zero whose i-th increment is the i-th unit vector.

    Parameters
    ----------
    method : type
        A `Stepper`.
    stages : int

    Returns
    -------
    ndarray, shape (2, evaluations + 1)

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

    zero = torch.zeros(1, 1, dtype=torch.float64)
    method().step(count, zero, zero, stages)
    units = iter(torch.eye(evaluations + 1, dtype=torch.float64).unsqueeze(1))
    k0, start = next(units), torch.zeros(1, evaluations + 1, dtype=torch.float64)

    def unit(c: float, Y: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mul(next(units), 1.0, out=out)

    step = method().step(unit, start, k0, stages)
    return torch.cat([step.y, step.error]).numpy()
