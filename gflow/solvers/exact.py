"""``exact``: the flow's closed form, where it has one.

The energy integral is a quadrature of the dissipation along the closed form, with the
flow's own right-hand side: Gauss–Legendre of 7 to 16 points, as the tolerance asks, on panels
whose ends grow six-fold away from the start, where the fast modes decay. Panels where it
differs from the loss lost there by more than the tolerance allows are cut in two, all those
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
_SPLITS = 400  # panels cut in two where the quadrature and the loss differ
_PART = 1e-3  # of rtol: what they may differ by in one panel, relative to the first loss
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
        elapsed = np.array(problem.ts) - problem.ts[0]
        start = flow.loss(y0)
        scale = max(float(start), torch.finfo(start.dtype).tiny)
        tolerance = max(_PART * problem.rtol, 20 * torch.finfo(start.dtype).eps) * scale
        # The first panel loses less than the whole: one fastest time scale seen at the start.
        speed = float(flow.dissipation(y0, flow(0.0, y0))) / scale
        edges = [float(elapsed[-1])]
        while edges[-1] * speed > 1 and len(edges) < 400:
            edges.append(edges[-1] / _RATIO)
        b = np.array(edges[::-1])
        a = np.concatenate([[0.0], b[:-1]])
        rule = _rule(problem.rtol)
        ys, after, parts = _evaluate(problem, elapsed[1:], b, a, b, rule)
        accept_all(problem, problem.ts[1:], ys)
        before = np.concatenate([[float(start)], after[:-1]])
        total, splits = 0.0, _SPLITS
        while True:
            # A mode that leaves a small start late turns within a part of its panel.
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
    """As `Problem.accept_state` at requested times one after the other, in few calls."""
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
    """Nodes and weights on [−1, 1] that resolve e^{−2λt} on a panel, whatever λ, to _PART·rtol."""
    digits = -math.log10(rtol)
    return np.polynomial.legendre.leggauss(min(16, max(7, 4 + int(1.7 * digits))))


def _evaluate(
    problem: Problem,
    keep: np.ndarray,
    ends: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    rule: tuple[np.ndarray, np.ndarray],
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """States at the times keep, losses at the times ends, and by quadrature the energy
    dissipated from each a to its b: all in one call of the closed form, if memory allows."""
    flow, y0 = problem.flow, problem.y0
    points, weights = rule
    half = 0.5 * (b - a)[:, None]
    nodes = 0.5 * (a + b)[:, None] + half * points
    problem.rhs_evals += nodes.size
    ts = torch.from_numpy(np.concatenate([keep, ends, nodes.ravel()])).to(y0.device)
    states, losses, rates = [y0.new_empty(0, *y0.shape)], [], []
    first, second = len(keep), len(keep) + len(ends)
    for some in ts.split(max(1, _MEMORY // y0.numel())):
        kept, ended, inner = flow.exact(some, y0).tensor_split((max(first, 0), max(second, 0)))
        first, second = first - len(some), second - len(some)
        states.append(kept)
        losses.append(flow.loss(ended))
        if len(inner):
            rates.append(flow.dissipation(inner, flow(0.0, inner)))
    measured = to_numpy(torch.cat(losses + rates))
    rate = measured[len(ends) :].reshape(nodes.shape)
    kept = states[1] if len(states) == 2 else torch.cat(states)
    return kept, measured[: len(ends)], (half * weights * rate).sum(axis=1)
