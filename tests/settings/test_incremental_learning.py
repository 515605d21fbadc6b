"""The incremental-learning setting: the law of the shifts, and the inputs that it refuses."""

import numpy as np
import pytest
import torch

from gflow.errors import InputError
from gflow.scenario import load_scenario, validate
from tests.settings.scenarios import no_stage

SMALL = {"setting": "incremental-learning", "size": 4, "samples": 120, "modes": (4.0, 2.0)}
SMALL |= {"rtol": 1e-6, "atol": 0.0, "points": 40}


def make(**keys):
    return validate(SMALL | keys, "a test")


def test_half_times_move_by_the_first_gradient_and_not_by_the_target():
    outcome = make(init_scales=(1e-5, 1e-8)).run(no_stage)
    summary, rows = outcome.summary, outcome.summary["init_scales"]
    assert summary["certificate"]["holds"]
    assert summary["in_order"]
    by_gradient = np.log(1e3) / (2 * summary["growth_rate"])
    assert rows[1]["theory"] == pytest.approx(by_gradient, rel=1e-9)
    assert rows[1]["shift"] == pytest.approx(by_gradient, rel=5e-3)
    assert abs(np.log(1e3) / (2 * 4.0) / by_gradient - 1) > 0.02  # the two can be told apart
    assert summary["shift_error"] < 5e-3
    loss = make().problem()
    gradient = loss.gradient(torch.zeros(4, 4, dtype=torch.float64))
    assert summary["growth_rate"] == pytest.approx(float(torch.linalg.matrix_norm(gradient, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 4])
def test_deeper_half_times_are_a_power_of_the_scale(depth):
    outcome = make(depth=depth, init_scales=(1e-2, 1e-3, 1e-4)).run(no_stage)
    assert outcome.summary["exponent"] == pytest.approx(2 / depth - 1, rel=2e-2)
    assert outcome.summary["in_order"]


def test_default_is_the_matrix_of_the_paper():
    scenario = load_scenario("incremental-learning")
    assert (scenario.size, scenario.modes) == (50, (12.0, 6.0, 4.0, 3.0))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"modes": (1e300,)}, "modes: input should be less than or equal to 1000000"),
        ({"size": 1}, "a matrix of size 1 has at most 1 modes, got 2; give fewer modes"),
        ({"samples": 10**8}, "at most 500,000,000 numbers together, got 100,000,000 of 4 x 4"),
        ({"data": "digits"}, "data: input should be 'synthetic', got 'digits'"),
        ({"init_scales": (3.0,)}, "below half of the least mode 2, got the scale 3"),
        ({"init_scales": ()}, "init-scales: tuple should have at least 1 item"),
    ],
)
def test_input_errors(keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys).run(no_stage)


@pytest.mark.parametrize("depth", [1, 2])
def test_table_of_every_depth(depth):
    outcome = make(depth=depth, init_scales=(0.1,), points=5).run(no_stage)
    table = type(outcome).table(outcome.summary)
    assert [row[0] for row in table.rows] == ["0.1"]
    words = dict(table.lines)["theory"]
    assert ("one layer learns all modes together" in words) == (depth == 1)
