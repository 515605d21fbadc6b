r"""Derive the table of coefficients of ``rock4``: ``python benchmarks/derive_rock4.py``.

For every number of stages s on a ladder,

1. the zeros of w and ω: Newton's method for R = wP to agree with e^z up to z⁴ (four
   equations for two complex zeros), inside a bisection for ω that puts the largest local
   extremum of |R| on the interval of stability at 0.7. Abdulle (2002), SIAM J. Sci.
   Comput. 23, sections 2-3; the remaining freedom, x(z = 0) = 1 + ξ, makes the extrema
   nearly equal;
2. the finishing method. The elementary weights of the recurrence's last stage, run through
   the eight rooted trees of order ≤ 4, turn the order conditions of the composition into
   conditions on the four stages. Their first two abscissae are given, as fractions of the
   remaining distance; b is then linear, and so are the other unknowns but the last abscissa,
   which solves a scalar equation (a fifth of the principal error constant is lost to keep
   coefficients below 1);
3. the error estimate: the combination of the four slopes and of Y − y_n whose weights
   vanish on all trees of order ≤ 3, unique up to its scale;
4. the amplification of round-off: the root of the sum of squares of the effects of
   perturbations of size 1 in each stage, at the worst z.

All coefficients are checked before they are written. Time units and normalisation are those of
gflow/solvers/rock4.py.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from math import factorial, prod
from pathlib import Path

import numpy as np
from numpy.polynomial import polynomial
from scipy.optimize import brentq, fsolve

from gflow.solvers.rock4 import Recurrence, Row, recurrence

DAMPING = 0.7
EXCESS = 3.0  # ξ s²
LARGEST_REACH = 10_500.0
#: Of the second and third finishing stage, as fractions of the remaining distance.
ABSCISSAE = 0.3, 0.55
#: Euclidean norm of the estimate's weights, divided by the symmetries, over the four trees of
#: order 4: about that of an order-3 solution with the same stages.
ESTIMATE = 1 / 48
START = [-2.45, 1.3, -0.284, 3.5]  # zeros of w for s ≈ 16; Newton's method converges from them

Tree = tuple["Tree", ...]
OUT = Path(__file__).parents[1] / "gflow" / "solvers" / "rock4.json"


# -- rooted trees: a tree is the sorted tuple of its children ---------------------------


def trees(largest: int) -> list[Tree]:
    """Return all rooted trees up to an order, by increasing order."""
    trees_by_order: list[list[Tree]] = [[], [()]]
    for n in range(2, largest + 1):
        smaller = [tree for level in trees_by_order for tree in level]
        level = {
            tuple(sorted(children))
            for count in range(1, n)
            for children in itertools.combinations_with_replacement(smaller, count)
            if sum(map(order, children)) == n - 1
        }
        trees_by_order.append(sorted(level))
    return [tree for level in trees_by_order for tree in level]


def order(tree: Tree) -> int:
    """Return the number of nodes of a tree."""
    return 1 + sum(map(order, tree))


def density(tree: Tree) -> int:
    """Return γ: the elementary weight of the exact flow is 1/γ."""
    return order(tree) * prod(map(density, tree))


def symmetry(tree: Tree) -> int:
    """Return σ, by which a tree's elementary differential is divided in the error."""
    repeats = prod(factorial(tree.count(child)) for child in set(tree))
    return repeats * prod(map(symmetry, tree))


TREES = trees(5)
ORDERS = np.array([order(tree) for tree in TREES])
EXACT = np.array([1 / density(tree) for tree in TREES])
SYMMETRY = np.array([symmetry(tree) for tree in TREES])
_CHILDREN = [[TREES.index(child) for child in tree] for tree in TREES]


def slope(state: np.ndarray) -> np.ndarray:
    """Return the elementary weights of hF(Y) from those of Y."""
    return np.array([np.prod(state[children]) for children in _CHILDREN])


# -- the stability polynomial -----------------------------------------------------------


def quartic(zeros: list[float]) -> np.ndarray:
    """Return w/w(0) in powers of z."""
    w: np.ndarray = np.ones(1)
    for re, im in zip(zeros[::2], zeros[1::2], strict=True):
        size = re * re + im * im
        w = polynomial.polymul(w, [1.0, -2 * re / size, 1 / size])
    return w


