"""What is passed as a flow or a loss: the error says what to write instead."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows.arguments import require_flow, require_loss
from gflow.losses import SquaredDistance

LOSS = SquaredDistance(torch.eye(2))


@pytest.mark.parametrize(
    ("value", "mend"),
    [
        (lambda t, y: -y, r"got function; .*gflow.flow_from_loss\(loss\)"),
        (torch.nn.Linear(1, 1), r"got Linear; write gflow.NetworkFlow\(module, criterion"),
        (LOSS, "got SquaredDistance; write gflow.EndToEndFlow"),
        (gflow.FactorFlow, r"got FactorFlow; make one, such as FactorFlow\(...\)"),
        (torch.eye(2), r"got a tensor of shape \(2, 2\); write call\(flow, y0\)"),
        (None, r"got None; write call\(flow, y0\)"),
    ],
)
def test_what_is_no_flow_is_refused(value, mend):
    with pytest.raises(InputError, match=f"flow must be a flow of gflow, {mend}"):
        require_flow(value, "call(flow, y0)")


@pytest.mark.parametrize(
    ("value", "mend"),
    [
        (lambda W: W.sum(), r"got function; .*gflow.flow_from_loss\(loss\)"),
        (SquaredDistance, "got SquaredDistance; make one"),
        (torch.eye(2), r"got a tensor of shape \(2, 2\); such as SquaredDistance\(target\)"),
    ],
)
@pytest.mark.parametrize("flow", [lambda x: gflow.EndToEndFlow(x, 2), gflow.FactorFlow])
def test_what_is_no_loss_is_refused(value, mend, flow):
    with pytest.raises(InputError, match=f"loss must be one of gflow.losses, {mend}"):
        flow(value)


def test_flows_and_losses_pass():
    require_loss(LOSS)
    require_flow(gflow.FactorFlow(LOSS), "call(flow, y0)")
