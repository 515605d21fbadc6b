"""Runs side by side find what each finds alone."""

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
from gflow.sweeping import ensembles as together
from gflow.sweeping.ensembles import same
from gflow.trajectory import IntegrationError
from tests.solvers.potentials import Potential

TIMES = [0.0, 0.5, 1.0, 2.5, 4.0]


def both(jobs):
    """What jobs return alone, and side by side; and how many questions were answered."""
    answered = []

    ensembles = together.Ensembles()

    def answer(asked):
        found = ensembles.serve(asked)
        answered.append(sum(one is not None for one in found))
        return found

    return [job() for job in jobs], run_batched(jobs, answer), answered


def starts(flow, y0, count):
    return [(0.7 + 0.1 * i) * y0 for i in range(count)]


@pytest.mark.parametrize("cls", [EndToEndFlow, LayerwiseFlow, ProductFlow, FactorFlow])
@pytest.mark.parametrize("method", ["auto", "tsit5", "rock4"])
def test_a_solve_is_what_it_is_alone(cls, method):
    flow, y0 = cls.example()
    jobs = [
        lambda y0=y0, i=i: gflow.integrate(
            cls.example()[0], y0, [t * (1 + 0.1 * i) for t in TIMES], method, 1e-7, 1e-10
        )
        for i, y0 in enumerate(starts(flow, y0, 3))
    ]
    alone, one, answered = both(jobs)
    assert answered[0] == 3
    for a, b in zip(alone, one, strict=True):
        assert torch.equal(a.ts, b.ts)  # times of its own
        assert a.ys.shape == b.ys.shape
        assert (a.ys - b.ys).norm() <= 3e-6 * a.ys.norm()
        assert b.certificate.holds
        assert b.certificate.energy_residual == pytest.approx(
            a.certificate.energy_residual, abs=1e-6
        )
        assert b.stats.method == a.stats.method
        assert b.stats.reason.endswith("solved in one ensemble with 2 other runs")
        # It takes its own steps: what others do costs it nothing.
        assert b.stats.rhs_evals <= 1.3 * a.stats.rhs_evals + 40


def test_what_was_spent_on_each_is_what_it_spends_alone():
    flow, y0 = LayerwiseFlow.example()
    jobs = [
        lambda y0=y0, t=t: gflow.integrate(flow, y0, [0.0, t], "dop853", 1e-8, 1e-11)
        for y0, t in zip(starts(flow, y0, 3), (0.1, 1.0, 30.0), strict=True)
    ]
    alone, one, _ = both(jobs)
    for a, b in zip(alone, one, strict=True):
        assert (a.stats.accepted, a.stats.rejected) == (b.stats.accepted, b.stats.rejected)
        assert a.stats.rhs_evals == b.stats.rhs_evals
        # Steps follow error estimates, which round-off changes in some late digit.
        assert (a.ys - b.ys).norm() <= 1e-2 * 1e-8 * a.ys.norm()
    assert len({b.stats.rhs_evals for b in one}) == 3


