import dataclasses
import functools
import itertools
import math

import pytest
import torch
from sklearn.datasets import load_diabetes

import gflow
from benchmarks.problems import half_squares, tanh
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.losses import LinearRegression
from tests.helpers import make_loss, modified_study, of_rank, randn, relative, times

STABLE = [0.1, 0.05, 0.025, 0.0125, 0.00625]


@functools.cache
def diabetes():
    """Standardised inputs and target, single output, depth 3, a balanced start along X'y."""
    X, y = load_diabetes(return_X_y=True)
    X, y = (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()
    X, Y = torch.tensor(X), torch.tensor(y)[:, None]
    W0 = 0.1 * (Y.mT @ X) / (Y.mT @ X).norm()
    return EndToEndFlow(LinearRegression(X, Y), depth=3), W0


@functools.cache
def diabetes_study():
    flow, W0 = diabetes()
    sizes = [*STABLE, 1.0, 0.7]
    return gflow.step_size_study(flow, W0, t_end=10.0, step_sizes=sizes, modified=True, points=20)


@pytest.mark.slow
def test_order_on_diabetes():
    study = diabetes_study()
    assert study.refusal is None
    assert study.order == pytest.approx(1.00, abs=0.05)
    low, high = study.order_interval
    assert low <= study.order <= high
    assert high - low <= 0.1
    assert study.solver_error <= min(study.gaps) / 100
    assert study.trajectory.certificate.holds


@functools.cache
def digits(cross_entropy):
    """Tanh network 64-24-24-10 on 100 digits: ½ squared error, or cross-entropy."""
    data = tanh(300).data
    inputs, targets = data["inputs"][:100], data["targets"][:100]
    torch.manual_seed(0)
    widths = (64, 24, 24, 10)
    layers = [torch.nn.Linear(a, b, dtype=torch.float64) for a, b in itertools.pairwise(widths)]
    module = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])
    if cross_entropy:
        criterion, targets = torch.nn.functional.cross_entropy, targets.argmax(1)
    else:
        criterion = half_squares
    flow = gflow.NetworkFlow(module, criterion, inputs, targets)
    return flow, flow.pack()


@functools.cache
def digits_study(cross_entropy):
    flow, y0 = digits(cross_entropy)
    return gflow.step_size_study(flow, y0, 1.0, [0.1, 0.05, 0.025], modified=True, points=2)


@pytest.mark.parametrize(
    "made",
    [
        modified_study,
        pytest.param(diabetes_study, marks=pytest.mark.slow),
        pytest.param(functools.partial(digits_study, False), marks=pytest.mark.slow),
        pytest.param(functools.partial(digits_study, True), marks=pytest.mark.slow),
    ],
    ids=["factors", "diabetes", "digits", "cross-entropy"],
)
def test_order_one_to_the_flow_and_two_to_the_modified_flow(made):
    study = made()
    assert study.order == pytest.approx(1.00, abs=0.05)
    assert study.modified_order == pytest.approx(2.00, abs=0.1)
    low, high = study.modified_order_interval
    assert low <= study.modified_order <= high
    assert study.refusal is study.modified_refusal is None
    assert study.solver_error <= min(study.gaps) / 30
    assert study.modified_solver_error <= study.modified_gaps[-1] / 30
    pairs = zip(study.stable, study.modified_gaps, study.gaps, strict=True)
    assert all(a < b if stable else math.isnan(a) for stable, a, b in pairs)


@pytest.mark.slow
def test_modified_gaps_are_distances_to_the_modified_flow():
    flow, W0 = EndToEndFlow(make_loss("distance", 2, 3), 2), of_rank(2, 2, 3)
    sizes = [2.0, 0.2, 0.1]
    study = gflow.step_size_study(
        flow, W0, 2.0, sizes, torch.linalg.svdvals, modified=True, points=10**6
    )
    assert study.stable == (False, True, True)
    assert math.isnan(study.modified_gaps[0])  # not measured beyond the limit
    assert study.modified_order is None
    assert "2 stable step sizes" in study.modified_refusal
    for step, gap in zip(sizes[1:], study.modified_gaps[1:], strict=True):
        gd = gflow.descend(flow, W0, step, round(2 / step))
        modified = gflow.ModifiedFlow(flow.parameter_flow, step)
        path = gflow.integrate(modified, flow.lift(W0), gd.ts, "dopri8", 1e-11, 1e-14)
        far = torch.linalg.svdvals(flow.project(path.ys)) - torch.linalg.svdvals(gd.ys)
        assert gap == pytest.approx(float(far.norm(dim=1).max()), rel=1e-6)
        at = sizes.index(step)
        assert torch.equal(study.descents[at].ys, gd.ys)
        assert relative(study.modified_trajectories[at].ys, path.ys) < 1e-6
    assert study.modified_trajectories[0] is None


def test_without_the_modified_flow_its_values_are_none():
    flow = KernelFlow(torch.eye(1).double(), times(1.0))
    study = gflow.step_size_study(flow, torch.zeros(1).double(), 1.0, [0.1, 0.05])
    assert study.modified_gaps is study.modified_order is study.modified_solver_error is None


