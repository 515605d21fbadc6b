"""The path to the maximum margin, against the closed form of one support vector."""

import math

import pytest
import torch

from gflow.errors import InputError
from gflow.scenario import load_scenario, validate
from gflow.solvers import SolveOptions
from gflow.studies.margin_path import margin_path

OPTIONS = SolveOptions(rtol=1e-8, atol=1e-10, points=40)


def followed(X, labels, log10_loss_end, criterion="logistic"):
    return margin_path(
        X, labels, log10_loss_end, criterion, options=OPTIONS, stages=lambda n, t: None
    )


def test_one_point_and_the_exponential_loss_are_in_closed_form():
    X = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    found = followed(X, torch.tensor([1]), -200.0, "exponential")
    # φ = e^{−5r}, ṙ = 5φ: 1/φ = 1 + 25t, and dτ = φ dt makes log φ = −25τ.
    assert found.log_loss.tolist() == pytest.approx((-25 * found.path.ts).tolist(), abs=1e-6)
    expected = (math.exp(460) - 1) / 25
    i = int((found.log_loss <= -460).nonzero()[0])
    assert found.log_time[i] == pytest.approx(
        math.log(expected) + float(-460 - found.log_loss[i]), rel=1e-9
    )
    assert found.margin[1:].tolist() == pytest.approx([5.0] * (len(found.margin) - 1))
    assert float(found.angle[1:].max()) < 1e-7


def test_norm_and_angle_follow_theory_at_tiny_losses():
    X, labels = validate({"setting": "max-margin", "samples": 12, "inputs": 2}, "a test").problem()
    found = followed(X, labels, -300.0)
    assert found.log_loss[-1] == pytest.approx(-300 * math.log(10), rel=1e-6)
    assert found.path.certificate.holds
    assert float(found.best.margin * found.norm[-1] / found.log_time[-1]) == pytest.approx(
        1.0, abs=0.02
    )
    assert found.rate == pytest.approx(-1.0, abs=0.1)
    assert float(found.margin[-1]) < found.best.margin * (1 + 1e-9)


def test_the_default_scenario_is_separable_with_its_gap():
    scenario = load_scenario("max-margin")
    X, labels = scenario.problem()
    assert X.shape == (50, 5)
    assert 0 < int(labels.sum()) < 50


def test_input_errors():
    X = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"below the loss of its start, 10\^-0.159, got 10\^-0.1"):
        followed(X, torch.tensor([1, 1]), -0.1)
    with pytest.raises(InputError, match="gap must leave 2 of 100 Gaussian points, but 0 are 90"):
        validate({"setting": "max-margin", "samples": 2, "gap": 90.0}, "a test").problem()
