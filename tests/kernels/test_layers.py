"""The description of a network, and pre-activations of single points."""

import math

import pytest
import torch

from gflow.errors import InputError
from gflow.kernels.activations import ACTIVATIONS
from gflow.kernels.hermite import HermiteSeries
from gflow.kernels.layers import checked_points, find_activation, make_layers, pre_activations
from tests.helpers import randn


def test_a_single_number_applies_to_every_layer():
    layers = make_layers(depth=2, w_std=1.5, b_std=(0.0, 1, 2.5))
    assert layers.w == (1.5, 1.5, 1.5)
    assert layers.b == (0.0, 1.0, 2.5)
    assert layers.depth == 2
    assert layers.trained == (True, True, True)
    assert layers.untrained().trained == (False, False, False)
    assert make_layers(depth=2, trained=(2, 0)).trained == (True, False, True)


def test_activations_by_name_by_function_and_as_objects():
    assert find_activation("erf") is ACTIVATIONS["erf"]
    assert find_activation(ACTIVATIONS["gelu"]) is ACTIVATIONS["gelu"]
    assert isinstance(find_activation(torch.tanh), HermiteSeries)
    with pytest.raises(
        InputError, match=r"no activation 'xyz'; choose from abs, .*relu.*; or pass"
    ):
        find_activation("xyz")


@pytest.mark.parametrize("b", [0.0, 0.7])
def test_pre_activations_share_their_variance_with_the_bias(b):
    variance = torch.tensor([0.0, 0.3, 4.0], dtype=torch.float64)
    z = pre_activations(variance, b)
    known = z.std > 0
    assert z.variance.tolist() == (variance + b * b).tolist()
    assert z.std.tolist() == z.variance.sqrt().tolist()
    for share, part in ((z.cos, variance.sqrt()), (z.sin, torch.full_like(variance, b))):
        torch.testing.assert_close(share[known], (part / z.std)[known], rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(2 * z.half_sin * z.half_cos, z.sin, rtol=1e-14, atol=1e-15)


def test_a_variance_that_overflows_is_an_error():
    with pytest.raises(InputError, match=r"must be short enough for the kernel to fit .*float32"):
        pre_activations(torch.tensor([math.inf]), 0.0)


def test_points_must_have_the_right_shape_and_the_same_dtype():
    checked_points(randn(2, 3), randn(4, 3), "(n, d)")
    with pytest.raises(InputError, match=r"x2 must have shape \(n, d\), got \(3,\)"):
        checked_points(randn(2, 3), randn(3), "(n, d)")
    with pytest.raises(InputError, match="x1 and x2 must share dtype and device"):
        checked_points(randn(2, 3), randn(2, 3).float(), "(n, d)")
