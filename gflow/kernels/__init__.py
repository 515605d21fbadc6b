"""Gram matrices of infinitely wide networks, and empirical kernels of finite ones."""

from gflow.kernels.analytic import memory_needed, nngp, ntk
from gflow.kernels.convolutional import conv_memory_needed, conv_nngp, conv_ntk
from gflow.kernels.empirical import empirical_ntk
from gflow.kernels.empirical_product import empirical_ntk_product
from gflow.kernels.two_layer import two_layer_relu_gram

__all__ = [
    "conv_memory_needed",
    "conv_nngp",
    "conv_ntk",
    "empirical_ntk",
    "empirical_ntk_product",
    "memory_needed",
    "nngp",
    "ntk",
    "two_layer_relu_gram",
]
