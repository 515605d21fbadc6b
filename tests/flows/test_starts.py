"""Flows that somebody else wrote: as little as possible works, and what is broken is refused."""

import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import ModifiedFlow, ParameterFlow, ReducedFlow
from gflow.flows.starts import checked_start, single_start
from tests.helpers import relative, times

H = torch.diag(times(1.0, 3.0))
START = times(1.0, 1.0)


class Quadratic(ParameterFlow):
    """½yᵀHy with nothing but what a flow needs; its shape is set in the constructor."""

    def __init__(self):
        self.state_shape = (2,)

    def loss(self, y):
        return 0.5 * ((y @ H) * y).sum(-1)

    def __call__(self, t, y):
        return -(y @ H)


def changed(**methods):
    """Return a Quadratic with other methods, or another shape."""
    shape = methods.pop("state_shape", (2,))
    flow = type("Mine", (Quadratic,), methods)()
    flow.state_shape = shape
    return flow


def test_a_flow_of_three_definitions_is_integrated_and_descended():
    path = gflow.integrate(Quadratic(), START.numpy(), np.linspace(0, 1, 3), rtol=1e-9, atol=1e-12)
    assert path.certificate.holds
    assert relative(path.ys[-1], torch.exp(-times(1.0, 3.0))) <= 1e-8
    gd = gflow.descend(Quadratic(), START, 0.5, 2)
    assert relative(gd.ys[-1], (1 - 0.5 * times(1.0, 3.0)) ** 2) <= 1e-15
    assert gflow.compare(path, gd).ts.tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(InputError, match="Quadratic has no example"):
        Quadratic.example()


def test_what_is_missing_is_named():
    kind = type("Mine", (ParameterFlow,), {"loss": Quadratic.loss})
    with pytest.raises(InputError, match="but Mine has no __call__; define it"):
        kind()
    kind = type("Mine", (ParameterFlow,), METHODS)
    with pytest.raises(InputError, match="but Mine has none; define it as a property"):
        checked_start(kind(), START, "")


METHODS = {"loss": Quadratic.loss, "__call__": Quadratic.__call__}
BUFFER = torch.zeros(2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {"state_shape": 2},
            r"state_shape must be a tuple of whole numbers, got 2; such as \(3,\)",
        ),
        ({"state_shape": lambda self: (2,)}, "got function; make it a property"),
        ({"__call__": lambda self, y: -y}, r"Mine.__call__\(t, y\) fails: TypeError"),
        ({"__call__": lambda self, t, y: y.mul_(-1)}, "must not change y, but does"),
        ({"__call__": lambda self, t, y: y}, "must return a new tensor at every call"),
        ({"__call__": lambda self, t, y: torch.neg(y, out=BUFFER)}, "new tensor|fails for two"),
        ({"__call__": lambda self, t, y: -y.sum()}, r"must return shape \(2,\) here, got \(\)"),
        (
            {"__call__": lambda self, t, y: -(y @ H).float()},
            "must return the dtype and device of y",
        ),
        ({"__call__": lambda self, t, y: -(y @ H) * y.norm()}, "treat each state of an ensemble"),
        ({"__call__": lambda self, t, y: -torch.stack([y[0], 3 * y[1]])}, "two equal states|got"),
        (
            {"loss": lambda self, y: 0.5 * ((y @ H) * y).sum()},
            r"shape \(2,\) here, got \(\).*dim=-1",
        ),
        ({"loss": lambda self, y: float(y.sum())}, "must return a tensor, got 2.0; use torch"),
        ({"invariants": lambda self, y: [y]}, "must return a dict of tensors by name"),
        ({"invariants": lambda self, y: {"a": 0.0}}, "must return a tensor, got 0.0"),
        (
            {"invariants": lambda self, y: {"a": y}, "invariant_scales": lambda self, y: {"a": y}},
            r"Mine.invariant_scales\(y\)\['a'\] must return shape \(\) here, got \(2,\)",
        ),
    ],
)
@pytest.mark.parametrize("wrap", [lambda flow: flow, lambda flow: ModifiedFlow(flow, 0.1)])
def test_what_breaks_the_contract_is_refused(methods, message, wrap):
    with pytest.raises(InputError, match=message) as caught:
        gflow.integrate(wrap(changed(**dict(methods))), START, [0.0, 1.0])
    assert "\n" not in str(caught.value)
    assert START.tolist() == [1.0, 1.0]


def test_a_wrong_factor_does_not_hold():
    path = gflow.integrate(changed(__call__=lambda self, t, y: -1.05 * (y @ H)), START, [0.0, 1.0])
    assert not path.certificate.holds
    assert path.certificate.velocity_error == pytest.approx(0.05, rel=1e-3)


def test_a_loss_through_numpy_is_integrated_and_its_velocity_named_as_unchecked():
    def loss(self, y):
        return torch.as_tensor(0.5 * ((y.numpy() @ H.numpy()) * y.numpy()).sum(-1))

    flow = changed(loss=loss)
    certificate = gflow.integrate(flow, START, [0.0, 1.0]).certificate
    assert "velocity_error" in repr(certificate)
    assert "not run" in repr(certificate)
    assert certificate.holds


def test_a_start_loses_its_gradient_and_may_be_an_array():
    flow = Quadratic()
    assert not checked_start(flow, START.clone().requires_grad_(), "")[1].requires_grad
    assert torch.equal(checked_start(flow, START.numpy(), "")[1], START)
    with pytest.raises(InputError, match="a study takes one start"):
        single_start("a study", flow, torch.stack([START, START]), "")
    with pytest.raises(InputError, match="the start must be a tensor, got Quadratic; write call"):
        checked_start(flow, flow, "call")


class Square(ReducedFlow):
    """w = θ² on ½‖w − 1‖², without its parameters: ẇ = −4w(w − 1)."""

    state_shape = (2,)

    def loss(self, y):
        return 0.5 * (y - 1).square().sum(-1)

    def __call__(self, t, y):
        return -4 * y * (y - 1)


def test_a_reduced_flow_without_parameters_is_integrated():
    start = times(0.3, 0.5)
    path = gflow.integrate(Square(), start, [0.0, 2.0], rtol=1e-9, atol=1e-12)
    exact = 1 / (1 + (1 / start - 1) * torch.exp(times(-8.0)))
    assert relative(path.ys[-1], exact) <= 1e-7
    assert relative(Square().gradient(start), start - 1) <= 1e-15
    with pytest.raises(InputError, match="Square has no lift; define parameter_flow, lift and pro"):
        gflow.descend(Square(), start, 0.1, 3)
