import pytest
import torch
from torch import nn

import gflow
from tests.laws.networks import linear, noise

TS = torch.linspace(0.0, 3.0, 7, dtype=torch.float64)


def flow_of(module, criterion=nn.functional.mse_loss, kind=gflow.NetworkFlow):
    return kind(module.double(), criterion, noise(20, 3), noise(20, 2))


def names(flow):
    return [law.name for law in flow.laws]


def test_laws_become_the_invariants_of_a_network():
    torch.manual_seed(0)
    flow = flow_of(linear(3, 6, 5, 2, bias=True, act=nn.Tanh))
    assert names(flow) == []
    flow = flow_of(nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 2)))
    assert names(flow) == ["column_sums_0_weight", "column_sums_0_bias"]
    flow = flow_of(linear(3, 6, 2))
    path = gflow.integrate(flow, flow.pack(), TS, rtol=1e-10, atol=1e-13)
    assert path.certificate.holds
    assert set(path.certificate.invariant_drift) == {"balance_0_1"}
    assert path.certificate.invariant_drift["balance_0_1"] < 1e-8


def test_a_penalty_breaks_the_laws_that_it_breaks_and_no_other():
    torch.manual_seed(0)
    module = linear(3, 6, 5, 2)

    def penalised(outputs, targets):
        return nn.functional.mse_loss(outputs, targets) + module[0].weight.square().sum()

    assert names(flow_of(module)) == ["balance_0_1", "balance_1_2"]
    assert names(flow_of(module, penalised)) == ["balance_1_2"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_laws_are_found_in_either_precision(dtype):
    torch.manual_seed(0)
    module = linear(3, 6, 2, act=nn.ReLU).to(dtype)
    X, Y = noise(20, 3).to(dtype), noise(20, 2).to(dtype)
    assert names(gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y)) == ["balance_0_2"]


class _FirstLayerFaster(gflow.NetworkFlow):
    def loss_and_velocity(self, y):
        loss, velocity = super().loss_and_velocity(y)
        faster = torch.ones_like(velocity)
        faster[..., :18] = 1.01
        return loss, velocity * faster


def test_a_layer_whose_gradient_is_off_by_a_hundredth_breaks_its_law():
    torch.manual_seed(0)
    flow = flow_of(linear(3, 6, 5, 2), kind=_FirstLayerFaster)
    assert names(flow) == ["balance_0_1", "balance_1_2"]  # of the loss, not of the velocity
    path = gflow.integrate(flow, flow.pack(), TS, rtol=1e-8, atol=1e-11)
    drift = path.certificate.invariant_drift
    assert drift["balance_0_1"] > 100 * path.certificate.bounds["invariant_drift"]
    assert drift["balance_1_2"] < path.certificate.bounds["invariant_drift"]
    assert not path.certificate.holds


def test_of_wide_linear_layers_the_diagonal_is_measured():
    flow = flow_of(linear(3, 70, 2))
    assert flow.invariants(flow.pack())["balance_0_1"].shape == (70,)
