r"""``bdf``: backward differentiation formulas of orders 1 to 6 by matrix-free Newton.

The polynomial c of degree p through the new state and the last p ones satisfies the
equation at the new time,

    c'(t_new) = α y_new + Σ_j w_j y_{n−j} = F(y_new),     α = Σ_{j<p} 1/(t_new − t_{n−j})

(variable-step BDF in Lagrange form: Hairer, Nørsett & Wanner, Solving Ordinary
Differential Equations I, 2nd ed., section III.5). From the predictor q, which extrapolates
the last p + 1 states, a Newton iteration solves

    (α − J) d = F(q) − α q − Σ_j w_j y_{n−j},     J = F'(q),    y_new = q + d.

Why it suits gradient flow: −J is a Hessian, so the usual objection to high orders, complex
eigenvalues, is void: BDF to order 6 is stable on the whole negative real axis. Why it is
cheap: the correction d is only some tolerances long, so that two to four products J·v,
differences of F about q, give it to the digits that count; and F at the new state comes
out of the linear solve. Time is that of the flow.

On a plateau all that is left of F is the growth of modes far below rtol·‖y‖. A step that
answers to rtol·‖y‖ alone may freeze there and look converged (an explicit method is kept
from it by its stability); so its error is held to a part of the step's way, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.linalg import vector_norm

MOST_ORDER = 6  # BDF of order 7 is not zero-stable
HISTORY = MOST_ORDER + 2  # states that a step of the highest order looks back on
_RESIDUAL = 0.3  # of the tolerance: what the linear solve may leave in the state
_NONLINEAR = 0.1  # of the tolerance: what Newton may leave, for a curvature of 1/‖y‖
_MOST_NEWTON = 4
MOST_PRODUCTS = 60  # of one linear solve
_LARGEST_PART = 0.01  # of a step's way that its error may be, at most √rtol
_SAFETY = 0.85


class BDFStep(NamedTuple):
    """What one step found.

    ``state`` (n,) and ``rate`` (n,), c'(t_new), which is F(state) to within α times the
    tolerance; ``converged`` is False where the step must be tried again shorter (F not
    finite is such a case).
    """

    state: Tensor
    rate: Tensor
    converged: bool


def bdf_step(
    rhs: Callable[[Tensor], Tensor],
    times: Sequence[float],
    states: Tensor,
    new: float,
    order: int,
    tolerance: float,
    size: float,
    *,
    most_products: int = MOST_PRODUCTS,
) -> BDFStep:
    """One step from ``times[0]`` to ``new``.

    Parameters
    ----------
    rhs : callable
        F(new, ·), (n,) → (n,).
    times : sequence of float, length m ≥ order + 1
        Times of the known states, the newest first.
    states : Tensor, shape (m, n)
        The states at those times.
    new : float
        The end of the step.
    order : int
        1 to 6.
    tolerance : float
        Largest acceptable ‖e‖₂ of the step, absolute.
    size : float
        ‖y‖₂ of the newest state.
    most_products : int
        Bound on the products J·v of one linear solve.

    Returns
    -------
    BDFStep

    Examples
    --------
    >>> import torch
    >>> times = [0.0, -0.1, -0.2, -0.3]
    >>> states = torch.tensor([[math.exp(-t)] for t in times], dtype=torch.float64)
    >>> found = bdf_step(lambda y: -y, times, states, 0.1, order=2, tolerance=1e-6, size=1.0)
    >>> found.converged, abs(found.state.item() - math.exp(-0.1)) < 1e-3
    (True, True)
    """
    alpha, weights = slope_weights(times, new, order)
    extrapolated = _lagrange(times[: order + 1], new)
    weights += [0.0] * (len(extrapolated) - order)
    y, past = states.new_tensor([extrapolated, weights]) @ states[: order + 1]
    for _ in range(_MOST_NEWTON):
        f = rhs(y)
        residual = (f - past).sub_(y, alpha=alpha)
        allowed = _RESIDUAL * tolerance * alpha
        d, rest = _solve(rhs, y, f, alpha, residual, allowed, size, most_products)
        if d is None:
            return BDFStep(y, f, False)
        # What the solve has left is answered as if J were 0: so modes below the tolerance
        # follow their equation. Left to the predictor, they would grow by its instability,
        # and a path would leave a saddle at the wrong time for the wrong side.
        d.add_(rest, alpha=1 / alpha)
        y = y + d
        rate = torch.add(past, y, alpha=alpha)
        if float(vector_norm(d)) ** 2 <= _NONLINEAR * tolerance * size:
            return BDFStep(y, rate, True)
    return BDFStep(y, rate, False)


def slope_weights(times: Sequence[float], new: float, order: int) -> tuple[float, list[float]]:
    """α and w: the slope at ``new`` of the interpolant with y there is α·y + Σ w_j y_{n−j}."""
    known = times[:order]
    alpha = sum(1 / (new - t) for t in known)
    return alpha, [w / (t - new) for w, t in zip(_lagrange(known, new), known, strict=True)]


def error_weights(times: Sequence[float]) -> list[list[float]]:
    """Weights of y_j − y_0 (j = 1, 2, …) in the local errors of orders p = 1, 2, …

    The error is y[t_0, …, t_{p+1}] Π_{1≤j≤p}(t_0 − t_j)/α_p, y[…] a divided difference and
    y_0 the new state; as many orders as the times allow. A bound where J has no positive
    eigenvalues: the error itself is smaller by α(α − J)⁻¹ in the stiff directions.

    Examples
    --------
    >>> error_weights([2.0, 1.0, 0.0])  # ½(y_0 − 2y_1 + y_2)
    [[-1.0, 0.5]]
    """
    start, count = times[0], len(times) - 1
    inverse = [1.0] * (count + 1)  # 1/Π_{i≠j}(t_j − t_i) over the nodes so far
    scale, alpha, rows = 1.0, 0.0, []
    for k in range(1, count + 1):
        for j in range(k):
            inverse[j] /= times[j] - times[k]
            inverse[k] /= times[k] - times[j]
        if k >= 2:  # the order is k − 1
            scale *= start - times[k - 1]
            alpha += 1 / (start - times[k - 1])
            row = [scale / alpha * w for w in inverse[1 : k + 1]]
            rows.append(row + [0.0] * (count - k))
        if k > MOST_ORDER:
            break
    return rows


def step_tolerance(tolerance: float, way: float, size: float, eps: float) -> float:
    """The tolerance of a step: at most √rtol ≤ 1/100 of its way h‖F‖, and above round-off.

    ``size`` is ‖y‖₂, from which rtol follows; eps the unit of round-off.
    """
    if size == 0:
        return tolerance
    part = min(_LARGEST_PART, math.sqrt(tolerance / size))
    return max(min(tolerance, part * way), 500 * eps * size)


def next_order_and_step(
    errors: Sequence[float], order: int, step: float, tolerance: float, *, settled: bool
) -> tuple[int, float]:
    """The order, of order − 1 to order + 1, with the longest step, and that step.

    ``settled``: whether order + 1 steps were taken since the order last changed; until then
    it stays. High orders lengthen by at most 1.2 a step: zero-stability of variable-step BDF.
    """
    orders = [order]
    if settled:
        orders += [p for p in (order - 1, order + 1) if 1 <= p <= min(MOST_ORDER, len(errors))]
    factors = {
        p: _SAFETY * (1.2 * errors[p - 1] / tolerance + 1e-10) ** (-1 / (p + 1)) for p in orders
    }
    best = max(orders, key=lambda p: factors[p] * (1.0 if p == order else 0.98))
    return best, step * min(max(factors[best], 0.5), 2.0 if best <= 3 else 1.2)


def _lagrange(times: Sequence[float], at: float) -> list[float]:
    """Weights of the values at ``times`` in their interpolant's value at ``at``."""
    return [
        math.prod((at - s) / (t - s) for j, s in enumerate(times) if j != i)
        for i, t in enumerate(times)
    ]


