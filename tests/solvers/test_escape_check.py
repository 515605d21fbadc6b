"""Checks of what a path amplified: finer solves with other round-off in start and velocity."""

import math
from types import SimpleNamespace

import pytest
import torch

import gflow
from gflow.flows import FactorFlow
from gflow.losses import SquaredDistance
from gflow.solvers.escape_check import measure_escape
from gflow.solvers.options import SolveOptions
from gflow.solvers.problem import Problem
from gflow.solvers.solve import solve
from tests.helpers import times
from tests.solvers.test_escape import saddle
from tests.truths.case import solve as solve_truth
from tests.truths.landscapes import landscape
from tests.truths.matrices import aligned


def solved(flow, y0, ts, **options):
    return solve(flow, y0, ts, SolveOptions(**options)).problem


class Recorded:
    """A finer solve that keeps its arguments and takes no steps: every state is the start."""

    def __init__(self):
        self.calls = []

    def __call__(self, flow, start, ts, options, factors):
        self.calls.append((start, ts, options, factors))
        stats = SimpleNamespace(rhs_evals=1)
        return SimpleNamespace(ys=torch.stack([start] * len(ts)), stats=stats, failures={})


def exact(flow, start, ts, options, factors):
    return gflow.integrate(flow, start, ts, rtol=1e-8, atol=1e-20)


@pytest.mark.slow
def test_round_off_of_float32_that_decides_is_never_certified():
    for turn in range(6):
        truth = landscape(rates=[20.0, 0.05], wells=[1.3], starts=[[1e-11]], turn=turn, single=True)
        path, error = solve_truth(truth, {"method": "rkc2", "rtol": 1e-3, "atol": 1e-6})
        assert error > 0.1
        assert not path.certificate.holds, turn


@pytest.mark.slow
def test_round_off_that_turns_the_singular_vectors_of_a_reduced_state_is_not_certified():
    """In the exact flow they stay; a mode of a negative target turns round by round-off."""
    parameters = {"target": [0.271, -4.56], "starts": [2.95e-4, 5.36e-6], "depth": 3}
    truth = aligned(**parameters, shape=[3, 2], turn=415595, layers=False)
    path, error = solve_truth(truth, {"method": "dopri5", "rtol": 1e-6})
    assert error > 1
    assert "round-off decides" in str(path.certificate)


def test_checks_change_every_number_by_units_of_round_off(monkeypatch):
    flow, y0, ts, _ = saddle(30.0, 1e-11, turned=True)
    problem = solved(flow, y0, ts, rtol=1e-7)
    problem.saved = [y0] * len(ts)  # as the checks find
    record = Recorded()
    measure_escape(problem, record)
    assert len(record.calls) == 3  # of two numbers the changes may cancel
    monkeypatch.setattr("gflow.solvers.escape_check._FEW", 1)
    record = Recorded()
    measure_escape(problem, record)
    assert len(record.calls) == 2
    problem.saved = [y0 * (1 + 1e-6)] * len(ts)  # 0.2 of the bound away: not by chance?
    record = Recorded()
    measure_escape(problem, record)
    assert len(record.calls) == 3
    assert set(ts) < set(record.calls[0][1])
    eps = torch.finfo(torch.float64).eps
    for (start, _, _, factors), units in zip(record.calls, (1, 16, 16), strict=True):
        for changed, unchanged in ((start, y0), (factors, torch.ones_like(y0))):
            change = ((changed - unchanged) / unchanged).abs()
            assert bool((change <= (units + 1) * eps).all())
            assert bool((change > 0).any())
    assert not torch.equal(record.calls[1][0], record.calls[2][0])


@pytest.mark.slow
def test_a_mode_along_a_coordinate_is_not_changed_by_round_off():
    flow, y0, ts, _ = saddle(30.0, 1e-18, turned=False)
    problem = solved(flow, torch.stack([y0, times(2.0, 0.0)]), ts, rtol=1e-6, atol=1e-12)
    record = Recorded()
    measure_escape(problem, record)
    assert all(call[0][1, 1] == 0 for call in record.calls)
    assert all(abs(call[0][0, 1] / 1e-18 - 1) < 1e-14 for call in record.calls)


