"""Gram matrices of infinitely wide networks, and empirical kernels of finite ones."""

from gflow.kernels.empirical import empirical_ntk
from gflow.kernels.empirical_product import empirical_ntk_product
from gflow.kernels.two_layer import two_layer_relu_gram

__all__ = ["empirical_ntk", "empirical_ntk_product", "two_layer_relu_gram"]
