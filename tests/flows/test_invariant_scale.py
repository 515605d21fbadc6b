"""Scales of invariants where a flow gives none."""

import pytest
import torch

import gflow
from gflow.flows.invariant_scale import response_scales
from tests.helpers import randn, times


@pytest.mark.parametrize("y", [times(1.0, 1.0), times(2.0, 0.5), times(1e-8, 1.0), times(0.0, 3.0)])
def test_the_scale_is_the_response_to_relative_errors(y):
    scale = response_scales(lambda y: {"d": y[..., 0] ** 2 - y[..., 1] ** 2}, y, 1)["d"]
    expected = 2 * float(y.square().norm())
    assert expected / 3 <= float(scale) <= 3 * expected


def test_it_agrees_with_the_scale_of_a_flow_that_gives_one():
    flow, y0 = gflow.LayerwiseFlow.example()
    found = response_scales(flow.invariants, y0, 1)
    for name, scale in flow.invariant_scales(y0).items():
        assert 0.1 <= float(found[name] / scale) <= 10


def test_each_member_has_its_own():
    invariants = lambda y: {"outer": y[..., :, None] * y[..., None, :]}  # noqa: E731
    y = randn(3, 2, 4)
    scales = response_scales(invariants, y, 1)["outer"]
    assert scales.shape == (3, 2)
    alone = response_scales(invariants, y[1, 1], 1)["outer"]
    assert float(scales[1, 1]) == pytest.approx(float(alone), rel=1e-6)
    assert response_scales(lambda y: {}, y, 1) == {}


def test_an_invariant_far_below_the_state_may_move_by_what_the_tolerance_allows():
    scale = response_scales(lambda y: {"first": y[..., 0]}, times(1e-12, 1.0), 1)["first"]
    assert 1e-4 <= float(scale) <= 1e-2
    assert float(response_scales(lambda y: {"one": 0 * y[..., 0]}, torch.ones(2), 1)["one"]) == 0
