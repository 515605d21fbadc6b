r"""``bdf``: backward differentiation formulas of orders 1 to 6 by matrix-free Newton.

The polynomial c of degree p through the new state and the last p ones satisfies the
equation at the new time,

    c'(t_new) = α y_new + Σ_j w_j y_{n−j} = F(y_new),     α = Σ_{j<p} 1/(t_new − t_{n−j})

(variable-step BDF in Lagrange form: Hairer, Nørsett & Wanner, Solving Ordinary
Differential Equations I, 2nd ed., section III.5). From the predictor q, which extrapolates
the last p + 1 states, a Newton iteration solves

    (α − J) d = F(q) − α q − Σ_j w_j y_{n−j},     J = F'(q),    y_new = q + d.

Why it suits gradient flow: −J is a Hessian, so the usual objection to high orders, complex
eigenvalues, does not apply: BDF to order 6 is stable on the whole negative real axis. Why it is
cheap: the correction d is only some tolerances long, so that two to four products J·v,
differences of F about q, determine it accurately enough; and the linear solve also yields F
at the new state. Time is that of the flow.

On a plateau F consists only of the growth of modes far below rtol·‖y‖. With the tolerance
rtol·‖y‖ alone the solve may freeze there and look converged (the stability limit prevents this
in an explicit method); so the error is also bounded by a fraction of the distance of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gflow.linalg.arrays import (
    Array,
    add_multiple,
    joined,
    matrix_product,
    norm,
    numbers,
    row_norms,
    solve,
    unit_round_off,
)
from gflow.linalg.conjugate_residuals import conjugate_residuals
from gflow.solvers.base import Method

MAX_ORDER = 6  # BDF of order 7 is not zero-stable
HISTORY = MAX_ORDER + 2  # past states that a step of the highest order uses
_RESIDUAL = 0.3  # of the tolerance: allowed error of the linear solve
_NONLINEAR = 0.1  # of the tolerance: allowed error of Newton's method, for a curvature of 1/‖y‖
_MAX_NEWTON = 4
_DENSE = 0.1  # of the tolerance: allowed correction of the last step with a decomposed Jacobian
MAX_PRODUCTS = 60  # of one linear solve
_MAX_FRACTION = 0.01  # of the distance of a step: bound on its error, at most √rtol
_GROWING_FRACTION = 10.0  # the same in units of rtol where a mode grows
_SAFETY = 0.85


class BDFStep(NamedTuple):
    """The result of one step."""

    state: Any  #: y_new, (n,), a tensor or an array as the states are
    rate: Any  #: c'(t_new), (n,): F(state) to within α times the tolerance
    predictor_errors: Any  #: ‖y_new − q_p‖₂, one for every order p of `Formulas.predictors`
    converged: bool  #: if False, as where F is not finite, the step must be shorter
    fastest: float  #: the largest ‖(α − J)v‖/‖v‖ seen; 0 without any


class Formulas(NamedTuple):
    """The formulas of a step; weights are of the last m states, 0 for those not used."""

    order: int
    alpha: float
    slope: list[float]  #: w_j
    predictors: dict[int, list[float]]  #: of q_p, the extrapolation of p + 1 states, by p
    errors: dict[int, float]  #: factors of y_new − q_p in the local error of order p


def formulas(times: Sequence[float], new: float, order: int) -> Formulas:
    """Return the formulas of a step, and the errors of its order and of the adjacent orders.

    The error of order p is y[t_new, t_n, …, t_{n−p}] Π_{j<p}(t_new − t_{n−j})/α_p =
    (y_new − q_p)/((t_new − t_{n−p}) α_p); y[…] is a divided difference. It is a bound if J has no
    positive eigenvalues: the actual error is smaller by α(α − J)⁻¹ in the stiff directions.

    Parameters
    ----------
    times : sequence of float, length at least order + 1
        Times of the known states, the newest first.
    new : float
        The end of the step.
    order : int
        1 to 6.

    Returns
    -------
    Formulas

    Examples
    --------
    >>> formulas([1.0, 0.0], 2.0, order=1)  # error ½(y − 2y_1 + y_2)
    Formulas(order=1, alpha=1.0, slope=[-1.0, 0.0], predictors={1: [2.0, -1.0]}, errors={1: 0.5})
    >>> formulas([0.0, -1.0, -2.0], 1.0, order=2)[1:3]  # slope 3/2 y − 2y_1 + ½y_2
    (1.5, [-2.0, 0.5, 0.0])
    """
    step, last = new - times[0], min(order + 1, MAX_ORDER)
    x = [(new - t) / step for t in times[: last + 1]]
    weights: list[float] = []  # Lagrange's, of the first p + 1 states
    predictors, errors, alpha = {}, {}, 0.0
    for p, at in enumerate(x):
        newest = 1.0
        for j in range(p):
            gap = at - x[j]
            weights[j] *= at / gap
            newest *= -x[j] / gap
        weights.append(newest)
        if p >= order - 1:
            none = [0.0] * (len(x) - 1 - p)
            if p == order - 1:
                slope = [-w / (step * x[j]) for j, w in enumerate(weights)] + none
            if p == order:
                of_new = alpha / step
            if p:
                predictors[p] = weights + none
                errors[p] = 1 / (alpha * at)
        alpha += 1 / at
    return Formulas(order, of_new, slope, predictors, errors)


def bdf_step(
    rhs: Callable[[Array], Array],
    states: Array | Sequence[Array],
    formulas: Formulas,
    tolerance: float,
    size: float,
    *,
    max_products: int = MAX_PRODUCTS,
    exact: bool = False,
    product: Callable[[Array, Array], Array] | None = None,
    jacobian: Callable[[Array], Array] | None = None,
) -> BDFStep:
    """Compute one step.

    Parameters
    ----------
    rhs : callable
        F(t_new, ·), (n,) → (n,).
    states : Tensor or ndarray, shape (m, n), or list of these, shape (n,)
        The known states, the newest first.
    formulas : Formulas
        Of the step.
    tolerance : float
        Largest acceptable ‖e‖₂ of the step, absolute.
    size : float
        ‖y‖₂ of the newest state.
    max_products : int
        Bound on the products J·v of one linear solve.
    exact : bool
        Whether Newton's method takes one more step. The differences of the first leave round-off
        of √eps times its length in every mode.
    product : callable, optional
        (y, v) to J(y)v, instead of differences; see `differences_blur`.
    jacobian : callable, optional
        ``jacobian(y)`` is F'(y), (n, n): solve by its decomposition, which stands round-off of F in
        stiff modes that is far above the slow part of F. A product then takes no evaluation.

    Returns
    -------
    BDFStep

    Examples
    --------
    >>> import torch
    >>> times = [0.0, -0.1, -0.2, -0.3]
    >>> states = torch.tensor([[math.exp(-t)] for t in times], dtype=torch.float64)
    >>> weights = formulas(times, 0.1, order=2)
    >>> step = bdf_step(lambda y: -y, states, weights, tolerance=1e-6, size=1.0)
    >>> step.converged, abs(step.state.item() - math.exp(-0.1)) < 1e-3
    (True, True)
    """
    alpha, slope = formulas.alpha, formulas.slope
    predictors: dict[int, list[float]] = formulas.predictors
    converged, fastest = False, 0.0
    known: Any = states
    few = isinstance(known, list)  # large states: as few vectors at a time as possible
    if few:
        past, y = (_combined(w, known) for w in (slope, predictors[formulas.order]))
    else:
        rows = matrix_product(numbers([slope, *predictors.values()], known), known[: len(slope)])
        past, y = rows[0], rows[1 + formulas.order - min(predictors)]

    def finish(y: Any) -> BDFStep:
        if few:
            each = [row_norms((_combined(w, known) - y)[None]) for w in predictors.values()]
            errors: Any = joined(each)
        else:
            errors = row_norms(rows[1:] - y)
        return BDFStep(y, add_multiple(past, y, alpha), errors, converged, fastest)

    if jacobian is not None:
        y, converged = _newton(rhs, y, past, alpha, _DENSE * tolerance, jacobian)
        return finish(y)
    # Of the differences: F changes within the size of a state, and its round-off is that of y.
    scale = size or 1.0
    length = math.sqrt(unit_round_off(y) * max(1.0, norm(y) / scale)) * scale
    for iteration in range(_MAX_NEWTON):
        f = rhs(y)
        residual = f - past
        add_multiple(residual, y, -alpha)
        allowed = _RESIDUAL * tolerance * alpha
        shifted = _Shifted(rhs, y, f, alpha, product)
        d, rest = conjugate_residuals(
            shifted, residual, allowed, length=length, max_products=max_products
        )
        fastest = max(fastest, shifted.largest / length)
        if d is None:
            break
        # The remaining residual is corrected as if J were 0, so that modes below the tolerance
        # follow their equation. With the predictor alone they would grow by its instability,
        # and a path would leave a saddle at the wrong time, to the wrong side.
        d += rest / alpha
        y = y + d
        converged = norm(d) ** 2 <= _NONLINEAR * tolerance * size
        if converged and (iteration > 0 or not exact):
            break
    return finish(y)


def _combined(weights: Sequence[float], states: Sequence[Array]) -> Array:
    """Return Σ weights·states, over the length of weights."""
    total = weights[0] * states[0]
    for weight, state in zip(weights[1:], states[1:], strict=False):
        if weight:
            add_multiple(total, state, weight)
    return total


class _Shifted:
    """v ↦ (α − J)v about y, where rhs(y) = f: by a difference, unless there is a product."""

    def __init__(
        self,
        rhs: Callable[[Array], Array],
        y: Array,
        f: Array,
        alpha: float,
        product: Callable[[Array, Array], Array] | None,
    ):
        self._rhs: Callable[[Any], Any] = rhs
        self._y: Any = y
        self._f: Any = f
        self._alpha = alpha
        self._product: Callable[[Any, Any], Any] | None = product
        self.largest = 0.0  #: of the products' norms

    def __call__(self, v: Any) -> Any:
        if self._product is None:
            image = self._f - self._rhs(self._y + v)
        else:
            image = -self._product(self._y, v)
        image = add_multiple(image, v, self._alpha)
        self.largest = max(self.largest, norm(image))
        return image


def differences_blur(fastest: float, alpha: float, eps: float) -> bool:
    """Return whether products by differences have more round-off than slow modes allow.

    A difference has round-off of about √eps of the fastest rate in every direction. Newton's method
    does not converge in modes to which that is more than α, and seems to, as its steps are small.

    Parameters
    ----------
    fastest : float
        `BDFStep.fastest` of the last step.
    alpha : float
        Of the next step.
    eps : float
        The unit of round-off.

    Returns
    -------
    bool

    Examples
    --------
    >>> differences_blur(1.0, 1e-12, 2e-16), differences_blur(1e3, 1.0, 2e-16)
    (True, False)
    """
    return math.sqrt(eps) * fastest > alpha


def _newton(
    rhs: Callable[[Array], Array],
    y: Array,
    past: Array,
    alpha: float,
    tolerance: float,
    jacobian: Callable[[Array], Array],
) -> tuple[Array, bool]:
    """Return the state by Newton's method with one Jacobian, and whether it has converged."""
    shifted = -jacobian(y)
    diagonal = range(len(y))
    shifted[diagonal, diagonal] += alpha
    for _ in range(2 * _MAX_NEWTON):
        d = solve(shifted, rhs(y) - past - alpha * y)
        if d is None:
            break
        y = y + d
        if norm(d) <= tolerance:
            return y, True
    return y, False