def test_kernel_has_no_modified_flow():
    flow = KernelFlow(torch.eye(1).double(), times(1.0))
    with pytest.raises(
        InputError, match="modified flow needs a flow of parameters, got KernelFlow"
    ):
        gflow.step_size_study(flow, torch.zeros(1).double(), 1.0, [0.1, 0.05], modified=True)


def test_steps_beyond_the_limit_are_marked_and_not_fitted():
    flow, W0 = diabetes()
    study = gflow.step_size_study(flow, W0, 5.0, [*STABLE[:3], 1.0, 0.7], points=5)
    assert study.step_sizes == (1.0, 0.7, *STABLE[:3])
    assert study.stable == (False, False, True, True, True)
    assert study.fitted[:2] == (False, False)
    assert all(study.fitted[-3:])
    assert 0.1 < study.stability_limit < 0.7


def test_gaps_are_distances_at_matched_times():
    flow = KernelFlow(torch.diag(times(1.0, 0.5)), times(1.0, -1.0))
    u0 = torch.zeros(2).double()
    study = gflow.step_size_study(flow, u0, 2.0, [0.1, 0.05, 0.025], points=10**6)
    for step, gap, (ts, curve) in zip(study.step_sizes, study.gaps, study.gap_curves, strict=True):
        gd = gflow.descend(flow, u0, step, round(2 / step))
        truth = (gd.ys - flow.exact(gd.ts, u0)).norm(dim=1)
        assert float((curve - truth).abs().max()) <= 1e-13
        assert gap == pytest.approx(float(truth.max()), rel=1e-10)
        assert relative(ts, gd.ts) <= 1e-12
    assert study.trajectory.stats.method == "exact"
    assert 0 < study.solver_error <= 1e-13


def test_gaps_of_an_observed_quantity():
    flow, W0 = EndToEndFlow(make_loss("completion", 2, 3), 2), of_rank(2, 2, 3)
    sizes = [0.08, 0.04, 0.02, 0.01]
    study = gflow.step_size_study(flow, W0, 2.0, sizes, observe=torch.linalg.svdvals)
    assert study.order == pytest.approx(1.0, abs=0.05)
    gd = gflow.descend(flow, W0, 0.01, 200, save_every=5)
    path = gflow.integrate(flow, W0, gd.ts, "dopri8", 1e-11, 1e-14)
    truth = (torch.linalg.svdvals(path.ys) - torch.linalg.svdvals(gd.ys)).norm(dim=1).max()
    assert study.gaps[-1] == pytest.approx(float(truth), rel=1e-6)


def test_large_solver_error_is_refused():
    flow, W0 = diabetes()
    study = gflow.step_size_study(
        flow, W0, 5.0, [4e-3, 2e-3, 1e-3], method="bosh3", rtol=1e-2, atol=1e-5, points=5
    )
    assert study.order is None
    assert study.order_interval is None
    assert study.fitted == (False, False, False)
    assert "not 30 times the solver's error" in study.refusal
    assert study.solver_error > 0.1 * min(study.gaps)


def test_too_few_steps_are_refused():
    flow = KernelFlow(torch.eye(1).double(), times(1.0))
    study = gflow.step_size_study(flow, torch.zeros(1).double(), 3.0, [0.1, 0.05])
    assert study.order is None
    assert "a fit needs 3" in study.refusal
    study = gflow.step_size_study(flow, torch.zeros(1).double(), 30.0, [3.0, 2.5, 0.1, 0.05])
    assert study.stable == (False, False, True, True)
    assert "2 stable step sizes" in study.refusal


def test_diverged_descent_has_an_infinite_gap():
    flow = KernelFlow(torch.eye(1).double(), times(1.0))
    sizes = [4.0, 0.02, 0.01, 0.005]
    study = gflow.step_size_study(flow, torch.zeros(1).double(), 120.0, sizes, points=400)
    assert study.gaps[0] == math.inf
    assert study.stable[0] is False
    assert study.order == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_sizes": [0.1]}, "at least two different positive numbers"),
        ({"step_sizes": [0.1, 0.1]}, "at least two different"),
        ({"step_sizes": [0.1, -0.1]}, "must be a positive number, got -0.1"),
        ({"step_sizes": [0.1, math.nan]}, "step_sizes must be finite"),
        ({"step_sizes": [0.1, 5.0]}, "at most t_end = 2, got 5"),
        ({"t_end": 0.0}, "t_end must be a positive number, got 0.0"),
        ({"t_end": math.inf}, "t_end must be a positive number, got inf"),
        ({"y0": torch.zeros(3, 1).double()}, "one start, got an ensemble"),
        ({"y0": randn(2)}, "shape"),
        ({"points": 0}, "points must be a whole number of at least 1, got 0"),
    ],
)
def test_input_errors(change, message):
    flow = KernelFlow(torch.eye(1).double(), times(1.0))
    arguments = {"y0": torch.zeros(1).double(), "t_end": 2.0, "step_sizes": [0.1, 0.05]} | change
    with pytest.raises(InputError, match=message):
        gflow.step_size_study(flow, **arguments)


def test_result_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        modified_study().order = 2.0
