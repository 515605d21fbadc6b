"""Ensembles across runs: each run gets the result of an individual solve."""

import dataclasses

import numpy as np
import pytest
import torch

import gflow
from gflow.execution.batching import run_batched
from gflow.flows import EndToEndFlow, FactorFlow, KernelFlow, LayerwiseFlow, ProductFlow
from gflow.losses import LinearRegression, SquaredDistance
from gflow.scenario import load_scenario, scenario_names
from gflow.solvers import problem
from gflow.sweeping import ensembles
from gflow.sweeping.ensembles import Ensembles, equal
from gflow.trajectory import IntegrationError
from tests.helpers import slow_except
from tests.solvers.potentials import Potential

TIMES = [0.0, 0.5, 1.0, 2.5, 4.0]


def run_individually_and_batched(jobs):
    """Return the results of individual and batched jobs, and the numbers of requests served."""
    served, server = [], Ensembles()

    def serve(requests):
        answers = server.serve(requests)
        served.append(sum(answer is not None for answer in answers))
        return answers

    return [job() for job in jobs], run_batched(jobs, serve), served


def starts(flow, y0, count):
    return [(0.7 + 0.1 * i) * y0 for i in range(count)]


@pytest.mark.parametrize("cls", [EndToEndFlow, LayerwiseFlow, ProductFlow, FactorFlow])
@pytest.mark.parametrize("method", slow_except(["auto", "tsit5", "rock4"], "auto"))
def test_solve_equals_an_individual_solve(cls, method):
    flow, y0 = cls.example()
    jobs = [
        lambda y0=y0, i=i: gflow.integrate(
            cls.example()[0], y0, [t * (1 + 0.1 * i) for t in TIMES], method, 1e-7, 1e-10
        )
        for i, y0 in enumerate(starts(flow, y0, 3))
    ]
    individual, batched, served = run_individually_and_batched(jobs)
    assert served[0] == 3
    for a, b in zip(individual, batched, strict=True):
        assert torch.equal(a.ts, b.ts)  # the times that it requested
        assert a.ys.shape == b.ys.shape
        assert (a.ys - b.ys).norm() <= 3e-6 * a.ys.norm()
        assert b.certificate.holds
        assert b.certificate.energy_residual == pytest.approx(
            a.certificate.energy_residual, abs=1e-6
        )
        assert b.stats.method == a.stats.method
        assert b.stats.reason.endswith("solved in one ensemble with 2 other runs")
        # Every member has individual steps: the steps of others cost it nothing.
        assert b.stats.rhs_evals <= 1.3 * a.stats.rhs_evals + 40


def test_costs_of_a_member_equal_those_of_an_individual_solve():
    flow, y0 = LayerwiseFlow.example()
    jobs = [
        lambda y0=y0, t=t: gflow.integrate(flow, y0, [0.0, t], "dop853", 1e-8, 1e-11)
        for y0, t in zip(starts(flow, y0, 3), (0.1, 1.0, 30.0), strict=True)
    ]
    individual, batched, _ = run_individually_and_batched(jobs)
    for a, b in zip(individual, batched, strict=True):
        assert (a.stats.accepted, a.stats.rejected) == (b.stats.accepted, b.stats.rejected)
        assert a.stats.rhs_evals == b.stats.rhs_evals
        # Steps follow error estimates, which round-off changes in some late digit.
        assert (a.ys - b.ys).norm() <= 1e-2 * 1e-8 * a.ys.norm()
    assert len({b.stats.rhs_evals for b in batched}) == 3


@pytest.mark.slow
def test_solves_that_differ_in_more_than_start_and_times_are_separate():
    target = torch.diag(torch.tensor([1.0, 0.5], dtype=torch.float64))
    y0 = torch.tensor([[0.3, 0.1], [0.0, 0.2]], dtype=torch.float64)

    def job(target=target, depth=3, rtol=1e-6, method="auto", y0=y0):
        flow = EndToEndFlow(SquaredDistance(target), depth=depth)
        return lambda: gflow.integrate(flow, y0, TIMES, method, rtol).ys[-1]

    single = y0.float()
    different_jobs = [
        job(target=target * (1 + 1e-15)),
        job(depth=2),
        job(rtol=1e-7),
        job(method="tsit5"),
        job(method="bdf"),
        job(method="bdf"),
        job(method="dopri5"),
        job(method="dopri5"),
        job(method="scipy:LSODA"),
        lambda: gflow.integrate(
            EndToEndFlow(SquaredDistance(target.float()), depth=3), single, TIMES, rtol=1e-4
        ).ys[-1],
    ]
    individual, batched, served = run_individually_and_batched([job(), *different_jobs])
    assert served[0] == 0
    for a, b in zip(individual, batched, strict=True):
        assert torch.equal(a, b)


def test_closed_forms_and_large_states_are_solved_individually(monkeypatch):
    flow, y0 = KernelFlow.example()
    _, _, served = run_individually_and_batched([lambda: gflow.integrate(flow, y0, TIMES)] * 2)
    assert served == [0]
    flow, y0 = LayerwiseFlow.example()
    monkeypatch.setattr(ensembles, "MAX_STATE_SIZE", y0.numel() - 1)
    _, _, served = run_individually_and_batched([lambda: gflow.integrate(flow, y0, TIMES)] * 2)
    assert not any(served)


