"""What interrupts a solve leaves the path until then."""

import pytest
import torch

import gflow
from tests.helpers import slow_except
from tests.solvers.loop.cases import GFLOW_METHODS

START = torch.tensor([2.0, 0.1], dtype=torch.float64)
TS = [0.0, 0.5, 1.0, 5.0]


def valley(w):
    return 0.25 * (w[0] * w[1] - 1) ** 2


class Failing(gflow.flows.ParameterFlow):
    """The flow of a loss whose evaluations raise from one on."""

    state_shape = (2,)

    def __init__(self, error):
        self.flow, self.error = gflow.flow_from_loss(valley, shape=2), error

    def __call__(self, t, y):
        if float(t) > 1.5 and self.error is not None:
            raise self.error
        return self.flow(t, y)

    def loss(self, y):
        return self.flow.loss(y)

    @classmethod
    def example(cls):
        return cls(None), START


LIBRARIES = ["dopri5", "rk4", "scipy:LSODA"]


@pytest.mark.parametrize("method", [*GFLOW_METHODS, "auto", *LIBRARIES])
def test_an_error_of_the_flow_carries_the_path_until_then(method):
    error, step_size = ValueError("no more"), 0.05 if method == "rk4" else None
    with pytest.raises(gflow.IntegrationError, match=r"fails: ValueError: no more; mend") as caught:
        gflow.integrate(Failing(error), START, TS, method, step_size=step_size)
    assert caught.value.__cause__ is error
    path = caught.value.trajectory
    assert path.ts.tolist()[:3] == TS[:3]
    assert 1.0 <= caught.value.t <= 1.5
    whole = gflow.integrate(Failing(None), START, TS, method, step_size=step_size)
    assert torch.allclose(path.ys[:3], whole.ys[:3], rtol=1e-5)


def test_an_error_in_the_first_evaluation_stays_what_it_is():
    flow = gflow.flow_from_loss(valley)
    with pytest.raises(gflow.InputError, match="until"):
        gflow.integrate(flow, START, TS, until=lambda y: 1 / 0)


@pytest.mark.parametrize("keyword", ["until", "progress", "checkpoint"])
def test_an_error_of_another_function_does_too(keyword):
    calls = []

    def fails(*arguments):
        calls.append(arguments)
        if len(calls) > 5:
            raise ValueError("no more")
        return arguments[0].sum() * 0 + 1 if keyword == "until" else None

    every = {"checkpoint_every": 0.0} if keyword == "checkpoint" else {}
    with pytest.raises(gflow.IntegrationError, match="ValueError: no more") as caught:
        gflow.integrate(gflow.flow_from_loss(valley), START, TS, **{keyword: fails}, **every)
    assert caught.value.t > 0
    assert len(caught.value.trajectory.ys) > 1


def test_the_members_that_have_ended_are_kept():
    flow = gflow.flow_from_loss(valley, shape=2)
    calls = []

    def until(y):
        calls.append(len(y))
        if len(calls) > 20:
            raise ValueError("no more")
        return y.sum(-1) * 0 + 1

    with pytest.raises(gflow.IntegrationError, match="no more") as caught:
        gflow.integrate(flow, torch.stack([START, 0.5 * START]), TS, "tsit5", until=until)
    assert list(caught.value.trajectory.failures) == [0]
    assert torch.isfinite(caught.value.trajectory.ends).all()


@pytest.mark.parametrize("method", slow_except(GFLOW_METHODS, "tsit5", "rock4", "bdf"))
def test_an_interrupt_carries_a_checkpoint(method):
    whole = gflow.integrate(Failing(None), START, TS, method)
    with pytest.raises(KeyboardInterrupt) as caught:
        gflow.integrate(Failing(KeyboardInterrupt()), START, TS, method)
    assert "resume=error.checkpoint" in caught.value.__notes__[0]
    path = gflow.integrate(Failing(None), START, TS, method, resume=caught.value.checkpoint)
    assert torch.equal(path.ys, whole.ys)
