"""The kernels of two points in 60-digit decimal arithmetic, by the textbook formulas."""

import decimal
from decimal import Decimal

from gflow.kernels.activations import ACTIVATIONS

_DIGITS = 60


def precise_kernels(x, y, activation, depth, w_std, b_std):
    """K and Θ of two lists of floats for a piecewise linear activation."""
    with decimal.localcontext(prec=2 * _DIGITS):
        kinked = ACTIVATIONS[activation]
        alpha, beta = Decimal(str(kinked.alpha)), Decimal(str(kinked.beta))
        w2, b2 = Decimal(w_std) ** 2, Decimal(b_std) ** 2
        x, y = [Decimal(v) for v in x], [Decimal(v) for v in y]
        q1, q2, K = (
            w2 * sum(a * b for a, b in zip(u, v, strict=True)) / len(x) + b2
            for u, v in ((x, x), (y, y), (x, y))
        )
        theta, pi = K, _pi()
        for _ in range(depth):
            norm = (q1 * q2).sqrt()
            rho = min(Decimal(1), max(Decimal(-1), K / norm))
            sine = (1 - rho * rho).sqrt()
            arcsine = _arctan(rho / sine) if sine else rho * pi / 2
            features = alpha**2 * K + beta**2 * norm * 2 / pi * (sine + rho * arcsine)
            slopes = alpha**2 + beta**2 * 2 / pi * arcsine
            K, power = w2 * features + b2, alpha**2 + beta**2
            theta = K + w2 * slopes * theta
            q1, q2 = w2 * power * q1 + b2, w2 * power * q2 + b2
        return float(K), float(theta)


def _arctan(x):
    """The arc tangent: halve the angle until the series converges fast."""
    halvings = 0
    while abs(x) > Decimal("0.01"):
        x /= 1 + (1 + x * x).sqrt()
        halvings += 1
    total = term = x
    k = 1
    while abs(term) > Decimal(10) ** -(2 * _DIGITS):
        term *= -x * x
        k += 2
        total += term / k
    return total * 2**halvings


def _pi():
    return 4 * _arctan(Decimal(1))
