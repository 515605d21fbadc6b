"""Gram matrices of infinitely wide networks."""

from gflow.kernels.two_layer import two_layer_relu_gram

__all__ = ["two_layer_relu_gram"]
