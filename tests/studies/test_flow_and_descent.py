"""One flow, its parameters' flow and descents, against separate runs of the parts."""

import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow, LayerwiseFlow
from gflow.studies.flow_and_descent import default_step_sizes, flow_and_descent
from gflow.studies.matching import matched_times
from gflow.studies.stability import stability_limit
from gflow.trajectory import IntegrationError
from tests.helpers import make_loss, randn, relative

FLOW = EndToEndFlow(make_loss("regression", 2, 3), depth=3)
START = 0.3 * randn(2, 3)
SIZES = [0.05, 0.1]


@pytest.fixture(scope="module")
def both():
    return flow_and_descent(FLOW, START, 1.0, SIZES, points=5)


def test_trajectory_is_that_of_integrate(both):
    alone = gflow.integrate(FLOW, START, both.trajectory.ts, rtol=1e-8, atol=1e-11)
    assert torch.equal(both.trajectory.ys, alone.ys)
    times = set(matched_times(1.0, sorted(SIZES, reverse=True), 5)[0])
    assert times <= set(both.trajectory.ts.tolist())


def test_early_times_are_included_for_fast_modes(both):
    ts = both.trajectory.ts
    assert 0 < ts[1] <= 1.01e-4
    assert (ts.diff() > 0).all()
    assert ts[-1] == 1.0


def test_parameters_are_the_layers_flow_from_the_lifted_start(both):
    flow = both.trajectory.flow
    assert isinstance(both.parameters.flow, LayerwiseFlow)
    assert relative(both.parameters.ys[0], flow.lift(START)) == 0
    gap = flow.norm(both.trajectory.ys - flow.project(both.parameters.ys)).max()
    assert both.reduction_error == pytest.approx(
        float(gap / flow.norm(both.trajectory.ys).max()), rel=1e-6
    )
    assert both.reduction_error < 1e-6


def test_descents_are_those_of_descend_largest_step_first(both):
    assert [d.step_size for d in both.descents] == [0.1, 0.05]
    for descent, gap in zip(both.descents, both.gaps, strict=True):
        steps = round(1.0 / descent.step_size)
        alone = gflow.descend(FLOW, START, descent.step_size, steps)
        assert torch.equal(descent.ys, alone.ys[descent.steps])
        assert torch.equal(gap.end_to_end, gflow.compare(both.trajectory, descent).end_to_end)
        assert len(gap.ts) == len(descent.ts) == 6
    assert 1.7 < both.gaps[0].largest / both.gaps[1].largest < 2.5


def test_stability_limit_is_that_of_the_path(both):
    assert both.stability_limit == stability_limit(both.trajectory.flow, both.trajectory.ys)


def test_repeated_step_sizes_run_once():
    H = torch.eye(2, dtype=torch.float64)
    flow = KernelFlow(H, torch.ones(2, dtype=torch.float64))
    both = flow_and_descent(flow, torch.zeros(2, dtype=torch.float64), 1.0, [0.5, 0.5, 0.25])
    assert [d.step_size for d in both.descents] == [0.5, 0.25]
    assert both.parameters is None
    assert both.reduction_error is None


@pytest.mark.parametrize("scale", [0.003, 1.0, 70.0])
def test_default_step_sizes_are_halves_of_the_limit(scale):
    H = scale * torch.diag(torch.tensor([1.0, 0.2], dtype=torch.float64))
    flow = KernelFlow(H, torch.ones(2, dtype=torch.float64))
    start = torch.zeros(2, dtype=torch.float64)
    sizes = default_step_sizes(flow, start, 1e6, count=4)
    for i, size in enumerate(sizes):
        exact = 1 / scale / 2**i
        assert 0.9 * exact < size <= exact * (1 + 1e-9)  # two digits, rounded down
        assert size == float(f"{size:.2g}")
    # A short path still has four steps of the largest.
    assert default_step_sizes(flow, start, 4e-3, count=1) == [min(1e-3, sizes[0])]


def test_stages_report_their_names():
    begun, reported = {}, set()

    def stages(name, t_end):
        begun[name] = t_end
        return lambda t, loss: reported.add(name)

    flow_and_descent(FLOW, START, 1.0, SIZES, points=5, stages=stages)
    assert list(begun) == ["flow", "parameters", "descent, step 0.1", "descent, step 0.05"]
    assert reported == set(begun)
    assert set(begun.values()) == {1.0}


@pytest.mark.parametrize("step", [0.0, -0.1, math.nan, 1.5])
def test_invalid_step_sizes_are_refused(step):
    with pytest.raises(InputError, match=r"step[ _]sizes? must be"):
        flow_and_descent(FLOW, START, 1.0, [step])


def test_budget_is_passed_on():
    with pytest.raises(IntegrationError, match="budget of 15"):
        flow_and_descent(FLOW, START, 1.0, SIZES, max_evals=15)
    with pytest.raises(IntegrationError, match="budget of 15"):
        flow_and_descent(FLOW, START, 1.0, max_evals=15)
