"""Spectral quantities: effective rank, and the sharpness of a flow.

The sharpness at a state is the largest eigenvalue λ_max of the Hessian of the
objective, minus the Jacobian of its gradient flow; gradient descent is stable for
step sizes below 2/λ_max.
"""

from gflow.flows.sharpness import sharpness as sharpness
from gflow.flows.sharpness import sharpness_along as sharpness_along
from gflow.linalg.eigen import effective_rank as effective_rank
