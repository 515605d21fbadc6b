"""Expectations under a pair of Gaussians by quadrature, and the layer recursion with them."""

import itertools
import math

import numpy as np
import torch

from gflow.kernels.activations import ACTIVATIONS, PiecewiseLinear


def with_derivative(function):
    """φ and φ' as functions of NumPy arrays, from φ of tensors."""

    def value(x):
        return function(torch.as_tensor(x)).numpy()

    def slope(x):
        x = torch.as_tensor(x).requires_grad_()
        return torch.autograd.grad(function(x).sum(), x)[0].numpy()

    return value, slope


#: Each activation of gflow, and one without a closed form, with its derivative.
FUNCTIONS = {name: with_derivative(known.function) for name, known in ACTIVATIONS.items()}
FUNCTIONS["tanh"] = with_derivative(torch.tanh)
KINKED = tuple(n for n, known in ACTIVATIONS.items() if isinstance(known, PiecewiseLinear))
SMOOTH = tuple(n for n in ACTIVATIONS if n not in KINKED)


def expectation(function, q1, q2, covariance, radial=160, angular=80):
    """E[f(x)f(y)] in polar coordinates, Gauss-Legendre between the angles where x or y changes
    its sign: as accurate for kinks as for smooth functions."""
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
    """NNGP and NTK of two points by quadrature."""
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
