"""Gram matrices of infinitely wide networks."""

from gflow.kernels.analytic import memory_needed, nngp, ntk
from gflow.kernels.two_layer import two_layer_relu_gram

__all__ = ["memory_needed", "nngp", "ntk", "two_layer_relu_gram"]