def test_solves_that_differ_in_more_than_start_and_times_are_not_one():
    target = torch.diag(torch.tensor([1.0, 0.5], dtype=torch.float64))
    y0 = torch.tensor([[0.3, 0.1], [0.0, 0.2]], dtype=torch.float64)

    def job(target=target, depth=3, rtol=1e-6, method="auto", y0=y0):
        flow = EndToEndFlow(SquaredDistance(target), depth=depth)
        return lambda: gflow.integrate(flow, y0, TIMES, method, rtol).ys[-1]

    single = y0.float()
    others = [
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
    alone, one, answered = both([job(), *others])
    assert answered[0] == 0
    for a, b in zip(alone, one, strict=True):
        assert torch.equal(a, b)


def test_closed_forms_and_large_states_are_left_alone(monkeypatch):
    flow, y0 = KernelFlow.example()
    _, _, answered = both([lambda: gflow.integrate(flow, y0, TIMES)] * 2)
    assert answered == [0]
    flow, y0 = LayerwiseFlow.example()
    monkeypatch.setattr(together, "LARGEST", y0.numel() - 1)
    _, _, answered = both([lambda: gflow.integrate(flow, y0, TIMES)] * 2)
    assert not any(answered)


def test_dense_output_events_and_ensembles_are_left_alone():
    flow, y0 = LayerwiseFlow.example()
    asks = [{"dense": True}, {"until": lambda y: flow.loss(y) - 1e-3}, {"sharpness": 1}]
    for keys in asks:
        alone, one, answered = both([lambda k=keys: gflow.integrate(flow, y0, TIMES, **k)] * 2)
        assert not any(answered)
        assert torch.equal(alone[0].ys, one[1].ys)
    many = torch.stack([y0, y0])
    _, _, answered = both([lambda: gflow.integrate(flow, many, TIMES)] * 2)
    assert not any(answered)


def walled():
    """½(y₁² + 4y₂²), whose gradient is NaN where y₁ > 3."""
    rates = torch.tensor([1.0, 4.0], dtype=torch.float64)

    def gradient(y):
        return torch.where(y[..., :1] > 3.0, torch.nan, rates * y)

    return Potential(2, lambda y: 0.5 * (rates * y.square()).sum(-1), gradient)


def test_a_member_that_fails_fails_as_it_does_alone_and_the_others_do_not():
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

    alone, one, answered = both([job(fine), job(bad), job(2 * fine)])
    assert answered == [2]
    assert one[1] == alone[1] == (problem.NOT_FINITE, 0.0)
    torch.testing.assert_close(one[0], alone[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one[2], alone[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [3, together.MANY])
def test_a_member_that_becomes_stiff_is_solved_alone_unless_it_is_one_of_many(count):
    """bdf takes one start at a time; rock4 in its place pays for many."""
    flow = load_scenario("deep-linear", {"t_end": 300.0}).setup().flow
    ts = [0.0, 100.0, 300.0]
    ys = 0.05 * torch.randn(count, *flow.state_shape, dtype=torch.float64)
    jobs = [lambda y0=y0: gflow.integrate(flow, y0, ts, rtol=1e-6) for y0 in ys]
    twice = [lambda job=job: (job(), job()) for job in jobs]
    alone, one, answered = both(twice)
    for (a, _), (b, c) in zip(alone, one, strict=True):
        assert "bdf from t = " in a.stats.reason
        if count < together.MANY:
            assert torch.equal(a.ys, b.ys)
            assert torch.equal(a.ys, c.ys)
        else:
            assert b.stats.reason.endswith("other runs, rock4 for bdf")
            assert (a.ys - b.ys).norm() <= 1e-5 * a.ys.norm()
    assert answered == ([0, 0] if count < together.MANY else [count] * 2)


def test_where_an_ensemble_raises_each_is_done_alone(monkeypatch):
    """As where there is no memory for it."""

    def gradient(y):
        if y.shape == (2, 2):  # two states: an ensemble's
            raise RuntimeError("out of memory")
        return y

    flow = Potential(2, lambda y: 0.5 * y.square().sum(-1), gradient)
    y0 = torch.tensor([1.0, 2.0], dtype=torch.float64)
    solve = lambda: gflow.integrate(flow, y0, TIMES, "tsit5").ys  # noqa: E731
    descend = lambda: gflow.descend(flow, y0, 0.1, 9).ys  # noqa: E731
    alone, one, answered = both([solve, solve])
    assert torch.equal(alone[0], one[1])
    alone, one, more = both([descend, descend])
    assert torch.equal(alone[0], one[1])
    assert answered + more == [0, 0]


def test_an_ensemble_of_descents_tells_its_progress():
    flow, y0 = FactorFlow.example()
    seen = []
    ensembles = together.Ensembles(lambda t, loss: seen.append(t))
    jobs = [lambda y=y: gflow.descend(flow, y, 0.01, 200) for y in (y0, 0.5 * y0)]
    run_batched(jobs, ensembles.serve)
    assert seen == pytest.approx([0.5, 1.0, 1.5, 2.0])


def test_a_budget_is_each_members_own():
    flow, y0 = LayerwiseFlow.example()

    def job(t_end):
        def work():
            try:
                return gflow.integrate(flow, y0, [0.0, t_end], "tsit5", max_evals=300).ys
            except IntegrationError as error:
                return error.reason

        return work

    alone, one, _ = both([job(0.5), job(400.0), job(0.6)])
    assert one[1] == alone[1]
    assert "budget" in one[1]
    torch.testing.assert_close(one[2], alone[2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_descent_is_what_it_is_alone(momentum):
    flow, y0 = EndToEndFlow.example()
    jobs = [
        lambda y0=y0: gflow.descend(flow, y0, 0.05, 120, 7, momentum=momentum)
        for y0 in starts(flow, y0, 4)
    ]
    alone, one, answered = both(jobs)
    assert answered == [4]
    for a, b in zip(alone, one, strict=True):
        assert torch.equal(a.steps, b.steps)
        assert torch.equal(a.ts, b.ts)
        torch.testing.assert_close(a.ys, b.ys, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(a.parameters, b.parameters, rtol=1e-12, atol=1e-13)


def test_a_descent_that_diverges_is_told_as_alone_and_other_steps_are_not_one():
    flow, y0 = FactorFlow.example()
    sizes = [(0.01, y0), (0.01, 60 * y0), (0.01, 0.5 * y0), (0.02, y0)]
    jobs = [lambda s=s, y=y: gflow.descend(flow, y, s, 200) for s, y in sizes]
    alone, one, answered = both(jobs)
    assert answered == [2]
    assert alone[1].diverged_at is not None
    for a, b in zip(alone, one, strict=True):
        assert a.diverged_at == b.diverged_at
        assert torch.equal(a.steps, b.steps)


def test_flows_are_the_same_by_their_numbers():
    x = torch.randn(6, 3, dtype=torch.float64)
    y = torch.randn(6, 2, dtype=torch.float64)
    assert same(LinearRegression(x, y), LinearRegression(x.clone(), y.clone()))
    assert not same(LinearRegression(x, y), LinearRegression(x, 2 * y))
    assert not same(SquaredDistance(x), LinearRegression(x, y))
    assert not same(lambda: 0, lambda: 0)  # what is in there is not known
    assert not same({"a": 1}, {"b": 1})
    assert not same((1, 2), (1, 2, 3))
    assert not same(1, 1.5)
    assert same({"a": (1, None, "x")}, {"a": (1, None, "x")})
    flow, y0 = EndToEndFlow.example()
    gflow.integrate(flow, y0, TIMES)
    assert same(flow, EndToEndFlow.example()[0])  # whatever it has worked out so far


def _ready(name):
    """A shipped scenario, small."""
    return load_scenario(name, {"t_end": 2.0, "points": 4, "step_sizes": (0.1,)})


@pytest.mark.parametrize("name", [n for n in scenario_names() if load_scenario(n).start_keys()])
def test_keys_of_the_start_leave_the_flow_as_it_is(name):
    scenario = _ready(name)
    changes = {"seed": scenario.seed + 1, "init_scale": 0.5 * getattr(scenario, "init_scale", 1.0)}
    for key in scenario.start_keys():
        other = scenario.model_copy(update={key: changes[key]})
        a, b = scenario.setup(), other.setup()
        assert same(a.flow.for_start(a.y0), b.flow.for_start(b.y0)), key
        assert not torch.equal(a.y0, b.y0), key


def test_a_seed_that_draws_data_is_no_key_of_the_start():
    keys = load_scenario("deep-linear", {"data": "synthetic"}).start_keys()
    assert keys == {"init_scale"}


@pytest.mark.parametrize("name", ["deep-linear", "factorization"])
def test_whole_runs_side_by_side_have_the_numbers_of_each_alone(name):
    scenario = _ready(name)
    key = "seed" if "seed" in scenario.start_keys() else "init_scale"
    values = range(3) if key == "seed" else (1e-3, 2e-3, 4e-3)
    runs = [scenario.model_copy(update={key: value}) for value in values]
    alone, one, answered = both([lambda r=r: r.run(lambda name, t_end: None) for r in runs])
    assert answered == [3] * len(answered)  # flow, its finer solve, parameters, descent
    for a, b in zip(alone, one, strict=True):
        for path in ("loss", "gap", "descent_loss", "stability_limit"):
            np.testing.assert_allclose(
                b.dataset[path].values, a.dataset[path].values, rtol=1e-9, atol=1e-12, err_msg=path
            )
        assert b.summary["certificate"]["holds"] is True


def test_results_of_an_ensemble_are_of_every_field_of_a_solve():
    """What `solve_resumable` keeps of a solve and what a member is given have the same names."""
    from gflow.solvers import resumable as checkpoint

    flow, y0 = LayerwiseFlow.example()
    kept = {}

    def job(y0):
        return lambda: gflow.integrate(flow, y0, TIMES)

    def answer(asked):
        found = together.Ensembles().serve(asked)
        problem = asked[0].problem
        asked[0].solver.solve(problem, asked[0].name)
        kept["alone"], kept["member"] = checkpoint._results(problem, None), found[0]
        return found

    run_batched([job(y0), job(2 * y0)], answer)
    assert kept["member"].tensors.keys() == kept["alone"].tensors.keys() - {"spent"}
    assert kept["member"].meta.keys() == kept["alone"].meta.keys()
    assert dataclasses.is_dataclass(kept["member"])
