"""``krylov``: flows affine in their state, from a Krylov space of their symmetric Jacobian.

With A = −∂f/∂y, symmetric positive semidefinite,

    y(t) = ȳ + e^{−(t−t₀)A}(y₀ − ȳ)            where the flow knows a state ȳ at rest,
    y(t) = y₀ + (t−t₀) φ_1(−(t−t₀)A) f(y₀)     else,

by Lanczos (`gflow.linalg.exponential`): matrix-free, one space for all times, and a bound on the
error that keeps it below ``atol + rtol · (the larger of ‖y₀‖ and ‖y(T)‖)`` at every time, as the
global error, not a step's. Members of an ensemble have a space each and share the calls.

The energy integral does not rely on the space. It is the quadrature of ⟨−∇φ, ẏ⟩ along the
computed path, plus that of ⟨−∇φ, f(y) − ẏ⟩ with the flow's own right-hand side at a dozen
states: a path that does not obey y' = f(y), whatever its cause (a product that is not the
Jacobian's, lost orthogonality, an operator that is not symmetric), does not close the
energy balance. Those states count as evaluations, as do the products, one for all members.

Round-off of the eigenvalues, some eps·λ_max, decides about modes with λ near it at t = 1/λ.
Its effect is estimated; where it passes the tolerance ``auto`` takes steps instead: an implicit
step loses no more than the products do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.linalg.arrays import to_numpy
from gflow.linalg.exponential import MEMORY, KrylovSegment, exponential
from gflow.solvers.base import Solver
from gflow.solvers.exact import ExactSolver, accept_all
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.solvers.problem import Problem, Stop, out_of_budget
from gflow.trajectory.round_off import product_round_off, round_off_bound

_STEP_TOLERANCE = 0.1  # of rtol, where steps replace the Krylov space
_RATIO = 6.0  # of a quadrature panel's ends
_FINE = np.polynomial.legendre.leggauss(16)
_COARSE = np.polynomial.legendre.leggauss(3)
_COARSE_EDGES = (0.0, 1 / 64, 1 / 16, 1 / 4, 1.0)
_ENERGY_EVALS = 12  # evaluations that are reserved for the energy: the coarse nodes


class KrylovSolver(Solver):
    """No steps: every time from the start, through one Krylov space (more where memory ends)."""

    names: tuple[str, ...] = ("krylov",)

    def solve(self, problem: Problem, method: str) -> None:
        flow, y0 = problem.flow, problem.y0
        if not flow.affine:
            raise InputError(
                f"method 'krylov' needs a flow that is affine in its state, such as KernelFlow; "
                f"{type(flow).__name__} is not: choose another, such as 'rkc2' or 'dopri5'"
            )
        ts = np.array(problem.ts)
        dissipated, done = torch.zeros_like(flow.loss(y0)), 1
        for path in _paths(problem, float(ts[-1])):
            problem.round_off += path.round_off(ts[(ts > path.begin) & (ts <= path.segment.end)])
            while done < len(ts) and ts[done] <= path.segment.end:
                chunk = ts[done : done + path.at_once]
                chunk = chunk[chunk <= path.segment.end]
                accept_all(problem, problem.ts[done : done + len(chunk)], path.states(chunk))
                done += len(chunk)
            dissipated = dissipated + path.dissipated()
        problem.dissipated = dissipated
        if done < len(ts):
            raise Stop(out_of_budget(problem.max_evals))


class KrylovOrSteps(KrylovSolver):
    """Krylov spaces; steps where round-off of the eigenvalues decides.

    Parameters
    ----------
    stepped : SteppedSolver
        Takes over, from the start.
    """

    names: tuple[str, ...] = ()

    def __init__(self, stepped: SteppedSolver):
        self._stepped = stepped

    def solve(self, problem: Problem, method: str) -> None:
        if problem.resume is None:
            super().solve(problem, method)
            bound = round_off_bound(problem.rtol, problem.y0.dtype)
            if problem.round_off <= bound:
                return
            ys = torch.stack(problem.saved)
            if product_round_off(problem.flow, problem.ts, ys, bound) > bound:
                return  # steps would lose as much
            problem.restart()
        # The tolerance of krylov bounds the global error, that of a step its local error.
        rtol, least = problem.rtol, 4 * torch.finfo(problem.y0.dtype).eps
        problem.rtol = max(_STEP_TOLERANCE * rtol, least)
        try:
            self._stepped.solve(problem, method)
        finally:
            problem.rtol = rtol
        remark = "krylov loses the slowest modes to round-off, so the solve takes steps"
        problem.remark = "; ".join(filter(None, (remark, problem.remark)))


class KrylovOrExact(KrylovSolver):
    """Krylov spaces; the closed form where they take more products than it is worth.

    Parameters
    ----------
    max_products : int
        What it is worth.
    """

    names: tuple[str, ...] = ()

    def __init__(self, max_products: int):
        self._max_products = max_products

    def solve(self, problem: Problem, method: str) -> None:
        max_evals = problem.max_evals
        problem.max_evals = min(max_evals, self._max_products + _ENERGY_EVALS)
        try:
            super().solve(problem, method)
            if problem.round_off <= round_off_bound(problem.rtol, problem.y0.dtype):
                return
            remark = "krylov loses the slowest modes to round-off"
        except Stop:
            remark = f"krylov takes more than {self._max_products} products"
        finally:
            problem.max_evals = max_evals
        problem.restart()
        ExactSolver().solve(problem, method)
        problem.main_methods = ["exact"]
        problem.remark = f"{remark}, so the solve takes the closed form ({problem.closed_form})"


class _Path:
    """The states of one segment of the solve."""

    def __init__(self, problem: Problem, segment: KrylovSegment, origin: Tensor):
        self.problem, self.segment, self.origin = problem, segment, origin
        self.begin = segment.begin
        self.at_once = max(1, MEMORY // (8 * problem.y0.numel()))  # states

    def states(self, ts: np.ndarray) -> Tensor:
        """Return the states at times since the start, (T, *y0.shape)."""
        return self.origin + self.segment.values(ts).reshape(len(ts), *self.problem.y0.shape)

    def round_off(self, ts: np.ndarray) -> float:
        """Return what round-off may do to the states at times, relative to the largest."""
        problem = self.problem
        end = self.states(np.array([self.segment.end]))
        size = torch.maximum(problem.flow.norm(problem.y0), problem.flow.norm(end[0])).reshape(-1)
        error = self.segment.round_off(np.append(ts, self.segment.end)).max(axis=0)
        return float((error / np.maximum(to_numpy(size), np.finfo(float).tiny)).max())

    def dissipated(self) -> Tensor:
        """Return ∫⟨−∇φ, f⟩dt over the segment (see the module's head), of the shape of the loss."""
        flow, y0, segment = self.problem.flow, self.problem.y0, self.segment
        span, fastest = segment.end - segment.begin, float(segment.space.ritz()[0].max())
        edges = [span]
        while edges[-1] * fastest > 1:
            edges.append(edges[-1] / _RATIO)
        coarse, coarse_weights = _nodes(span * np.array(_COARSE_EDGES), _COARSE)
        fine, fine_weights = _nodes(np.array([0.0, *reversed(edges)]), _FINE)
        ts = segment.begin + np.concatenate([coarse, fine])
        weights = np.concatenate([coarse_weights, fine_weights])
        total = torch.zeros_like(flow.loss(y0))
        # Round-off of f, whose integral would grow with time at rest.
        noise = 100 * torch.finfo(y0.dtype).eps * fastest * flow.loss(y0).abs()
        for i in range(0, len(ts), self.at_once):
            chunk = ts[i : i + self.at_once]
            ys, rates = self.states(chunk), segment.rates(chunk).reshape(-1, *y0.shape)
            count = min(max(len(coarse) - i, 0), len(chunk))  # where the defect is measured
            if count:
                velocity = flow(self.problem.origin, ys[:count])
                rates = torch.cat([velocity - rates[:count], rates[count:]])
            rate = flow.dissipation(ys, rates)
            rate[:count] = torch.where(rate[:count].abs() > noise, rate[:count], 0.0)
            weight = torch.from_numpy(weights[i : i + self.at_once]).to(rate)
            total = total + torch.tensordot(weight, rate, dims=1)
        self.problem.rhs_evals += len(coarse)
        return total


def _paths(problem: Problem, span: float) -> Iterator[_Path]:
    """Yield the solve, segment by segment."""
    flow, y0, t0 = problem.flow, problem.y0, problem.origin
    members = max(1, flow.batch_shape(y0).numel())

    def rows(y: Tensor) -> Tensor:
        return y.reshape(members, -1)

    def product(v: Tensor) -> Tensor:
        problem.rhs_evals += 1
        return -rows(flow.jvp(y0, v.reshape(y0.shape)))

    def tolerance(w: Tensor) -> Tensor:
        size = torch.maximum(rows(y0).norm(dim=1), rows(origin + w.reshape(y0.shape)).norm(dim=1))
        return problem.atol + max(problem.rtol, 10 * torch.finfo(w.dtype).eps) * size

    stationary_state = flow.stationary_state
    if stationary_state is None:
        problem.rhs_evals += 1
        origin, start, order = y0, flow(t0, y0), 1
    else:
        origin, start, order = stationary_state.expand(y0.shape), y0 - stationary_state, 0
    max_products = max(problem.max_evals - problem.rhs_evals - _ENERGY_EVALS, 0)
    segments = exponential(
        product, rows(start), span, tolerance, order=order, max_products=max_products
    )
    for segment in segments:
        yield _Path(problem, segment, origin)


def _nodes(edges: np.ndarray, rule: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return times and weights of a quadrature over panels."""
    points, weights = rule
    a, b = edges[:-1, None], edges[1:, None]
    return (0.5 * (a + b) + 0.5 * (b - a) * points).ravel(), (0.5 * (b - a) * weights).ravel()
