"""Solves of large states, which keep few vectors, compute what others do."""

import pytest
import torch

import gflow
from gflow.linalg import large
from gflow.solvers.loop import system
from tests.helpers import slow_except, worst_relative
from tests.solvers.potentials import OWN, Bernoulli

RATES = [-2.0, 0.3, 2.0, 40.0]
TS = [0.0, 0.5, 3.0]


@pytest.fixture(params=slow_except(["tensors", "arrays"], "tensors"))
def every_state_is_large(request, monkeypatch):
    monkeypatch.setattr(large, "LARGE", 0)
    if request.param == "tensors":
        monkeypatch.setattr(system, "_SMALL", 0)


def start(flow):
    return flow.Q @ torch.tensor([1e-2, 0.5, 1.0, -1.0], dtype=torch.float64)


@pytest.mark.parametrize("method", slow_except(OWN, "rkc2", "bdf"))
def test_paths_from_a_saddle_are_right(every_state_is_large, method):
    flow = Bernoulli(RATES)
    y0 = start(flow)
    path = gflow.integrate(flow, y0, TS, method, rtol=1e-5, atol=1e-8)
    assert worst_relative(path.ys, flow.at(TS, y0)) <= 5e-4
    assert path.certificate.holds


@pytest.mark.parametrize("method", slow_except(["rock4", "bdf"], "bdf"))
def test_as_many_evaluations_are_enough(monkeypatch, method):
    flow = Bernoulli(RATES)
    y0 = start(flow)
    usual = gflow.integrate(flow, y0, TS, method, rtol=1e-5, atol=1e-8).stats.rhs_evals
    monkeypatch.setattr(large, "LARGE", 0)
    few = gflow.integrate(flow, y0, TS, method, rtol=1e-5, atol=1e-8).stats.rhs_evals
    assert few == pytest.approx(usual, rel=0.1)


@pytest.mark.parametrize("method", ["tsit5", "bdf"])
def test_a_resumed_solve_has_the_same_bits(every_state_is_large, method):
    flow, checkpoints = Bernoulli(RATES), []
    y0, options = start(flow), {"method": method, "rtol": 1e-4, "atol": 1e-7}
    path = gflow.integrate(
        flow, y0, TS, **options, checkpoint=checkpoints.append, checkpoint_every=0.0
    )
    for checkpoint in checkpoints[5 :: len(checkpoints) // 3]:
        resumed = gflow.integrate(flow, y0, TS, **options, resume=checkpoint)
        assert torch.equal(resumed.ys, path.ys)
        assert resumed.stats.rhs_evals == path.stats.rhs_evals


def test_an_ensemble_that_is_large_in_all_has_few_vectors_too(monkeypatch):
    flow = Bernoulli(RATES)
    starts = torch.stack([start(flow), 2 * start(flow), -start(flow)])
    monkeypatch.setattr(large, "LARGE", 0)
    path = gflow.integrate(flow, starts, TS, "auto", rtol=1e-5, atol=1e-8)
    for i, y0 in enumerate(starts):
        assert worst_relative(path.ys[:, i], flow.at(TS, y0)) <= 5e-4
    assert path.certificate.holds
