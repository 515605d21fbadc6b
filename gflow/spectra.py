"""Spectral quantities: effective rank, and sharpness and spectral density of a flow.

The sharpness at a state is the largest eigenvalue λ_max of the Hessian of the
objective, minus the Jacobian of its gradient flow; gradient descent is stable for
step sizes below 2/λ_max.
"""

from gflow.flows.sharpness import sharpness as sharpness
from gflow.flows.sharpness import sharpness_along as sharpness_along
from gflow.flows.spectral_density import SpectralDensity as SpectralDensity
from gflow.flows.spectral_density import spectral_density as spectral_density
from gflow.linalg.eigen import effective_rank as effective_rank
