"""The bases of activations: small angles, and rows without features."""

import math

import pytest
import torch

from gflow.kernels.activations import ACTIVATIONS
from gflow.kernels.dual_maps import PiecewiseLinear, safe_inverse
from tests.helpers import randn, relative
from tests.kernels.quadrature import SMOOTH


@pytest.mark.parametrize("angle", [1e-9, 1e-6, 1e-4, 1e-2])
def test_piecewise_linear_maps_keep_the_digits_of_small_angles(angle):
    """1 − κ = u − γθ³/3·(1 + O(θ²)) of points at a small angle."""
    relu = PiecewiseLinear(0.5, 0.5)
    unit, u = (torch.tensor(v, dtype=torch.float64) for v in (1.0, 2 * math.sin(angle / 2) ** 2))
    s = torch.tensor(math.sin(angle), dtype=torch.float64)
    defect, slope = relu.pair(unit, unit, unit, unit, u.clone(), s)
    expected = float(u) - angle**3 / (3 * math.pi)
    assert float(defect) == pytest.approx(expected, rel=1e-12 + angle**3)
    assert float(slope) == pytest.approx(1 - angle / math.pi, rel=1e-15)


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_maps_of_points_with_themselves(name):
    activation = ACTIVATIONS[name]
    r = randn(5).abs() + 0.1
    h = activation.feature_variance(r, r * r).sqrt()
    defect, _ = activation.pair(r, r, h, h, torch.zeros_like(r), torch.zeros_like(r))
    assert float(defect.max()) <= 4e-16


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_rows_without_pre_activations_have_no_features(name):
    """φ(0) = 0 for every activation of the folder."""
    activation = ACTIVATIONS[name]
    zero = torch.zeros(3, dtype=torch.float64)
    assert not activation.feature_variance(zero, zero).any()
    defect, slope = activation.pair(zero, zero, zero, zero, zero.clone() + 1, zero.clone() + 1)
    assert torch.isfinite(defect).all()
    assert torch.isfinite(slope).all()


def test_safe_inverse():
    assert safe_inverse(torch.tensor([0.0, 4.0])).tolist() == [0.0, 0.25]
    assert relative(safe_inverse(randn(4).abs()), 1 / randn(4).abs()) == 0.0
