"""Expectations under a pair of Gaussians by quadrature, and the layer recursion with them."""

import itertools
import math

import numpy as np
from scipy.special import erf

from gflow.kernels.activations import ACTIVATIONS

NORMAL = 1 / math.sqrt(2 * math.pi)


def _kinked(low, high):
    return (
        lambda x: np.where(x > 0, high * x, low * x),
        lambda x: np.where(x > 0, high, low) + 0.0 * x,
    )


#: Each activation of gflow with its derivative, written down anew.
FUNCTIONS = {
    "relu": _kinked(0.0, 1.0),
    "leaky_relu": _kinked(0.1, 1.0),
    "abs": _kinked(-1.0, 1.0),
    "linear": _kinked(1.0, 1.0),
    "erf": (erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    "gelu": (
        lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
        lambda x: 0.5 * (1 + erf(x / math.sqrt(2))) + x * NORMAL * np.exp(-x * x / 2),
    ),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
}
KINKED = ("relu", "leaky_relu", "abs", "linear")
assert set(ACTIVATIONS) <= set(FUNCTIONS)


def expectation(function, q1, q2, covariance, radial=160, angular=80):
    """E[f(x)f(y)] in polar coordinates, Gauss-Legendre between the angles where x or y changes
    its sign: as good for kinks as for smooth functions."""
    theta = math.acos(max(-1.0, min(1.0, covariance / math.sqrt(q1 * q2))))
    breaks = sorted(
        v % (2 * math.pi)
        for base in (0.0, theta)
        for v in (base - 0.5 * math.pi, base + 0.5 * math.pi)
    )
    breaks.append(breaks[0] + 2 * math.pi)
    nodes, weights = np.polynomial.legendre.leggauss(angular)
    radii, radial_weights = np.polynomial.legendre.leggauss(radial)
    radii, radial_weights = 6.5 * (radii + 1), 6.5 * radial_weights
    density = radial_weights * radii * np.exp(-(radii**2) / 2) / (2 * math.pi)
    total = 0.0
    for a, b in itertools.pairwise(breaks):
        angles = 0.5 * (b - a) * nodes + 0.5 * (a + b)
        x = math.sqrt(q1) * np.outer(radii, np.cos(angles))
        y = math.sqrt(q2) * np.outer(radii, np.cos(angles - theta))
        total += 0.5 * (b - a) * density @ (function(x) * function(y)) @ weights
    return float(total)


def recursion(x1, x2, activation, depth, w, b):
    """NNGP and NTK of two points by quadrature alone."""
    function, derivative = FUNCTIONS[activation]
    d = len(x1)
    K = w * w * np.array([[x1 @ x1, x1 @ x2], [x1 @ x2, x2 @ x2]]) / d + b * b
    theta = K[0, 1]
    for _ in range(depth):
        args = (K[0, 0], K[1, 1], K[0, 1])
        below = theta * expectation(derivative, *args)
        same = [expectation(function, K[i, i], K[i, i], K[i, i]) for i in (0, 1)]
        cross = expectation(function, *args)
        K = w * w * np.array([[same[0], cross], [cross, same[1]]]) + b * b
        theta = K[0, 1] + w * w * below
    return K[0, 1], theta
