"""‖∇L‖² along descent: the modified flow predicts it by an order better than the flow."""

import functools
import itertools

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.scenario import validate
from gflow.studies.implicit_regularization import implicit_regularization, squared_gradient
from tests.helpers import make_loss, randn

SIZES = [0.08, 0.04, 0.02]
T = 2.0


def on_digits(samples, width, sizes, **options):
    """Return the set-up of a tanh network on digits, and the study."""
    keys = {"setting": "network", "data": "digits", "samples": samples, "width": width}
    setup = validate(keys | {"t_end": T}, "a test").setup()
    return setup, implicit_regularization(setup.flow, setup.y0, T, sizes, points=25, **options)


@pytest.fixture(scope="module")
def experiment():
    return on_digits(30, 8, SIZES)


@pytest.mark.slow
def test_squared_gradient_is_that_of_autograd(experiment):
    setup, result = experiment
    y = result.study.trajectory.ys[3].clone().requires_grad_()
    (g,) = torch.autograd.grad(setup.flow.loss(y), y)
    assert float(squared_gradient(setup.flow, y.detach()[None])) == pytest.approx(float(g @ g))
    assert float(result.slopes[3]) == pytest.approx(float(g @ g))


@pytest.mark.slow
def test_modified_flow_is_closer_by_an_order(experiment):
    study = experiment[1].study
    assert study.order == pytest.approx(1, abs=0.05)
    assert study.modified_order == pytest.approx(2, abs=0.1)
    assert all(study.fitted)
    assert all(study.modified_fitted)
    assert min(study.modified_gaps) > 30 * study.solver_error
    assert all(b < a / 5 for a, b in zip(study.gaps, study.modified_gaps, strict=True))


@pytest.mark.slow
def test_at_equal_loss_larger_steps_have_smaller_gradients(experiment):
    medians = [float(r[1:].nanmedian()) for r in experiment[1].descent_ratios]
    assert medians == sorted(medians)
    assert all(median < 1 for median in medians)
    deficits = [1 - median for median in medians]
    for large, small in itertools.pairwise(deficits):
        assert large / small == pytest.approx(2, rel=0.1)  # in proportion to the step size


@pytest.mark.slow
def test_modified_flow_predicts_the_ratio_at_equal_loss(experiment):
    result = experiment[1]
    errors, effects = [], []
    for measured, predicted in zip(result.descent_ratios, result.modified_ratios, strict=True):
        errors.append(float((measured - predicted)[1:].abs().nanmedian()))
        effects.append(float((measured - 1)[1:].abs().nanmedian()))
    assert all(error < effect / 10 for error, effect in zip(errors, effects, strict=True))
    assert errors[0] / errors[1] > 3  # of order 2, the effect of order 1


@pytest.mark.parametrize(
    "made",
    [
        functools.partial(on_digits, 8, 4, SIZES[:2], rtol=1e-7, atol=1e-10),
        pytest.param(functools.partial(on_digits, 30, 8, SIZES), marks=pytest.mark.slow),
    ],
    ids=["small", "larger"],
)
def test_ratio_at_equal_loss_is_that_of_a_flow_stopped_at_this_loss(made):
    setup, result = made()
    flow, descent = setup.flow, result.study.descents[0]
    for i in (5, 20):
        goal = float(descent.losses[i])
        stopped = gflow.integrate(
            flow,
            setup.y0,
            [0.0, T],
            rtol=1e-10,
            atol=1e-13,
            until=lambda y, g=goal: flow.loss(y) - g,
        ).ends
        truth = squared_gradient(flow, descent.ys[i : i + 1]) / squared_gradient(
            flow, stopped[None]
        )
        assert float(result.descent_ratios[0][i]) == pytest.approx(float(truth), abs=1e-5)


def test_a_faster_path_has_the_ratio_one():
    flow = KernelFlow(torch.eye(2).double(), torch.ones(2).double())
    sizes = [0.1, 0.05, 0.025]
    start = torch.tensor([0.2, -1.0], dtype=torch.float64)
    with pytest.raises(InputError, match="its states are outputs, not parameters"):
        implicit_regularization(flow, start, 1.0, sizes)
    factor = gflow.FactorFlow(gflow.losses.SquaredDistance(torch.eye(1).double()))
    result = implicit_regularization(
        factor, torch.full((1, 1), 0.5).double(), 1.0, sizes, points=10
    )
    for ratio in result.descent_ratios:
        assert float((ratio - 1).abs().nan_to_num(0).max()) < 1e-7


def test_beyond_the_stability_limit_nothing_is_predicted():
    flow, U = gflow.FactorFlow.example()
    result = implicit_regularization(flow, U, 2.0, [2.0, 0.04, 0.02, 0.01], points=3)
    assert result.study.stable == (False, True, True, True)
    assert result.modified_slopes[0].isnan().all()
    assert result.modified_ratios[0].isnan().all()
    assert torch.isfinite(result.modified_slopes[1]).all()


def test_reduced_flow_is_taken_at_its_parameters():
    flow, W = EndToEndFlow(make_loss("regression", 2, 3), depth=2), 0.3 * randn(2, 3)
    options = {"step_sizes": [0.04, 0.02, 0.01], "points": 3}
    result = implicit_regularization(flow, W, 1.0, **options)
    direct = implicit_regularization(flow.parameter_flow, flow.lift(W), 1.0, **options)
    assert result.study.gaps == direct.study.gaps


def test_a_start_at_rest_is_refused():
    flow = gflow.FactorFlow(gflow.losses.SquaredDistance(torch.eye(2).double()))
    with pytest.raises(InputError, match="loss must fall all along the flow"):
        implicit_regularization(flow, torch.eye(2).double(), 1.0, [0.1, 0.05])
