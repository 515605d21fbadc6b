"""Leaky ReLU of slope 0.1: φ(x) = x for x > 0 and x/10 for x < 0."""

from gflow.kernels.dual_maps import PiecewiseLinear

ACTIVATION = PiecewiseLinear(alpha=0.55, beta=0.45)