def test_dense_output_events_and_ensembles_are_solved_individually():
    flow, y0 = LayerwiseFlow.example()
    options = [{"dense": True}, {"until": lambda y: flow.loss(y) - 1e-3}, {"sharpness": 1}]
    for keys in options:
        individual, batched, served = run_individually_and_batched(
            [lambda k=keys: gflow.integrate(flow, y0, TIMES, **k)] * 2
        )
        assert not any(served)
        assert torch.equal(individual[0].ys, batched[1].ys)
    states = torch.stack([y0, y0])
    _, _, served = run_individually_and_batched([lambda: gflow.integrate(flow, states, TIMES)] * 2)
    assert not any(served)


def walled():
    """½(y₁² + 4y₂²), whose gradient is NaN where y₁ > 3."""
    rates = torch.tensor([1.0, 4.0], dtype=torch.float64)

    def gradient(y):
        return torch.where(y[..., :1] > 3.0, torch.nan, rates * y)

    return Potential(2, lambda y: 0.5 * (rates * y.square()).sum(-1), gradient)


def test_failing_member_does_not_affect_the_others():
    flow = walled()
    fine = torch.tensor([1.0, 1.0], dtype=torch.float64)
    bad = torch.tensor([5.0, 1.0], dtype=torch.float64)

    def job(y0):
        def work():
            try:
                return gflow.integrate(flow, y0, TIMES, "tsit5").ys
            except IntegrationError as error:
                return error.reason, error.t

        return work

    individual, batched, served = run_individually_and_batched([job(fine), job(bad), job(2 * fine)])
    assert served == [2]
    assert batched[1] == individual[1] == (problem.NOT_FINITE, 0.0)
    torch.testing.assert_close(batched[0], individual[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(batched[2], individual[2], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, ensembles.MIN_ROCK4_MEMBERS])
def test_stiff_member_of_a_small_ensemble_is_solved_individually(count):
    """bdf solves one start at a time; replacing it by rock4 is faster for many members only."""
    flow = load_scenario("deep-linear", {"t_end": 300.0}).setup().flow
    ts = [0.0, 100.0, 300.0]
    ys = 0.05 * torch.randn(count, *flow.state_shape, dtype=torch.float64)
    jobs = [lambda y0=y0: gflow.integrate(flow, y0, ts, rtol=1e-6) for y0 in ys]
    twice = [lambda job=job: (job(), job()) for job in jobs]
    individual, batched, served = run_individually_and_batched(twice)
    for (a, _), (b, c) in zip(individual, batched, strict=True):
        assert "bdf from t = " in a.stats.reason
        if count < ensembles.MIN_ROCK4_MEMBERS:
            assert torch.equal(a.ys, b.ys)
            assert torch.equal(a.ys, c.ys)
        else:
            assert b.stats.reason.endswith("other runs, rock4 for bdf")
            assert (a.ys - b.ys).norm() <= 1e-5 * a.ys.norm()
    assert served == ([0, 0] if count < ensembles.MIN_ROCK4_MEMBERS else [count] * 2)


def test_members_of_an_ensemble_that_raises_are_solved_individually(monkeypatch):
    """The ensemble raises as it does when memory runs out."""

    def gradient(y):
        if y.shape == (3, 2):  # an ensemble of three states
            raise RuntimeError("out of memory")
        return y

    flow = Potential(2, lambda y: 0.5 * y.square().sum(-1), gradient)
    y0 = torch.tensor([1.0, 2.0], dtype=torch.float64)
    solve = lambda: gflow.integrate(flow, y0, TIMES, "tsit5").ys  # noqa: E731
    descend = lambda: gflow.descend(flow, y0, 0.1, 9).ys  # noqa: E731
    individual, batched, served = run_individually_and_batched([solve] * 3)
    assert torch.equal(individual[0], batched[1])
    individual, batched, more = run_individually_and_batched([descend] * 3)
    assert torch.equal(individual[0], batched[1])
    assert served + more == [0, 0]


def test_ensemble_of_descents_reports_progress():
    flow, y0 = FactorFlow.example()
    reported = []
    server = Ensembles(lambda t, loss: reported.append(t))
    jobs = [lambda y=y: gflow.descend(flow, y, 0.01, 200) for y in (y0, 0.5 * y0)]
    run_batched(jobs, server.serve)
    assert reported == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_budget_holds_for_each_member():
    flow, y0 = LayerwiseFlow.example()

    def job(t_end):
        def work():
            try:
                return gflow.integrate(flow, y0, [0.0, t_end], "tsit5", max_evals=300).ys
            except IntegrationError as error:
                return error.reason

        return work

    individual, batched, _ = run_individually_and_batched([job(0.5), job(400.0), job(0.6)])
    assert batched[1] == individual[1]
    assert "budget" in batched[1]
    torch.testing.assert_close(batched[2], individual[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_equals_an_individual_descent(momentum):
    flow, y0 = EndToEndFlow.example()
    jobs = [
        lambda y0=y0: gflow.descend(flow, y0, 0.05, 120, 7, momentum=momentum)
        for y0 in starts(flow, y0, 4)
    ]
    individual, batched, served = run_individually_and_batched(jobs)
    assert served == [4]
    for a, b in zip(individual, batched, strict=True):
        assert torch.equal(a.steps, b.steps)
        assert torch.equal(a.ts, b.ts)
        torch.testing.assert_close(a.ys, b.ys, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(a.parameters, b.parameters, rtol=1e-12, atol=1e-13)


def test_diverging_descents_and_other_step_sizes_are_separate():
    flow, y0 = FactorFlow.example()
    sizes = [(0.01, y0), (0.01, 60 * y0), (0.01, 0.5 * y0), (0.02, y0)]
    jobs = [lambda s=s, y=y: gflow.descend(flow, y, s, 200) for s, y in sizes]
    individual, batched, served = run_individually_and_batched(jobs)
    assert served == [2]
    assert individual[1].diverged_at is not None
    for a, b in zip(individual, batched, strict=True):
        assert a.diverged_at == b.diverged_at
        assert torch.equal(a.steps, b.steps)


def test_flows_are_compared_by_their_numbers():
    x = torch.randn(6, 3, dtype=torch.float64)
    y = torch.randn(6, 2, dtype=torch.float64)
    assert equal(LinearRegression(x, y), LinearRegression(x.clone(), y.clone()))
    assert not equal(LinearRegression(x, y), LinearRegression(x, 2 * y))
    assert not equal(SquaredDistance(x), LinearRegression(x, y))
    assert not equal(lambda: 0, lambda: 0)  # closures cannot be compared
    assert not equal({"a": 1}, {"b": 1})
    assert not equal((1, 2), (1, 2, 3))
    assert not equal(1, 1.5)
    assert equal({"a": (1, None, "x")}, {"a": (1, None, "x")})
    flow, y0 = EndToEndFlow.example()
    gflow.integrate(flow, y0, TIMES)
    assert equal(flow, EndToEndFlow.example()[0])  # caches are ignored


def _ready(name):
    """Return a shipped scenario, made small."""
    return load_scenario(name, {"t_end": 2.0, "points": 4, "step_sizes": (0.1,)})


@pytest.mark.parametrize("name", [n for n in scenario_names() if load_scenario(n).start_keys()])
def test_start_keys_do_not_change_the_flow(name):
    scenario = _ready(name)
    changes = {"seed": scenario.seed + 1, "init_scale": 0.5 * getattr(scenario, "init_scale", 1.0)}
    for key in scenario.start_keys():
        changed = scenario.model_copy(update={key: changes[key]})
        a, b = scenario.setup(), changed.setup()
        assert equal(a.flow.for_start(a.y0), b.flow.for_start(b.y0)), key
        assert not torch.equal(a.y0, b.y0), key


def test_seed_that_draws_data_is_not_a_start_key():
    keys = load_scenario("deep-linear", {"data": "synthetic"}).start_keys()
    assert keys == {"init_scale"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep-linear", "factorization"])
def test_runs_in_lockstep_have_the_numbers_of_individual_runs(name):
    scenario = _ready(name)
    key = "seed" if "seed" in scenario.start_keys() else "init_scale"
    values = range(3) if key == "seed" else (1e-3, 2e-3, 4e-3)
    runs = [scenario.model_copy(update={key: value}) for value in values]
    individual, batched, served = run_individually_and_batched(
        [lambda r=r: r.run(lambda name, t_end: None) for r in runs]
    )
    assert served == [3] * len(served)  # flow, its finer solve, parameters, descent
    for a, b in zip(individual, batched, strict=True):
        for path in ("loss", "gap", "descent_loss", "stability_limit"):
            np.testing.assert_allclose(
                b.dataset[path].values, a.dataset[path].values, rtol=1e-9, atol=1e-12, err_msg=path
            )
        assert b.summary["certificate"]["holds"] is True


def test_members_results_have_every_field_of_a_solve():
    """A member's results have the names under which `solve_resumable` stores a solve."""
    from gflow.solvers import resumable

    flow, y0 = LayerwiseFlow.example()
    results = {}

    def job(y0):
        return lambda: gflow.integrate(flow, y0, TIMES)

    def serve(requests):
        answers = Ensembles().serve(requests)
        problem = requests[0].problem
        requests[0].solver.solve(problem, requests[0].name)
        results["alone"], results["member"] = resumable._results(problem, None), answers[0]
        return answers

    run_batched([job(y0), job(2 * y0)], serve)
    lone = {"spent", "before"}  # counts of members, and the state before the last of a lone solve
    assert results["member"].tensors.keys() == results["alone"].tensors.keys() - lone
    assert results["member"].meta.keys() == results["alone"].meta.keys()
    assert dataclasses.is_dataclass(results["member"])
