"""Whether a path left its saddles at the right time.

Near a saddle every error in a growing mode is amplified by all the growth still to come, and a mode
below a solver's floors stands still for ever; energy, loss and velocity look right on such a path.
Two measurements find it. The gain is the log of the growth of a perturbation along the path: the
integral of the Jacobian's largest eigenvalue, less what is lost where its mode turns. Where it is
large, a finer solve whose steps resolve growing modes gives the error of the states.

Where no mode grows this costs some products with the Jacobian, a twelfth of the evaluations of the
solve; the finer solve costs about twice the solve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.linalg.arrays import to_numpy
from gflow.linalg.blocks import spread
from gflow.solvers.loop.gain import next_gain, next_total
from gflow.solvers.loop.growth_rate import (
    PRODUCTS,
    Growth,
    by_products,
    growth_rate,
    needs_exact,
    random_vectors,
)
from gflow.solvers.loop.system import System
from gflow.solvers.problem import Problem

_CHECKED = math.log(50.0)  # the gain from which on a finer solve checks the path
_SHARE = 1 / 12  # of the evaluations of the solve
_FEWEST = 4  # products
_LAST_PRODUCTS = 12  # at the end of the path
_CLOSE = 0.1  # relative distance of states that are on the same plateau
_STANDS = math.log(100.0)  # of a mode: behind its growth by more, it stands still
_STILL = 64.0  # units of round-off: a state that has not moved
_REST = 1e-3  # size of the growing mode, relative to the state, at which a path rests


@dataclass(frozen=True)
class Amplification:
    """What a path amplified.

    Attributes
    ----------
    gain : float
        Log of the largest growth of a perturbation.
    evals : int
        Evaluations that this took after the solve.
    rest : str
        Where the path ends at rest on a saddle: the mode that should leave it.
    checked : bool
        Whether so much must be checked by a finer solve.
    frozen : float
        Size, relative to the state and at most 1, that a growing mode should have reached while
        the path stayed at a saddle, where it has not grown; 0 where there is no such mode.
    """

    gain: float
    evals: int
    rest: str
    checked: bool
    frozen: float = 0.0


def amplification(problem: Problem) -> Amplification:
    """Measure what a solved path amplified.

    Parameters
    ----------
    problem : Problem
        Solved. What gflow's own methods measured on the way is used; along the path of a library's
        method the growth is measured here.

    Returns
    -------
    Amplification

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.KernelFlow.example()
    >>> amplification(Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)).gain
    0.0
    """
    if problem.flow.affine:
        return Amplification(0.0, 0, "", False)
    budget = max(_FEWEST, int(_SHARE * problem.rhs_evals / max(problem.batch.numel(), 1)))
    # In the coordinates of the solve, which have no directions that the flow cannot take.
    before = 0.0
    if problem.segments:
        *earlier, problem = problem.segments
        before = sum(float(np.max(part.gain)) for part in earlier if part.gain is not None)
    measure = _Measure(problem)
    gain = np.zeros(max(problem.batch.numel(), 1))
    if problem.gain is not None:
        gain = np.maximum(gain, problem.gain)
    else:
        at = spread(len(problem.visited), max(2, (budget - _FEWEST) // PRODUCTS))
        gain = np.maximum(gain, measure.gain_along([problem.visited[i] for i in at]))
        gain = np.maximum(gain, _speed_gain(problem))
    rate, vector, f = measure.at(problem.y, min(_LAST_PRODUCTS, max(budget - measure.evals, 2)))
    gain = np.maximum(gain, rate * _dwell(problem))
    largest, rest = before + float(np.max(gain)), _rest(problem, rate, vector, f)
    frozen = _frozen(problem, measure, rate, vector, f) if rest else 0.0
    return Amplification(largest, measure.evals, rest, largest > _CHECKED, frozen)


class _Measure:
    """Growth rates at states of a path."""

    def __init__(self, problem: Problem):
        self._problem, self._system = problem, System(problem)
        self._members = max(problem.batch.numel(), 1)
        self._vectors: Any = None
        self._exact, self._usable = False, True  # whether exact products were needed, and are there
        self._system.select(np.arange(self._members))

    @property
    def evals(self) -> int:
        """The evaluations so far."""
        return self._system.calls

    def at(self, y: Tensor, products: int) -> tuple[np.ndarray, Tensor, Tensor]:
        """Return the rate and the mode of every member, and its velocity."""
        rows = self._rows(y)
        if self._vectors is None:
            self._vectors = random_vectors(rows, 1)
        f = self._velocity(rows)
        growth = self._growth(rows, f, self._vectors, max(products, 2))
        span = self._problem.ts[-1]
        if not self._exact and bool(needs_exact(self._problem.flow, growth.blind, span).any()):
            self._exact = True
            growth = self._growth(rows, f, growth.vectors, max(products, 2))
        self._vectors, self._last = growth.vectors, growth
        mode = torch.as_tensor(growth.vectors[:, 0])
        return np.nan_to_num(growth.rate), mode, torch.as_tensor(f)

    def _growth(self, rows: Any, f: Any, vectors: Any, products: int) -> Growth:
        chart = self._system.perturbations(rows)

        def estimate(product: Callable[[Any], Any] | None) -> Growth:
            return growth_rate(
                self._velocity,
                rows,
                f,
                vectors,
                products,
                seed=self.evals,
                product=product,
                chart=chart,
            )

        if not (self._exact and self._usable):
            return estimate(None)
        growth, self._usable = by_products(estimate, lambda v: self._system.product(rows, v))
        return growth

    def gain_along(self, path: list[tuple[float, Tensor]]) -> np.ndarray:
        """Return the gain of every member along states of its path."""
        gain = total = np.zeros(self._members)
        before, t_before = np.zeros(self._members), path[0][0]
        for t, y in path:
            rate, _, _ = self.at(y, PRODUCTS)
            gain = next_gain(gain, self._last.kept, before, rate, t - t_before)
            total = next_total(total, gain, before, self._last.followed, t - t_before)
            before, t_before = rate, t
        return total

    def velocity(self, y: Tensor) -> Tensor:
        """Return the velocity of every member at states, as if at the end of the path."""
        return torch.as_tensor(self._velocity(self._rows(y)))

    def _velocity(self, rows: Any) -> Any:
        return self._system.velocity(self._problem.t, rows)

    def _rows(self, y: Tensor) -> Any:
        return self._system.native(y.reshape(self._members, -1))


def _speed_gain(problem: Problem) -> np.ndarray:
    """Return the log of the growth of every member's speed between the states that are kept.

    The velocity of an autonomous flow is itself a perturbation of the path, and needs no product:
    a few estimates may miss the times at which it grows.
    """
    times, states = zip(*problem.visited, strict=True)
    rows = torch.stack(states).reshape(len(times), max(problem.batch.numel(), 1), -1)
    elapsed = np.diff(times)[:, None]
    moved, size = (to_numpy(vector_norm(x, dim=2)) for x in (rows.diff(dim=0), rows[1:]))
    # What is below the errors of a step is noise.
    speed = np.maximum(moved, problem.atol + problem.rtol * size) / elapsed
    if not len(speed):
        return np.zeros(rows.shape[1])
    grown: np.ndarray = np.log(speed / np.minimum.accumulate(speed)).max(axis=0)
    return np.nan_to_num(grown, nan=0.0, posinf=0.0)


def _dwell(problem: Problem) -> np.ndarray:
    """Return the time that every member has spent near its last state."""
    return _arrival(problem, _CLOSE)[0]


def _arrival(problem: Problem, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for every member the time since it came near its last state, and its number then.

    The distance is relative to the state, the number that of a saved state, or their count for the
    last one.
    """
    flow, states = problem.flow, [*problem.saved, problem.y]
    times = [*problem.ts[: len(problem.saved)], problem.t]
    size = to_numpy(flow.norm(problem.y)).reshape(-1)
    dwell = np.zeros(len(size))
    near = np.ones(len(size), bool)
    arrived = np.full(len(size), len(problem.saved))
    for i in reversed(range(len(states))):
        near &= to_numpy(flow.norm(states[i] - problem.y)).reshape(-1) <= distance * size
        dwell[near], arrived[near] = problem.t - times[i], i
    return dwell, arrived


