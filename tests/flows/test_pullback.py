"""Vector-Jacobian products are those of torch.autograd.grad, without what it imports."""

import pytest
import torch

from gflow.flows import pullback
from gflow.flows.pullback import pull_back
from tests.helpers import randn


@pytest.fixture(params=["engine", "public"], autouse=True)
def way(request, monkeypatch):
    """Compute by torch's engine, and as where a version of torch does not have that function."""
    if request.param == "public":
        monkeypatch.setattr(pullback, "_engine_run_backward", None)
    else:
        assert pullback._engine_run_backward is not None


def test_products_are_those_of_autograd():
    x, w = randn(4).requires_grad_(), randn(4, seed=1).requires_grad_()
    outputs, along = [(x * w).tanh(), (x**2).sum()], [randn(4, seed=2), torch.ones(()).double()]
    ours = pull_back(outputs, [x, w], along, retain_graph=True)
    assert all(map(torch.equal, ours, torch.autograd.grad(outputs, [x, w], along)))
    assert not ours[0].requires_grad


def test_they_are_differentiated_in_turn():
    x = randn(3).requires_grad_()
    (first,) = pull_back([(x**3).sum()], [x], [torch.ones(()).double()], create_graph=True)
    (second,) = pull_back([first], [x], [torch.ones(3).double()])
    assert torch.equal(second, 6 * x.detach())
    with pytest.raises(RuntimeError, match="second time"):
        pull_back([first], [x], [torch.ones(3).double()])


def test_inputs_without_influence_have_a_zero():
    x, other = randn(3).requires_grad_(), randn(2).requires_grad_()
    slopes = pull_back([2 * x], [x, other], [torch.ones(3).double()])
    assert [s.tolist() for s in slopes] == [[2.0] * 3, [0.0] * 2]