def taylor(rec: Recurrence, zeros: list[float]) -> np.ndarray:
    """Return the coefficients of R up to z⁵."""
    older, newer = np.zeros(6), np.eye(6)[0]
    for mu, nu in zip(rec.mu, rec.nu, strict=True):
        older, newer = newer, mu * np.append(0.0, newer[:-1]) + nu * newer + (1 - nu) * older
    return polynomial.polymul(newer, quartic(zeros))[:6]


def chain(rec: Recurrence, z: np.ndarray, first: int = 0) -> np.ndarray:
    """Return P(z); with first > 0, the factor of a perturbation of stage ``first`` in P."""
    older, newer = np.zeros_like(z), np.ones_like(z)
    for mu, nu in zip(rec.mu[first:], rec.nu[first:], strict=True):
        older, newer = newer, (mu * z + nu) * newer + (1 - nu) * older
    return newer


def order_four(stages: int, omega: float) -> list[float]:
    """Return the zeros of w for which R agrees with e^z up to z⁴."""

    def defect(zeros: np.ndarray) -> np.ndarray:
        rec = recurrence(stages, omega, EXCESS / stages**2, list(zeros))
        return taylor(rec, list(zeros))[1:5] * [1, 2, 6, 24] - 1

    zeros, _, _, _ = fsolve(defect, START, full_output=True, xtol=1e-14)
    if np.abs(defect(zeros)).max() > 1e-12:
        raise RuntimeError(f"Newton's method failed for s = {stages}, omega = {omega}")
    return [float(value) for value in zeros]


def largest_extremum(stages: int, omega: float) -> float:
    """Return the largest extremum of |R| on the interval of stability.

    The far end of the interval counts as an extremum; the plateau at 0 does not.
    """
    zeros = order_four(stages, omega)
    excess = EXCESS / stages**2
    z = (np.cos(np.linspace(0, np.pi, 60 * stages + 1)) - 1 - excess) / omega
    rec = recurrence(stages, omega, excess, zeros)
    R = np.abs(polynomial.polyval(z, quartic(zeros)) * chain(rec, z))
    inner = (R[1:-1] >= R[:-2]) & (R[1:-1] >= R[2:])
    return float(max(R[1:-1][inner].max(initial=0.0), R[-1]))


# -- the finishing method ---------------------------------------------------------------


def finishing(state: np.ndarray) -> tuple[list[list[float]], list[float]]:
    """Return a and b of the four stages that take a state with these weights to order 4."""
    index = {tree: i for i, tree in enumerate(TREES)}
    leaf: Tree = ()
    t2, t31, t32 = (leaf,), (leaf, leaf), ((leaf,),)
    y1, y2, y31, y32 = (state[index[tree]] for tree in (leaf, t2, t31, t32))
    want = EXACT - state  # Σ b_i (weights of slope i), abscissae counted from the step's start
    t41, t42 = (leaf, leaf, leaf), tuple(sorted((leaf, t2)))
    w1, w2, w31, w32, w41, w42, w43, w44 = (
        want[index[tree]] for tree in (leaf, t2, t31, t32, t41, t42, (t31,), (t32,))
    )
    # The same sums for abscissae c, Ac, Ac², AAc counted from the state, by expansion of
    # (y1 + c)^k, (y2 + y1 c + Ac) and so on.
    r2 = w2 - y1 * w1
    r31 = w31 - y1**2 * w1 - 2 * y1 * r2
    r41 = w41 - y1**3 * w1 - 3 * y1**2 * r2 - 3 * y1 * r31
    r32 = w32 - y2 * w1 - y1 * r2
    r42 = w42 - y1 * (y2 * w1 + y1 * r2 + r32) - y2 * r2 - y1 * r31
    r43 = w43 - y31 * w1 - y1**2 * r2 - 2 * y1 * r32
    r44 = w44 - y32 * w1 - y2 * r2 - y1 * r32
    c2, c3 = (part * w1 for part in ABSCISSAE)

    def given(c4: float) -> tuple[float, list[list[float]], list[float]]:
        c = np.array([c2, c3, c4])
        b = np.linalg.solve(np.stack([c, c**2, c**3]), [r2, r31, r41])
        v3, v4 = np.linalg.solve([b[1:], b[1:] * c[1:]], [r32, r42])  # v = Ac, v2 = 0
        a32, a43 = v3 / c2, r44 / (b[2] * v3)
        a42 = (v4 - a43 * c3) / c2
        defect = b[1] * a32 * c2**2 + b[2] * (a42 * c2**2 + a43 * c3**2) - r43
        a = [[c2], [c3 - a32, a32], [c4 - a42 - a43, a42, a43]]
        return defect, a, [w1 - b.sum(), *b]

    c4 = brentq(lambda c4: given(c4)[0], 0.9 * w1, 1.2 * w1, xtol=1e-16)
    _, a, b = given(c4)
    return [[float(x) for x in row] for row in a], [float(x) for x in b]