def _solve(
    rhs: Callable[[Tensor], Tensor],
    y: Tensor,
    f: Tensor,
    alpha: float,
    residual: Tensor,
    tolerance: float,
    scale: float,
    most: int,
) -> tuple[Tensor | None, Tensor]:
    """(d, r), r = residual − (α − J)d and ‖r‖₂ ≤ tolerance; d is None if not met. ``scale`` ~ ‖y‖₂.

    Generalised conjugate residuals (Eisenstat, Elman & Schultz 1983, SIAM J. Numer. Anal.
    20, 345-357): the residual cannot grow, whatever the signs of the eigenvalues (saddles),
    and J need not be symmetric (reduced flows).
    """
    r, d = residual, torch.zeros_like(residual)
    size, k = float(vector_norm(r)), 0
    reach = math.sqrt(torch.finfo(y.dtype).eps) * (scale or 1.0)
    directions = residual.new_empty((min(most, 16), residual.numel()))
    images = torch.empty_like(directions)
    while size > tolerance and k < most:
        if k == len(directions):
            directions = torch.cat([directions, torch.empty_like(directions)])
            images = torch.cat([images, torch.empty_like(images)])
        v = r / size
        w = (f - rhs(torch.add(y, v, alpha=reach))).div_(reach).add_(v, alpha=alpha)
        if k:
            known, theirs = directions[:k].t(), images[:k].t()
            for _ in range(2):  # twice is enough to be orthogonal to round-off
                overlap = images[:k] @ w
                w = torch.addmv(w, theirs, overlap, alpha=-1)
                v = torch.addmv(v, known, overlap, alpha=-1)
        length = vector_norm(w)
        direction = torch.div(v, length, out=directions[k])
        image = torch.div(w, length, out=images[k])
        gain = image @ r
        d.addcmul_(direction, gain)
        r = torch.addcmul(r, image, gain, value=-1)
        k += 1
        size = float(vector_norm(r))
        if not math.isfinite(size):
            break
    return (d if size <= tolerance else None), r
