"""The absolute value: φ(x) = |x|."""

from gflow.kernels.dual_maps import PiecewiseLinear

ACTIVATION = PiecewiseLinear(alpha=0.0, beta=1.0)
