import sys

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import gflow
from gflow.errors import InputError
from tests.helpers import randn

TARGET = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))


def factor(rows):
    flow = gflow.FactorFlow(gflow.losses.SquaredDistance(TARGET))
    return flow, torch.tensor(rows, dtype=torch.float64)[:, None]


@pytest.mark.parametrize(
    ("start", "loss", "index"),
    [
        # ℓ(UUᵀ) = ½‖UUᵀ − M‖² has its critical points of rank 1 at √m_r e_r: index r.
        ([1.7, 1e-3, -1e-3], 2.5, 0),
        ([1e-6, 1.4, 1e-6], 5.0, 1),
        ([1e-6, 1e-6, 1.01], 6.5, 2),
        ([1e-6, 1e-6, 1e-6], 7.0, 3),
    ],
)
def test_critical_points_of_a_factorization_are_found_with_their_index(start, loss, index):
    found = gflow.refine(*factor(start))
    assert found.gradient_norm <= 1e-12
    assert found.loss == pytest.approx(loss, rel=1e-12)
    assert found.index == index
    assert found.verdict == ("saddle" if index else "minimum")
    assert found.flat == 0
    H = torch.autograd.functional.hessian(
        lambda u: 0.5 * (u @ u.mT - TARGET).square().sum(), found.state
    )
    values = torch.linalg.eigvalsh(H.reshape(3, 3))
    assert found.eigenvalues == pytest.approx((float(values[0]), float(values[-1])), rel=1e-10)


def test_a_wide_network_ends_at_a_minimum_that_is_not_isolated():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 20), nn.Tanh(), nn.Linear(20, 1)).double()
    X, Y = randn(6, 3, seed=1), randn(6, 1, seed=2)
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y)
    path = gflow.integrate(flow, flow.pack(), [0.0, 20.0], rtol=1e-4)
    found = gflow.refine(flow, path.ys[-1])
    assert found.verdict == "minimum"
    assert found.gradient_norm <= 1e-12
    assert found.loss < 1e-22
    assert found.flat == len(flow.pack()) - 6  # one direction a residual is curved
    assert found.distance == pytest.approx(float((found.state - path.ys[-1]).norm()))


def test_with_weight_decay_and_time_scales_a_minimum_is_that_of_the_objective():
    torch.manual_seed(0)
    module = nn.Linear(3, 1, bias=False).double()
    X, Y = randn(6, 3, seed=1), randn(6, 1, seed=2)
    keywords = {"weight_decay": 0.3, "rates": 5.0}
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y, **keywords)
    found = gflow.refine(flow, flow.pack())
    ridge = torch.linalg.solve(2 / 6 * X.mT @ X + 0.3 * torch.eye(3).double(), 2 / 6 * X.mT @ Y)
    assert torch.allclose(found.state, ridge[:, 0], rtol=1e-11)


def test_separable_classes_lead_to_infinity():
    X = torch.tensor([[2.0, 1.0], [-1.0, -2.0], [1.0, 1.0]], dtype=torch.float64)
    flow = gflow.NetworkFlow(nn.Linear(2, 1).double(), "logistic", X, torch.tensor([1, 0, 1]))
    assert gflow.refine(flow, flow.pack()).verdict == "way to infinity"


def test_of_a_reduced_flow_the_parameters_are_refined():
    flow, W = gflow.ProductFlow.example()
    found = gflow.refine(flow, W)
    assert found.gradient_norm <= 1e-12
    assert found.state.shape == flow.lift(W).shape


def test_a_large_hessian_is_counted_by_products(monkeypatch):
    monkeypatch.setattr(sys.modules["gflow.studies.critical_search"], "_DENSE", 0)
    found = gflow.refine(*factor([1e-6, 1e-6, 1.01]))
    assert (found.index, found.flat, found.verdict) == (2, None, "saddle")


@pytest.mark.parametrize("dense", [pytest.param(1500, marks=pytest.mark.slow), 0])
def test_networks_on_digits_come_to_a_zero_of_the_loss(monkeypatch, dense):
    monkeypatch.setattr(sys.modules["gflow.studies.critical_search"], "_DENSE", dense)
    X, classes = load_digits(return_X_y=True)
    X, Y = torch.as_tensor(X[:12] / 16), torch.eye(10).double()[classes[:12]]
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 10), nn.Tanh(), nn.Linear(10, 10)).double()
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y)
    path = gflow.integrate(flow, flow.pack(), [0.0, 10.0], rtol=1e-4)
    found = gflow.refine(flow, path.ys[-1])
    assert found.gradient_norm <= 1e-12
    assert (found.verdict, found.index) == ("minimum", 0)
    J = torch.autograd.functional.jacobian(lambda y: flow.end_to_end(y).flatten(), found.state)
    rank = int((torch.linalg.svdvals(J).square() > 1e-8 * torch.linalg.svdvals(J)[0] ** 2).sum())
    assert found.flat == len(found.state) - rank


def test_a_loss_below_zero_is_no_zero_of_the_residuals(monkeypatch):
    # u = w₂w₁ at zero: the residual is 1, and the Hessian is not that of Gauss-Newton.
    monkeypatch.setattr(sys.modules["gflow.studies.critical_search"], "_DENSE", 0)
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    one = torch.ones(1, 1).double()
    flow = gflow.NetworkFlow(module, lambda u, v: (u - v).square().mean() - 10, one, one)
    found = gflow.refine(flow, torch.zeros(2).double())
    assert (found.verdict, found.flat) == ("saddle", None)


def test_gauss_newton_does_not_leave_a_saddle_that_is_near():
    # Two layers at zero: a saddle of the loss, from which Gauss-Newton would go downhill.
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
    X = torch.eye(2, dtype=torch.float64)
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, torch.diag(X.new_tensor([2.0, 1])))
    start = 1e-3 * randn(*flow.state_shape, seed=4)
    found = gflow.refine(flow, start)
    assert found.verdict == "saddle"
    assert float(found.state.norm()) < 1e-8


def test_without_products_left_nothing_is_claimed():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, randn(9, 3), randn(9, 1, seed=2))
    found = gflow.refine(flow, flow.pack(), max_products=10)
    assert found.verdict == "not reached"
    assert found.gradient_norm > 1e-12


@pytest.mark.parametrize("keywords", [{"tol": 0.0}, {"max_products": 0}])
def test_arguments_are_checked(keywords):
    with pytest.raises(InputError):
        gflow.refine(*factor([1.0, 1.0, 1.0]), **keywords)


def test_an_ensemble_is_refused():
    flow, y = factor([1.0, 1.0, 1.0])
    with pytest.raises(InputError, match="one"):
        gflow.refine(flow, torch.stack([y, y]))
