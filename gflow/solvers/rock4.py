r"""``rock4``: the stabilised explicit Runge–Kutta method of order 4.

An s-stage step acts on ẏ = λy as the polynomial R(z) = w(z) P(z), z = hλ, with
R(z) = e^z + O(z⁵) and |R| ≤ 0.7 at every extremum down to −β, β ≈ 0.331 s² − 2.7. With
x = 1 + ξ + ω z, ξ = 3/s², the quartic w has two pairs of complex zeros, and P, of degree
s − 4, is the last of the polynomials P_j orthogonal on [−1, 1] for the weight
w(x)²/√(1 − x²), each scaled to P_j = 1 at z = 0. Abdulle (2002), SIAM J. Sci. Comput. 23,
2041-2054: polynomials section 2, recurrence and composition section 3.

The first s − 4 stages follow the three-term recurrence of the P_j,

    Y_j = μ_j h F(Y_{j−1}) + ν_j Y_{j−1} + κ_j Y_{j−2},   ν_j + κ_j = 1,  Y_0 = y_n,

and a classical four-stage method continues from Y = Y_{s−4} so that the composition has
order 4 on any ẏ = F(t, y). Its four slopes and Y − y_n also give the error estimate, of
order 3. It differs from Abdulle's, which takes F(y_{n+1}) in place of Y − y_n: there a
stiff mode's share in the error grows in proportion to hρ, here it is at most 3 times the mode.

Damping to 0.7, where 0.95 is usual, costs 3 % of the stages. Modes that a large step has
excited then decay before they dominate the error estimates of the next steps.

Limits of the method:

- The last four stages multiply the stiffest modes in Y by up to |w(−β)| ~ 10⁻⁴s⁸. If they
  hold round-off: tight tolerances, and float32, cap the number of stages
  (`ROCK4.max_stages`). If they are driven by a moving slow state (non-linear or
  non-autonomous flows; not ẏ = Ay + b): their local error is ψ(hλ) h² with max ψ = 6, 310,
  13,000, 8·10⁵ at 8, 16, 30, 60 stages, where every stage of rkc2 is of order 2 and ψ is
  below 0.01. The estimate includes it, so steps shrink and stay correct: beyond about 20
  stages on such flows rkc2 is faster, except at tight tolerances.
- The last slope is taken up to 5 % of the step past its end.

The table rock4.json holds, for every s, ω, ξ, the zeros of w in z, and the finishing method.
``python benchmarks/derive_rock4.py`` derives it again.
"""

from __future__ import annotations

import bisect
import functools
import json
from importlib import resources
from typing import NamedTuple

import numpy as np

from gflow.errors import InputError
from gflow.linalg.arrays import Array, add_multiple
from gflow.solvers.base import Increment, Step, Stepper

_LOOSEST = 3e-3  # rtol: at looser ones the estimated error is multiplied by a factor
_SAFE = 0.98  # of β: |R| grows fast beyond


class Row(NamedTuple):
    """One row of the table: the coefficients for one number of stages."""

    stages: int
    omega: float
    excess: float  #: ξ
    zeros: list[float]  #: real and imaginary parts, one of each conjugate pair
    a: list[list[float]]  #: the finishing method: a[i][j], j ≤ i, of stage i + 2
    b: list[float]
    d: list[float]  #: error estimate: the four slopes, then Y − y_n
    amplification: float  #: of round-off of size 1 made in every stage


class Recurrence(NamedTuple):
    """Y_j = mu·hF(Y_{j−1}) + nu·Y_{j−1} + (1 − nu)·Y_{j−2}; c_j is Y_j's abscissa."""

    mu: list[float]
    nu: list[float]
    c: list[float]


