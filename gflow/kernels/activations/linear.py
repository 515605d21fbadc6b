"""The identity: φ(x) = x, a deep linear network."""

from gflow.kernels.dual_maps import PiecewiseLinear

ACTIVATION = PiecewiseLinear(alpha=1.0, beta=0.0)