def step_tolerance(
    tolerance: float, distance: float, size: float, round_off: float, *, grows: bool = False
) -> float:
    """Return the tolerance of a step: at most √rtol ≤ 1/100 of its distance, above round-off.

    Where a mode grows it is at most 10 rtol of the distance, for what is amplified is an error
    relative to the velocity.

    Parameters
    ----------
    tolerance : float
        From rtol and atol.
    distance : float
        h‖F‖₂.
    size : float
        ‖y‖₂, or the scale that rtol is relative to.
    round_off : float
        eps·‖y‖₂.
    grows : bool
        Whether a mode grows.

    Returns
    -------
    float

    Examples
    --------
    >>> step_tolerance(1e-6, 1e3, 1.0, 1e-16), step_tolerance(1e-6, 1e-6, 1.0, 1e-16)
    (1e-06, 1e-09)
    """
    if size == 0:
        return tolerance
    fraction = min(_MAX_FRACTION, math.sqrt(tolerance / size))
    if grows:
        fraction = min(fraction, _GROWING_FRACTION * tolerance / size)
    return max(min(tolerance, fraction * distance), 500 * round_off)


def next_order_and_step(
    errors: Mapping[int, float],
    order: int,
    step: float,
    *,
    settled: bool,
    limits: Mapping[int, float] | None = None,
) -> tuple[int, float]:
    """Choose the order with the longest next step.

    A step of order 4 or higher grows by at most 1.2: zero-stability of variable-step BDF.

    Parameters
    ----------
    errors : mapping of int to float
        Of the last step by order, relative to the tolerance.
    order : int
        Its order.
    step : float
        Its length.
    settled : bool
        Whether order + 1 steps were taken since the order last changed; until then it stays.
    limits : mapping of int to float, optional
        The longest step of each order for other reasons than its error.

    Returns
    -------
    (int, float)
        The order and the length of the next step.

    Examples
    --------
    >>> next_order_and_step({1: 0.5, 2: 1e-3}, 1, 0.1, settled=True)
    (2, 0.2)
    """
    orders = errors if settled else (order,)
    factors = {p: _SAFETY * (1.2 * errors[p] + 1e-10) ** (-1 / (p + 1)) for p in orders}
    if limits is not None:
        factors = {p: min(factor, limits[p] / step) for p, factor in factors.items()}
    best = max(factors, key=lambda p: factors[p] * (1.0 if p == order else 0.98))
    return best, step * min(max(factors[best], 0.5), 2.0 if best <= 3 else 1.2)


class BDF(Method):
    """Matrix-free BDF of orders 1 to 6, for one start at a time."""

    name = "bdf"
    error_order = 2  # of the formula of order 1, for the first step

    def stages(self, reach: float) -> int:
        return 2  # at least the residual and one product

    def reach(self, stages: int) -> float:
        return math.inf
