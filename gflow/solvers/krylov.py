"""``krylov``: flows affine in their state, from a Krylov space of their symmetric Jacobian.

With A = −∂f/∂y, symmetric positive semidefinite,

    y(t) = ȳ + e^{−(t−t₀)A}(y₀ − ȳ)            where the flow knows a state ȳ at rest,
    y(t) = y₀ + (t−t₀) φ_1(−(t−t₀)A) f(y₀)     else,

by Lanczos (`gflow.krylov`): matrix-free, one space for all times, and a bound on the
error that holds it to ``atol + rtol · (the larger of ‖y₀‖ and ‖y(T)‖)`` at every time, as the
global error, not a step's. Members of an ensemble have a space each and share the calls.

The energy integral does not believe the space. ∫⟨−∇φ, ẏ⟩ is a quadrature along the
computed path, and to it comes ∫⟨−∇φ, f(y) − ẏ⟩ with the flow's own right-hand side at a dozen
states: a path that does not obey y' = f(y), whatever its cause (a product that is not the
Jacobian's, lost orthogonality, an operator that is not symmetric), does not close the
energy balance. Those states count as evaluations, as do the products, one for all members.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.krylov import MEMORY, Piece, exponential
from gflow.solvers.base import Problem, Solver, Stop, out_of_budget

_RATIO = 3.0  # of a quadrature panel's ends
_FINE = np.polynomial.legendre.leggauss(12)
_COARSE = np.polynomial.legendre.leggauss(3)
_COARSE_EDGES = (0.0, 1 / 64, 1 / 16, 1 / 4, 1.0)


class KrylovSolver(Solver):
    """No steps: every time from the start, through one Krylov space (more where memory ends)."""

    names = ("krylov",)

    def solve(self, problem: Problem, method: str) -> None:
        flow, y0 = problem.flow, problem.y0
        if not flow.affine:
            raise InputError(
                f"method 'krylov' needs a flow that is affine in its state, such as KernelFlow; "
                f"{type(flow).__name__} is not: choose another, such as 'rkc2' or 'dopri5'"
            )
        ts = torch.tensor(problem.ts, dtype=torch.float64) - problem.ts[0]
        dissipated, done = torch.zeros_like(flow.loss(y0)), 1
        for path in _paths(problem, float(ts[-1])):
            while done < len(ts) and ts[done] <= path.piece.end:
                # As many states at once as fit beside the basis.
                some = ts[done : done + max(1, MEMORY // (4 * y0.numel()))]
                for y in path.states(some[some <= path.piece.end]):
                    problem.accept_state(problem.ts[done], y, None)
                    done += 1
            dissipated = dissipated + path.dissipated()
        problem.dissipated = dissipated
        if done < len(ts):
            raise Stop(out_of_budget(problem.max_evals))


class _Path:
    """The states of one piece of the solve."""

    def __init__(self, problem: Problem, piece: Piece, origin: Tensor):
        self.problem, self.piece, self.origin = problem, piece, origin

    def states(self, ts: Tensor) -> Tensor:
        """At times since the start, shape (T, *y0.shape)."""
        y0 = self.problem.y0
        return self.origin + self.piece.values(ts).reshape(len(ts), *y0.shape)

    def dissipated(self) -> Tensor:
        """∫⟨−∇φ, f⟩dt over the piece, as the module's head says, of the shape of the loss."""
        flow, y0, piece = self.problem.flow, self.problem.y0, self.piece
        span = piece.end - piece.begin
        fastest = max(float(piece.space.values.max()), 1e-300)
        edges = [span]
        while edges[-1] * fastest > 0.3:
            edges.append(edges[-1] / _RATIO)
        total = torch.zeros_like(flow.loss(y0))
        for ts, weights in _nodes([0.0, *reversed(edges)], _FINE, y0.numel()):
            rates = piece.rates(piece.begin + ts).reshape(-1, *y0.shape)
            rate = flow.dissipation(self.states(piece.begin + ts), rates)
            total = total + torch.tensordot(weights.to(rate), rate, dims=1)
        for ts, weights in _nodes([span * e for e in _COARSE_EDGES], _COARSE, y0.numel()):
            ys = self.states(piece.begin + ts)
            rates = piece.rates(piece.begin + ts).reshape(-1, *y0.shape)
            defect = flow.dissipation(ys, flow(self.problem.ts[0], ys) - rates)
            self.problem.rhs_evals += len(ts)
            total = total + torch.tensordot(weights.to(defect), defect, dims=1)
        return total


def _paths(problem: Problem, span: float) -> Iterator[_Path]:
    """The solve, piece by piece."""
    flow, y0, t0 = problem.flow, problem.y0, problem.ts[0]
    members = max(1, flow.batch_shape(y0).numel())

    def rows(y: Tensor) -> Tensor:
        return y.reshape(members, -1)

    def product(v: Tensor) -> Tensor:
        problem.rhs_evals += 1
        return -rows(flow.jvp(y0, v.reshape(y0.shape)))

    def tolerance(w: Tensor) -> Tensor:
        size = torch.maximum(rows(y0).norm(dim=1), rows(origin + w.reshape(y0.shape)).norm(dim=1))
        return problem.atol + max(problem.rtol, 10 * torch.finfo(w.dtype).eps) * size

    rest = flow.rest
    if rest is None:
        problem.rhs_evals += 1
        origin, start, order = y0, flow(t0, y0), 1
    else:
        origin, start, order = rest.expand(y0.shape), y0 - rest, 0
    # A dozen evaluations are kept for the energy.
    left = max(problem.max_evals - problem.rhs_evals - len(_COARSE[0]) * 4, 0)
    pieces = exponential(product, rows(start), span, tolerance, order=order, max_products=left)
    for piece in pieces:
        yield _Path(problem, piece, origin)


def _nodes(
    edges: list[float], rule: tuple[np.ndarray, np.ndarray], size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Times and weights of a quadrature over panels, as many at once as memory allows."""
    points, weights = rule
    a, b = np.array(edges[:-1])[:, None], np.array(edges[1:])[:, None]
    ts = torch.from_numpy((0.5 * (a + b) + 0.5 * (b - a) * points).ravel())
    ws = torch.from_numpy((0.5 * (b - a) * weights).ravel())
    count = max(1, MEMORY // (8 * size))
    yield from zip(ts.split(count), ws.split(count), strict=True)
