"""ReLU: φ(x) = max(x, 0)."""

from gflow.kernels.dual_maps import PiecewiseLinear

ACTIVATION = PiecewiseLinear(alpha=0.5, beta=0.5)