@pytest.mark.slow
def test_one_check_is_enough_where_round_off_stays_below_the_tolerance():
    flow, y0, ts, _ = saddle(30.0, 1e-4, turned=True)
    problem = solved(flow, y0, ts, rtol=1e-6)
    record = Recorded()
    assert measure_escape(problem, record).error > 0.1
    (call,) = record.calls
    assert set(ts) <= set(call[1])
    assert len(call[1]) <= 4 * len(ts)  # none between them, only some beside them
    assert measure_escape(problem, exact).error < 5e-5


def test_states_of_a_reduced_flow_keep_their_rank():
    U0 = 1e-6 * torch.eye(3, 2).double()
    flow = gflow.ProductFlow(SquaredDistance(torch.diag(times(3.0, 2.0, 1.0))))
    flow.closed_form = lambda y0: None
    problem = solved(flow, U0 @ U0.mT, [0.0, 5.0], rtol=1e-6, atol=1e-20)
    record = Recorded()
    measure_escape(problem, record)
    ((start, _, _, factors),) = record.calls
    assert torch.equal(start, U0 @ U0.mT)
    assert factors is None


def test_a_start_below_atol_is_checked_with_a_smaller_one():
    flow = FactorFlow(SquaredDistance(torch.diag(times(2.0, 1.0))))
    flow.closed_form = lambda y0: None
    with pytest.warns(UserWarning, match="atol"):
        problem = solved(flow, 1e-9 * torch.eye(2).double(), [0.0, 8.0], rtol=1e-6, atol=1e-8)
    record = Recorded()
    measure_escape(problem, record)
    options = record.calls[0][2]
    assert options.atol <= 1e-6 * 1e-9 * math.sqrt(2)


def test_an_exit_between_requested_times_is_seen():
    truth = landscape(
        rates=[0.00167], wells=[1.7], starts=[[3.98e-17], [0.000383]], turn=343969, single=True
    )
    options = {"method": "scipy:LSODA", "rtol": 1e-4, "atol": 1e-7, "times": 12}
    path, error = solve_truth(truth, options)
    assert error > 0.1
    assert "round-off decides when a saddle is left" in "; ".join(path.certificate.failures())


def test_what_cannot_be_checked_is_not_certified():
    flow, y0, ts, _ = saddle(30.0, 1e-6, turned=False)
    problem = solved(flow, y0, ts)

    def fails(*_):
        raise RuntimeError("out of memory\nat line 3")

    escape = measure_escape(problem, fails)
    assert math.isnan(escape.error)
    assert escape.rest.startswith("the finer solve stopped: RuntimeError: out of memory")
    assert "\n" not in escape.rest


def test_what_was_amplified_is_measured_without_a_finer_solve():
    flow, y0, ts, _ = saddle(30.0, 1e-6, turned=False)
    problem = solved(flow, y0, ts)
    escape = measure_escape(problem, None)
    assert escape.error is None
    assert escape.gain == pytest.approx(math.log(0.6 / 1e-6), rel=0.2)


def test_without_a_saddle_nothing_is_solved_again():
    flow, y0 = gflow.KernelFlow.example()
    record = Recorded()
    problem = Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    assert measure_escape(problem, record).gain == 0.0
    assert record.calls == []


def test_members_whose_ensemble_runs_out_of_its_budget_are_checked_one_by_one():
    flow, y0, ts, _ = saddle(3.0, 1e-4, turned=False)
    starts = torch.stack([y0, times(2.0, 1e-3)])
    problem = solved(flow, starts, ts)
    calls = []

    def together_stops(flow, start, ts, options, factors):
        calls.append(start.ndim)
        budget = {"max_evals": 20} if start.ndim == 2 else {}
        return gflow.integrate(flow, start, ts, rtol=1e-8, atol=1e-20, **budget)

    escape = measure_escape(problem, together_stops)
    assert calls == [2, 1, 1]
    assert escape.error < 5e-5


def test_a_check_that_runs_out_of_its_budget_certifies_nothing():
    flow, y0, ts, _ = saddle(30.0, 1e-6, turned=False)
    problem = solved(flow, y0, ts)
    escape = measure_escape(problem, lambda *call: gflow.integrate(*call[:3], max_evals=20))
    assert math.isnan(escape.error)
    assert "the budget of 20 evaluations ran out" in escape.rest
