"""Flows that wrap another flow forward most methods to it."""

import pytest
import torch

from gflow.errors import InputError
from gflow.flows import CentralFlow, FactorFlow, KernelFlow, ModifiedFlow, TwoLayerFlow
from gflow.flows.wrapped import WrappedFlow, require_parameter_flow
from tests.helpers import randn


class Doubled(WrappedFlow):
    """A flow of twice the speed."""

    title = "the doubled flow"

    def __call__(self, t, y):
        return 2 * self.flow(t, y)

    def _wrap(self, flow, index):
        return Doubled(flow)

    @classmethod
    def example(cls):
        flow, start = FactorFlow.example()
        return cls(flow), start


def test_states_and_losses_are_those_of_the_inner_flow():
    doubled, U = Doubled.example()
    flow = doubled.flow
    assert doubled.state_shape == flow.state_shape
    assert doubled.reference_tensor is flow.reference_tensor
    assert torch.equal(doubled.loss(U), flow.loss(U))
    assert torch.equal(doubled.end_to_end(U), flow.end_to_end(U))
    assert torch.equal(doubled(0.0, U), 2 * flow(0.0, U))
    with pytest.raises(InputError, match="a state of FactorFlow"):
        doubled.check_state(U[:2])


@pytest.mark.parametrize("wrap", [lambda f: ModifiedFlow(f, 0.1), lambda f: CentralFlow(f, 0.1)])
def test_members_of_the_inner_flow_are_selected(wrap):
    signs = torch.where(randn(3, 4) > 0, 1.0, -1.0).double()
    flow = TwoLayerFlow(randn(5, 2), randn(5, seed=1), signs)
    W, index = randn(3, 4, 2, seed=2), torch.tensor([2, 0])
    members = wrap(flow).for_members(index)
    assert type(members) is type(wrap(flow))
    assert torch.equal(members.flow(0.0, W[index]), flow(0.0, W)[index])


def test_only_flows_of_parameters_are_wrapped():
    with pytest.raises(InputError, match="the doubled flow needs a flow of parameters, got Kernel"):
        Doubled(KernelFlow.example()[0])
    require_parameter_flow("the doubled flow", FactorFlow.example()[0])
