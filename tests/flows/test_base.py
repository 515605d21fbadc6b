"""The features that base classes provide for every flow."""

import pytest
import torch

from gflow.errors import InputError
from gflow.flows import EndToEndFlow, FactorFlow, KernelFlow
from gflow.flows.base import gradient_of, split_ensemble
from tests.helpers import make_loss, randn, relative

FLOW = EndToEndFlow(make_loss("distance", 2, 3), 3)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[0.0]], "a state must be a floating-point tensor, got list"),
        (torch.zeros(2, 3).long(), "a state must be a floating-point tensor, got torch.int64"),
        (torch.zeros(0, 2, 3).double(), r"a state must not be empty, got shape \(0, 2, 3\)"),
        (torch.zeros(3, 2).double(), r"EndToEndFlow has shape \(..., 2, 3\), got \(3, 2\)"),
        (torch.zeros(3).double(), r"EndToEndFlow has shape \(..., 2, 3\), got \(3,\)"),
        (torch.zeros(2, 3), "a state must have the dtype and device of the flow's data"),
        (torch.full((2, 3), torch.nan).double(), "the state must be finite, but 6 of 6"),
    ],
)
def test_invalid_states_are_refused(y, message):
    with pytest.raises(InputError, match=message):
        FLOW.check_state(y)


def test_any_number_of_columns_is_shown_as_any():
    flow = FactorFlow(make_loss("distance", 2, 2))
    flow.check_state(randn(2, 7))
    with pytest.raises(InputError, match=r"FactorFlow has shape \(..., 2, any\), got \(3, 2\)"):
        flow.check_state(randn(3, 2))


def test_norm_and_inner_product_are_of_each_member():
    a, b = randn(4, 5, 2, 3), randn(4, 5, 2, 3, seed=1)
    assert FLOW.batch_shape(a) == (4, 5)
    assert relative(FLOW.norm(a), a.square().sum((-2, -1)).sqrt()) <= 1e-15
    assert relative(FLOW.inner(a, b), (a * b).sum((-2, -1))) <= 1e-14


def test_flows_without_a_closed_form_say_so():
    flow, U = FactorFlow.example()
    assert flow.closed_form(U) is None
    with pytest.raises(InputError, match="FactorFlow has no closed form for this loss and start"):
        flow.exact(torch.zeros(1), U)


def test_defaults_of_the_hooks():
    flow, U = FactorFlow.example()
    assert flow.stationary_state is None
    assert flow.spectral_radius(U) is None
    assert not flow.affine
    assert flow.invariants(U) == flow.invariant_scales(U) == {}
    assert flow.for_start(U) is flow.for_members(torch.zeros(1)) is flow
    assert flow.parameter_flow is flow
    assert flow.lift(U) is flow.project(U) is U
    loss, velocity = flow.loss_and_velocity(U)
    assert torch.equal(loss, flow.loss(U))
    velocity, acceleration = flow.velocity_and_acceleration(U)
    assert torch.equal(velocity, flow(0.0, U))
    assert torch.equal(acceleration, flow.jvp(U, velocity))
    assert torch.equal(flow.linearised(U)(velocity), acceleration)


def test_an_affine_flow_has_its_targets_as_fixed_point():
    flow, _ = KernelFlow.example()
    assert flow.affine
    assert not flow(0.0, flow.stationary_state).any()


def test_gradient_of_a_sum():
    y = randn(3, 2)
    assert relative(gradient_of(lambda x: x**3, y), 3 * y.square()) <= 1e-15
    assert not y.requires_grad


def test_an_ensemble_is_split_into_its_members():
    y = randn(2, 3, 4, 5)
    members, batch = split_ensemble(y, 2)
    assert batch == (2, 3)
    assert torch.equal(members, y.reshape(6, 4, 5))
    assert split_ensemble(y[0, 0], 2)[0].shape == (1, 4, 5)
