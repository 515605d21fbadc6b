"""The grokking setting: the times of its result, and the inputs that it refuses."""

import math

import pytest
import torch
from torch import nn

from gflow.data.sequences import modular_addition
from gflow.errors import InputError
from gflow.results.grokking import GrokkingResult
from gflow.scenario import load_scenario, validate
from tests.settings.scenarios import no_stage

SMALL = {"setting": "grokking", "data": "modular:3", "model": "mlp", "width": 6, "depth": 1}
SMALL |= {"activation": "square", "bias": False, "criterion": "cross-entropy", "seed": 1}
SMALL |= {"step_sizes": (0.5, 0.25), "t_end": 20.0, "points": 41, "rtol": 1e-5, "atol": 1e-8}
SMALL |= {"estimate_error": False, "train_fraction": 0.7, "weight_decay": 1e-3, "accuracy": 0.9}


def make(**keys):
    return validate(SMALL | keys, "a test")


def accuracies_by_loop(step, steps):
    """Return (time, training accuracy) of the small scenario's descent, from autograd alone."""
    rows, setup = modular_addition(3, seed=1), make().setup()
    inputs = nn.functional.one_hot(torch.as_tensor(rows.inputs).long()[:6], 3).flatten(1).double()
    targets = torch.as_tensor(rows.targets).long().flatten()[:6]
    first, last = (p.detach().clone() for p in setup.flow.parameters_dict(setup.y0).values())
    seen = []
    for k in range(steps + 1):
        first.requires_grad_(), last.requires_grad_()
        outputs = (inputs @ first.T) ** 2 @ last.T
        seen.append((k * step, float((outputs.argmax(1) == targets).double().mean())))
        loss = nn.functional.cross_entropy(outputs, targets)
        loss = loss + 0.5e-3 * (first.square().sum() + last.square().sum())
        slopes = torch.autograd.grad(loss, (first, last))
        first, last = first.detach() - step * slopes[0], last.detach() - step * slopes[1]
    return seen


def test_times_are_those_of_a_loop_in_torch():
    result = make().run(no_stage)
    row = result.summary["descent"][0]
    seen = accuracies_by_loop(row["step_size"], row["steps"])
    i = next(i for i, (_, accuracy) in enumerate(seen) if accuracy >= 0.9)
    (before, low), (after, high) = seen[i - 1], seen[i]
    expected = before + (after - before) * (0.9 - low) / (high - low)
    assert row["memorisation_time"] == pytest.approx(expected, rel=1e-9)
    assert float(result.dataset["descent_memorisation_time"][0]) == row["memorisation_time"]
    # The flow, by small steps: its accuracy jumps between two compared times, 0.25 apart.
    jump = next(t for t, accuracy in accuracies_by_loop(0.01, 1000) if accuracy >= 0.9)
    assert abs(result.summary["memorisation_time"] - jump) <= 0.25


def test_accuracy_that_is_never_reached_is_nan_and_said():
    result = make(t_end=1.0).run(no_stage)
    assert math.isnan(result.summary["generalisation_time"])
    assert all(math.isnan(row["difference"]) for row in result.summary["descent"])
    assert "is not reached by t = 1" in dict(GrokkingResult.lines(result.summary))["flow"]


def test_test_samples_take_the_place_of_the_fraction():
    facts = make(test_samples=2).setup().facts
    assert (facts["samples"], facts["test_samples"]) == (7, 2)
    assert make().setup().facts["test_samples"] == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"data": "synthetic", "inputs": 3, "criterion": "squared-error"}, "grokking needs class"),
        ({"train_fraction": None}, "grokking needs held-out samples, got none"),
    ],
)
def test_input_errors(keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys).run(no_stage)


def test_scenario_starts_large_and_without_biases():
    scenario = load_scenario("grokking")
    setup = scenario.setup()
    first, last = setup.flow.parameters_dict(setup.y0).values()
    assert (first.shape, last.shape) == ((128, 94), (47, 128))
    # torch draws from ±1/√(inputs): variance 1/(3·inputs)
    assert float(first.std()) == pytest.approx(3 / math.sqrt(3 * 94), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4])
def test_flow_and_descent_generalise_at_one_time_long_after_memorising(seed):
    summary = load_scenario("grokking", {"seed": seed}).run(no_stage).summary
    (row,) = summary["descent"]
    assert summary["certificate"]["holds"]
    assert summary["final_accuracy"] == 1.0
    assert summary["delay"] > 9  # 9.5 to 13.2
    assert abs(row["difference"]) < 0.05
    assert row["memorisation_time"] == pytest.approx(summary["memorisation_time"], rel=0.05)
