"""Convolutions of pixels and of pairs of pixels, and the description of the network."""

import pytest
import torch

from gflow.errors import InputError
from gflow.kernels.conv_layers import _convolve, _pad, make_conv_layers, propagate_images
from tests.helpers import randn, relative


@pytest.mark.parametrize("size", [1, 3, 5])
def test_sums_over_windows_are_a_convolution(size):
    v = randn(2, 4, 5)
    window = torch.ones(1, 1, size, size, dtype=torch.float64)
    expected = torch.conv2d(v[:, None], window, padding=size // 2)[:, 0]
    assert relative(_convolve(_pad(v, size, 1), size, 1), expected) <= 1e-14


def test_windows_of_pairs_move_together():
    v = randn(3, 2, 3, 2)  # (H, W, H, W)
    total = torch.zeros_like(v)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            for index in torch.cartesian_prod(*(torch.arange(n) for n in v.shape)).tolist():
                moved = [i + d for i, d in zip(index, (dy, dx, dy, dx), strict=True)]
                if all(0 <= i < n for i, n in zip(moved, v.shape, strict=True)):
                    total[tuple(index)] += v[tuple(moved)]
    assert relative(_convolve(_pad(v, 3, 2), 3, 2), total) <= 1e-14


def test_first_variances_are_those_of_patches():
    x = randn(2, 3, 4, 4)
    images = propagate_images(x, make_conv_layers(w_std=1.3, b_std=0.2))
    window = torch.ones(1, 3, 3, 3, dtype=torch.float64)
    squares = torch.conv2d(x.square(), window, padding=1)[:, 0]
    assert relative(images.first.variance, 1.3**2 * squares / 27 + 0.2**2) <= 1e-14
    assert relative(images.part(slice(1, 2)).stds[0], images.stds[0][1:]) == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling must be 'flatten' or 'average', got 'max'"),
        ({"kernel_size": 4}, "kernel_size must be an odd whole number, got 4"),
        ({"kernel_size": -1}, "kernel_size must be an odd whole number, got -1"),
        ({"kernel_size": 2.5}, "kernel_size must be an odd whole number, got 2.5"),
        ({"kernel_size": True}, "kernel_size must be an odd whole number, got True"),
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(InputError, match=message):
        make_conv_layers(**options)


def test_untrained_layers_contribute_nothing():
    layers = make_conv_layers(trained=[1], depth=2, pooling="average", kernel_size=5)
    assert layers.trained == (False, True, False)
    untrained = layers.untrained()
    assert untrained.trained == (False, False, False)
    assert (untrained.pooling, untrained.size, untrained.images) == ("average", 5, 2)
