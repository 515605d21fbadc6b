import pytest
import torch
from torch import nn

import gflow
from gflow.errors import InputError
from gflow.studies import law_drift
from tests.helpers import randn

X, Y = randn(12, 3, seed=1), randn(12, 2, seed=2)
SIZES = [0.08, 0.04, 0.02, 0.01]


def network(act=nn.Identity, **keywords):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4, bias=False), act(), nn.Linear(4, 2, bias=False)).double()
    return gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y, **keywords)


@pytest.fixture(scope="module")
def found():
    flow = network()
    return law_drift(flow, flow.pack(), 0.8, SIZES, points=5)


def test_drift_is_of_order_one_under_descent_and_round_off_along_the_flow(found):
    (fit,) = found.fits.values()
    assert fit.order == pytest.approx(1.0, abs=0.05)
    assert fit.refusal is None
    assert float(found.flow_drift["balance_0_2"].max()) < 1e-9
    assert found.trajectory.certificate.holds
    assert found.formulas["balance_0_2"] == "2.weightᵀ·2.weight − 0.weight·0.weightᵀ"
    assert found.sizes == {"balance_0_2": 16}
    assert (found.count.laws, found.count.found) == (10, 10)


def test_a_step_changes_a_law_by_the_law_of_the_gradient(found):
    flow = network()
    (law,) = flow.laws
    y = flow.pack()
    step = found.step_sizes[0]
    gradient = flow.parameters_dict(-flow(0.0, y))
    change = law(flow.parameters_dict(y + step * flow(0.0, y))) - law(flow.parameters_dict(y))
    assert torch.allclose(change, step**2 * law(gradient), rtol=1e-10, atol=1e-16)


def test_drift_under_weight_decay_is_that_from_the_decaying_law():
    flow = network(weight_decay=0.3, rates={"0": 2.0, "2": 2.0})
    found = law_drift(flow, flow.pack(), 0.8, SIZES[1:], points=5, max_counted=0)
    assert found.decay_rates == {"balance_0_2": pytest.approx(1.2)}
    assert found.fits["balance_0_2"].order == pytest.approx(1.0, abs=0.1)
    assert float(found.flow_drift["balance_0_2"].max()) < 1e-9
    assert found.count is None


def test_a_linear_law_does_not_drift_under_descent():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 2)).double()
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y)
    found = law_drift(flow, flow.pack(), 0.4, SIZES[1:], points=3, rtol=1e-8)
    for name, fit in found.fits.items():
        assert name.startswith("column_sums")
        assert max(fit.gaps) < 1e-14
        assert fit.order is None


def test_of_a_reduced_flow_the_laws_of_its_parameters_are_measured():
    flow, W = gflow.EndToEndFlow.example()
    found = law_drift(flow, W, 0.1, [0.01, 0.005], points=3)
    assert set(found.fits) == set(flow.parameter_flow.invariants(flow.lift(W)))
    assert all(fit.order is None for fit in found.fits.values())  # of two step sizes


def test_a_flow_without_laws_is_refused():
    flow = network(nn.Tanh)
    with pytest.raises(InputError, match="must conserve something that is known"):
        law_drift(flow, flow.pack(), 0.8, SIZES)