class ROCK4(Stepper):
    """Fourth-order orthogonal Runge–Kutta–Chebyshev with 5 to 182 stages."""

    name = "rock4"
    error_order = 4
    stabilised = True

    def stages(self, reach: float) -> int:
        farthest = _reaches()[-1]
        if not reach <= farthest:
            raise InputError(
                f"a step of rock4 is stable up to h·ρ = {farthest:.0f}, got {reach:g}; shorten it"
            )
        return table()[bisect.bisect_left(_reaches(), reach)].stages

    def reach(self, stages: int) -> float:
        return _reaches()[_position(stages)]

    def max_stages(self, rtol: float, eps: float) -> int:
        # A step's round-off is about a tenth of eps·amplification, and the estimate includes it.
        fit = [row.stages for row in table() if 2 * eps * row.amplification <= rtol]
        return max(fit, default=table()[0].stages)

    def error_factor(self, rtol: float) -> float:
        # With the steps of rtol 1e-2 the loss of a tanh network is 2 % off at t = 300.
        return max(1.0, rtol / _LOOSEST)

    def step(self, increment: Increment, y: Array, k0: Array, stages: int, h: float = 1.0) -> Step:
        row = table()[_position(stages)]
        recurrence = _recurrence(stages)
        older, newer = y, y + (h * recurrence.mu[0]) * k0
        for mu, nu, c in zip(recurrence.mu[1:], recurrence.nu[1:], recurrence.c[:-1], strict=True):
            k = increment(c, newer)
            # Y_{j−2} is not needed again: its memory takes Y_j, once it is not y itself.
            if older is y:
                stage = older * (1 - nu)
            else:
                stage = older
                stage *= 1 - nu
            add_multiple(add_multiple(stage, newer, nu), k, h * mu)
            older, newer = newer, stage
        middle, start = newer, recurrence.c[-1]
        slopes = [increment(start, middle)]
        for weights in row.a:
            stage = _combined(middle, slopes, weights, h)
            slopes.append(increment(start + sum(weights), stage))
        end = _combined(middle, slopes, row.b, h)
        error = _combined((middle - y) * row.d[4], slopes, row.d[:4], h)
        return Step(end, increment(1.0, end), error)


def _combined(base: Array, slopes: list[Array], weights: list[float], h: float) -> Array:
    """Return base + h Σ weights·slopes."""
    total = base + (h * weights[0]) * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        add_multiple(total, slope, h * weight)
    return total


@functools.cache
def table() -> list[Row]:
    """Return the table, one row per number of stages, in rising order."""
    text = resources.files("gflow.solvers").joinpath("rock4.json").read_text(encoding="utf-8")
    return [Row(*row) for row in json.loads(text)]


@functools.cache
def _reaches() -> list[float]:
    return [_SAFE * (2 + row.excess) / row.omega for row in table()]


@functools.cache
def _position(stages: int) -> int:
    """Return the row of the table with this number of stages."""
    return [row.stages for row in table()].index(stages)


@functools.cache
def _recurrence(stages: int) -> Recurrence:
    row = table()[_position(stages)]
    return recurrence(row.stages, row.omega, row.excess, row.zeros)


def recurrence(stages: int, omega: float, excess: float, zeros: list[float]) -> Recurrence:
    """Return the recurrence of the orthogonal polynomials, from the zeros of w.

    Parameters
    ----------
    stages : int
        s, at least 5.
    omega, excess : float
        x = 1 + excess + omega·z maps the interval of stability to [−1, 1 + excess].
    zeros : list of float, length 4
        Real and imaginary parts in z of one zero of each pair.

    Returns
    -------
    Recurrence
        Of s − 4 stages.

    Examples
    --------
    >>> row = table()[0]
    >>> c = recurrence(row.stages, row.omega, row.excess, row.zeros).c
    >>> len(c), 0 < c[0] < 1
    (1, True)
    """
    # Stieltjes' procedure; 2s Chebyshev nodes integrate the products exactly.
    x = np.cos((np.arange(2 * stages) + 0.5) * np.pi / (2 * stages))
    weight, top = np.ones_like(x), 1 + excess
    for re, im in zip(zeros[::2], zeros[1::2], strict=True):
        weight *= np.abs(x - top - omega * complex(re, im)) ** 4
    weight /= weight.sum()
    older, newer = np.zeros_like(x), np.ones_like(x)  # orthonormal, at the nodes
    off, ratio = 0.0, 0.0  # ratio: older over newer at z = 0
    mu, nu, c = [], [], [0.0, 0.0]
    for _ in range(stages - 4):
        diagonal = float(weight @ (x * newer**2))
        rest = (x - diagonal) * newer - off * older
        size = float(np.sqrt(weight @ rest**2))
        growth = top - diagonal - off * ratio
        mu.append(omega / growth)
        nu.append((top - diagonal) / growth)
        c.append(mu[-1] + nu[-1] * c[-1] + (1 - nu[-1]) * c[-2])
        older, newer, off, ratio = newer, rest / size, size, size / growth
    return Recurrence(mu, nu, c[2:])