def composed(state: np.ndarray, a: list[list[float]], b: list[float]) -> list[np.ndarray]:
    """Return the elementary weights of the four slopes and of the solution."""
    slopes = [slope(state)]
    for row in a:
        slopes.append(slope(state + sum(x * k for x, k in zip(row, slopes, strict=True))))
    return [*slopes, state + sum(x * k for x, k in zip(b, slopes, strict=True))]


def estimate(state: np.ndarray, slopes: list[np.ndarray]) -> list[float]:
    """Return the weights of the four slopes and of Y − y_n in the error estimate."""
    parts = np.stack([*slopes, state])
    d = np.linalg.svd(parts[:, ORDERS <= 3].T)[2][-1]
    fourth = (d @ parts / SYMMETRY)[ORDERS == 4]
    return [float(x) for x in d * (np.sign(fourth.sum()) * ESTIMATE / np.linalg.norm(fourth))]


# -- the table --------------------------------------------------------------------------


def weights(rec: Recurrence) -> np.ndarray:
    """Return the elementary weights of the recurrence's last stage."""
    older = newer = np.zeros(len(TREES))
    for mu, nu in zip(rec.mu, rec.nu, strict=True):
        older, newer = newer, mu * slope(newer) + nu * newer + (1 - nu) * older
    return newer


def amplification(rec: Recurrence, row_zeros: list[float], omega: float) -> float:
    """Return the root sum of squares over the stages, at the worst z."""
    z = np.linspace(-2 / omega, 0, 2001)
    total = sum(chain(rec, z, j) ** 2 for j in range(1, len(rec.mu) + 1))
    return float(np.sqrt((total * polynomial.polyval(z, quartic(row_zeros)) ** 2).max()))


def derive(stages: int) -> Row:
    """Return one row of the table after checking its order conditions."""
    excess = EXCESS / stages**2
    # Divided by s²: the smallest β from which |R| grows with β, and a β that is too large.
    smallest, largest = 0.28 - 2.4 / stages**2, 0.36
    scaled = brentq(
        lambda scaled: largest_extremum(stages, scaled / stages**2) - DAMPING,
        (2 + excess) / largest,
        (2 + excess) / smallest,
        xtol=1e-8,
    )
    omega = float(scaled) / stages**2
    zeros = order_four(stages, omega)
    rec = recurrence(stages, omega, excess, zeros)
    state = weights(rec)
    a, b = finishing(state)
    *slopes, end = composed(state, a, b)
    if np.abs(end - EXACT)[ORDERS <= 4].max() > 1e-12:
        raise RuntimeError(f"the order conditions fail for s = {stages}")
    d = estimate(state, slopes)
    return Row(stages, omega, excess, zeros, a, b, d, amplification(rec, zeros, omega))


def ladder() -> Iterator[int]:
    """Yield 5, 6, 7, …, then numbers that grow by 5 %, rounded down."""
    stages = 5
    while True:
        yield stages
        stages += max(1, stages // 20)


def main() -> None:
    rows = []
    for stages in ladder():
        rows.append(derive(stages))
        if (2 + rows[-1].excess) / rows[-1].omega >= LARGEST_REACH:
            break
    OUT.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", encoding="utf-8")
    print(f"{'s':>4} {'β':>8} {'β/s²':>7} {'c_{s-4}':>8} {'largest':>8} {'round-off':>10}")
    for row in rows:
        rec = recurrence(row.stages, row.omega, row.excess, row.zeros)
        largest = max(abs(x) for x in itertools.chain(*row.a, row.b))
        beta = (2 + row.excess) / row.omega
        print(
            f"{row.stages:4d} {beta:8.1f} {beta / row.stages**2:7.4f} {rec.c[-1]:8.4f} "
            f"{largest:8.3f} {row.amplification:10.1e}"
        )


if __name__ == "__main__":
    main()