def _frozen(
    problem: Problem, measure: _Measure, rate: np.ndarray, vector: Tensor, f: Tensor
) -> float:
    """Return the relative size that a mode should have reached, if it has not grown; else 0.

    A mode below the round-off of other entries of the state may have a velocity and yet stand
    still. Finer solves then stand still, too.
    """
    dwell, numbers = _arrival(problem, _STILL * torch.finfo(f.dtype).eps)
    states = [*problem.saved, problem.y]
    rows = [states[i].reshape(len(f), -1)[member] for member, i in enumerate(numbers.tolist())]
    size = to_numpy(vector_norm(problem.y.reshape(len(f), -1), dim=1))
    then, now = (
        to_numpy((vector * velocity).sum(dim=1).abs())
        for velocity in (measure.velocity(torch.stack(rows)), f)
    )
    with np.errstate(all="ignore"):
        expected = np.log(then / rate) + rate * dwell
        grown = np.exp(np.minimum(expected - np.log(size), 0.0))
        stands = (rate > 0) & (np.log(now / rate) < expected - _STANDS) & (rate * dwell > _STANDS)
    return float(np.max(np.where(stands & np.isfinite(grown), grown, 0.0)))


def _rest(problem: Problem, rate: np.ndarray, vector: Tensor, f: Tensor) -> str:
    """Describe the mode that should leave the saddle on which a member rests."""
    size = to_numpy(vector_norm(problem.y.reshape(len(f), -1), dim=1))
    part = to_numpy((vector * f).sum(dim=1).abs())
    with np.errstate(all="ignore"):
        component = part / rate
        speed = to_numpy(vector_norm(f, dim=1)) / rate
    rests = (rate > 0) & (speed <= _REST * size) & (rate * (problem.t - problem.ts[0]) > 1)
    if not rests.any():
        return ""
    row = int(np.flatnonzero(rests)[np.argmin(component[rests])])
    who = "" if len(f) == 1 else f"member {row} "
    return (
        f"{who}ends at rest on a saddle: a mode of size {component[row]:.2g} there grows at the "
        f"rate {rate[row]:.2g}"
    )
