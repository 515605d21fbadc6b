"""The right-hand side in rows of members: shapes, counts, and one copy to the host."""

import numpy as np
import pytest
import torch

import gflow.flows
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.losses import SquaredDistance
from gflow.solvers.loop.spectral_radius import first_vectors
from gflow.solvers.loop.system import System
from gflow.solvers.problem import Problem
from tests.helpers import randn, times

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
STARTS = randn(3, 2, 2)


def make_system(y0, flow=FLOW):
    return System(Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9))


def test_a_single_start_is_an_ensemble_of_one():
    single, ensemble = make_system(STARTS[0]), make_system(STARTS[:1])
    assert (single.single, ensemble.single) == (True, False)
    assert single.size == ensemble.size == 4
    y = STARTS[:1].reshape(1, 4)
    rates: list[torch.Tensor] = []
    a, b = single.rhs(0.0, y, rates), ensemble.rhs(times(0.0), y, rates)
    assert a.shape == b.shape == (1, 4)
    assert torch.allclose(a, b)
    assert torch.allclose(rates[0].reshape(-1), rates[1])
    assert single.scalars(np.float64(0.5)) == 0.5
    assert torch.equal(ensemble.scalars(np.array([0.5])), times(0.5))


def test_every_evaluation_is_counted():
    system, y = make_system(STARTS), STARTS.reshape(3, 4)
    system.velocity(times(0.0, 0.0, 0.0), y)
    system.rhs(times(0.0, 0.0, 0.0), y, [])
    system.measure(y, None)
    assert system.calls == 2


def test_the_flow_is_restricted_to_the_selected_members():
    class Rates(KernelFlow):
        affine = False

        def __init__(self, rates):
            super().__init__(torch.eye(1, dtype=torch.float64), times(0.0))
            self.rates = rates

        def for_members(self, index):
            return Rates(self.rates[index])

        def __call__(self, t, y):
            return -self.rates * y

    system = make_system(torch.ones(3, 1).double(), Rates(times(1.0, 10.0, 100.0)[:, None]))
    system.select(np.array([2, 0]))
    velocity = system.velocity(0.0, torch.ones(2, 1).double())
    assert velocity.reshape(-1).tolist() == [-100.0, -1.0]


@pytest.mark.parametrize("event", [None, lambda y: y.flatten(1).sum(dim=1)])
def test_measurements_have_one_row_per_number(event):
    system, y = make_system(STARTS), STARTS.reshape(3, 4)
    loss, size, value, first, second = system.measure(y, event, times(1, 2, 3), times(4, 5, 6))
    assert loss == pytest.approx(FLOW.loss(STARTS).numpy())
    assert size == pytest.approx(y.norm(dim=1).numpy())
    assert value == pytest.approx(loss if event is None else y.sum(dim=1).numpy())
    assert first.tolist() == [1, 2, 3]
    assert second.tolist() == [4, 5, 6]


def test_a_known_radius_needs_no_evaluation():
    flow = KernelFlow(torch.diag(times(1.0, 20.0)), times(1.0, -1.0))
    system, y = make_system(torch.zeros(2).double(), flow), torch.zeros(1, 2).double()
    known = flow.spectral_radius(y[0])
    radius, _ = system.radius(0.0, y, y, first_vectors(y))
    if known is not None:
        assert radius.tolist() == [known]
        assert system.calls == 0
    assert 20.0 <= radius[0] <= 23.5


def test_factors_of_the_velocity_are_those_of_every_member():
    factors = 1 + 0.1 * randn(2, 2, seed=1)
    problem = Problem(FLOW, STARTS, [0.0, 1.0], rtol=1e-6, atol=1e-9, velocity_factors=factors)
    system, y, t = System(problem), STARTS.reshape(3, 4), times(0.0, 0.0, 0.0)
    expected = (FLOW(0.0, STARTS) * factors).reshape(3, 4)
    assert torch.equal(system.velocity(t, y), expected)
    assert torch.equal(system.rhs(t, y, []), expected)


def test_products_are_those_of_the_jacobian_and_are_counted():
    H = torch.diag(times(1.0, 2.0))
    system = make_system(times(1.0, 1.0), KernelFlow(H, times(0.0, 0.0)))
    assert system.product(times(1.0, 1.0)[None], times(1.0, 3.0)[None]).tolist() == [[-1.0, -6.0]]
    assert system.calls == 1


class Valley(gflow.flows.ParameterFlow):
    """½ Σ λ y², with time scales."""

    def __init__(self, scales):
        self.scales = scales

    @property
    def state_shape(self):
        return (3,)

    @property
    def parameter_rates(self):
        return self.scales

    def loss(self, y):
        return 0.5 * (times(1.0, 2.0, 3.0) * y.square()).sum(-1)

    def __call__(self, t, y):
        slope = times(1.0, 2.0, 3.0) * y
        return -slope if self.scales is None else -self.scales * slope


class HalfAsFast(Valley):
    def dissipation(self, y, velocity):
        return 0.5 * super().dissipation(y, velocity)


class OwnMetric(Valley):
    def metric_inner(self, a, b):
        return 3 * super().metric_inner(a, b)


class OwnInner(Valley):
    def inner(self, a, b):
        return 5 * super().inner(a, b)


@pytest.mark.parametrize("kind", [Valley, HalfAsFast, OwnMetric, OwnInner])
@pytest.mark.parametrize("scales", [None, times(1.0, 0.5, 4.0)])
def test_the_loss_of_a_lone_start_falls_as_its_flow_says(kind, scales):
    flow, y = kind(scales), times(1.0, -2.0, 0.5)
    velocity = flow(0.0, y)
    system = make_system(y, flow)
    assert system.arrays
    fall = system.dissipation(y.numpy()[None], velocity.numpy()[None])
    assert fall == pytest.approx(float(flow.dissipation(y, velocity)), rel=1e-14)
