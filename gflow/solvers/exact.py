"""``exact``: the flow's closed form, where it has one.

The energy integral is a quadrature of the dissipation along the closed form, with the
flow's own right-hand side: Gauss–Legendre of 7 to 16 points, by the tolerance, on panels
whose ends grow six-fold away from the start, where the fast modes decay. Panels where it
differs from the fall of the loss by more than the tolerance allows are bisected, all those
of a level in one call. Mostly there is one level, of 35 to 80 states, whatever the number of
requested times.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.linalg.arrays import to_numpy
from gflow.solvers.base import Solver
from gflow.solvers.problem import Problem

_RATIO = 6.0  # of the ends of a panel
_MAX_SPLITS = 400  # bisections of panels where the quadrature and the loss differ
_ALLOWED = 1e-3  # of rtol: their difference in one panel, relative to the first loss
_MEMORY = 2**24  # numbers in the states computed at once


class ExactSolver(Solver):
    """No steps: every time is computed from the start."""

    names = ("exact",)

    def solve(self, problem: Problem, method: str) -> None:
        flow, y0 = problem.flow, problem.y0
        if flow.batch_shape(y0):
            raise InputError(
                f"{type(flow).__name__} has no closed form for this loss and start, an ensemble; "
                "integrate its members one by one or choose a numerical method"
            )
        elapsed = np.array(problem.ts)
        start = flow.loss(y0)
        scale = max(float(start), torch.finfo(start.dtype).tiny)
        tolerance = max(_ALLOWED * problem.rtol, 20 * torch.finfo(start.dtype).eps) * scale
        # The first panel is no longer than the fastest time scale seen at the start.
        speed = float(flow.dissipation(y0, flow(0.0, y0))) / scale
        edges = [float(elapsed[-1])]
        while edges[-1] * speed > 1 and len(edges) < 400:
            edges.append(edges[-1] / _RATIO)
        b = np.array(edges[::-1])
        a = np.concatenate([[0.0], b[:-1]])
        rule = _rule(problem.rtol)
        ys, after, parts = _evaluate(problem, elapsed[1:], b, a, b, rule)
        accept_all(problem, problem.ts[1:], ys)
        problem.round_off = flow.round_off(torch.from_numpy(elapsed[1:]), y0)
        before = np.concatenate([[float(start)], after[:-1]])
        total, splits = 0.0, _MAX_SPLITS
        while True:
            # A mode that leaves a small start late changes within a part of its panel.
            wrong = np.abs(parts - (before - after)) > tolerance
            if not wrong.any() or splits <= 0:
                break
            splits -= int(wrong.sum())
            total += parts[~wrong].sum()
            a, b, before, after = a[wrong], b[wrong], before[wrong], after[wrong]
            middle = 0.5 * (a + b)
            a, b = np.concatenate([a, middle]), np.concatenate([middle, b])
            _, between, parts = _evaluate(problem, middle[:0], middle, a, b, rule)
            before, after = np.concatenate([before, between]), np.concatenate([between, after])
        problem.dissipated = torch.full_like(start, total + parts.sum())


def accept_all(problem: Problem, ts: list[float], ys: Tensor) -> None:
    """Accept the states at requested times, in few calls.

    Parameters
    ----------
    problem : Problem
    ts : list of float
        The next requested times.
    ys : Tensor, shape (len(ts), *state)

    Raises
    ------
    Stop
        If a loss is not finite.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> problem = Problem(flow, y0, [0.0, 1.0, 2.0], rtol=1e-6, atol=1e-9)
    >>> accept_all(problem, [1.0, 2.0], torch.stack([y0, y0]))
    >>> problem.t, problem.accepted
    (2.0, 2)
    """
    if problem.progress is None and len(ts) > 1:
        losses = problem.flow.loss(ys)
        problem.require_finite(losses)
        rise = losses.diff(dim=0).amax(dim=0)
        problem.largest_rise = torch.maximum(problem.largest_rise, rise)
        problem.saved += ys[:-1].unbind()
        problem.accepted += len(ts) - 1
        ts, ys = ts[-1:], ys[-1:]
    for t, y in zip(ts, ys, strict=True):
        problem.accept_state(t, y, None)


@functools.lru_cache(maxsize=32)
def _rule(rtol: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights on [−1, 1] that resolve e^{−2λt} on a panel for every λ.

    The error is at most _ALLOWED·rtol.
    """
    digits = -math.log10(rtol)
    return np.polynomial.legendre.leggauss(min(16, max(7, 4 + int(1.7 * digits))))


def _evaluate(
    problem: Problem,
    saved: np.ndarray,
    ends: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    rule: tuple[np.ndarray, np.ndarray],
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return states at the times ``saved``, losses at the times ``ends``, and dissipated energies.

    The energies are integrals from each a to its b, by quadrature. All are computed in one call of
    the closed form, if memory allows.
    """
    flow, y0 = problem.flow, problem.y0
    points, weights = rule
    half = 0.5 * (b - a)[:, None]
    nodes = 0.5 * (a + b)[:, None] + half * points
    problem.rhs_evals += nodes.size
    ts = torch.from_numpy(np.concatenate([saved, ends, nodes.ravel()])).to(y0.device)
    states, losses, rates = [y0.new_empty(0, *y0.shape)], [], []
    first, second = len(saved), len(saved) + len(ends)
    for chunk in ts.split(max(1, _MEMORY // y0.numel())):
        at_saved, at_ends, at_nodes = flow.exact(chunk, y0).tensor_split(
            (max(first, 0), max(second, 0))
        )
        first, second = first - len(chunk), second - len(chunk)
        states.append(at_saved)
        losses.append(flow.loss(at_ends))
        if len(at_nodes):
            rates.append(flow.dissipation(at_nodes, flow(0.0, at_nodes)))
    measured = to_numpy(torch.cat(losses + rates))
    rate = measured[len(ends) :].reshape(nodes.shape)
    ys = states[1] if len(states) == 2 else torch.cat(states)
    return ys, measured[: len(ends)], (half * weights * rate).sum(axis=1)
