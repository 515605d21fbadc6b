"""Gram matrices of infinitely wide networks."""

from gflow.kernels.analytic import memory_needed, nngp, ntk
from gflow.kernels.convolutional import conv_memory_needed, conv_nngp, conv_ntk
from gflow.kernels.two_layer import two_layer_relu_gram

__all__ = [
    "conv_memory_needed",
    "conv_nngp",
    "conv_ntk",
    "memory_needed",
    "nngp",
    "ntk",
    "two_layer_relu_gram",
]
