"""The setting of the gap and its proxy: networks, summary, and the inputs that it refuses."""

import json

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.scenario import validate

SMALL = {"samples": 12, "width": 6, "depth": 1, "t_end": 2.0, "step_sizes": [0.2], "points": 4}

#: Where nothing depends on the path.
SHORT = {"t_end": 0.2, "points": 2, "rtol": 1e-3}


def make(**keys):
    base = {"setting": "continuous-vs-discrete", "data": "digits", "activation": "relu"}
    return validate({**base, **SMALL, **keys}, "a test")


def run(**keys):
    return make(**keys).run(lambda name, t_end: None)


@pytest.fixture(scope="module")
def outcome():
    return run(criterion="cross-entropy")


def test_networks_are_a_linear_one_and_one_of_the_same_shape_without_biases(outcome):
    assert outcome.dataset["network"].values.tolist() == ["linear", "relu"]
    size = 64 * 6 + 6 * 10
    assert [row["parameters"] for row in outcome.summary["networks"]] == [size, size]
    with_biases = run(bias=True, **SHORT).summary["networks"]
    assert [row["parameters"] for row in with_biases] == [size, size + 16]


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"model": "linear"}, ["linear"]),
        ({"activation": "tanh"}, ["linear", "tanh"]),
        ({"model": "cnn"}, ["linear", "cnn"]),
    ],
)
def test_other_networks_can_be_chosen(keys, names):
    assert [row["network"] for row in run(**keys, **SHORT).summary["networks"]] == names


def test_curves_are_those_of_descent_and_flow(outcome):
    ds = outcome.dataset
    setup = make(criterion="cross-entropy", model="linear").setup()
    flow, y0 = setup.flow, setup.y0
    descent = gflow.descend(flow, y0, 0.2, 10)
    path = gflow.integrate(flow, y0, ds["time"].values, rtol=1e-9, atol=1e-12)
    gap = gflow.compare(path, descent).parameters
    assert ds["gap_to_flow"].sel(network="linear").values == pytest.approx(gap.numpy(), abs=1e-6)
    steps = torch.tensor([round(t / 0.2) for t in ds["time"].values.tolist()])
    far = flow.norm(descent.ys[steps] - y0)
    assert ds["travelled"].sel(network="linear").values == pytest.approx(far.numpy())


@pytest.mark.slow
def test_networks_with_kinks_use_fixed_steps_unless_a_method_is_named(outcome):
    linear, relu = outcome.summary["networks"]
    assert linear["cost"]["method"] == "dop853"
    assert relu["cost"]["method"] == "rk4"
    assert relu["cost"]["rhs_evals"] == 10 * 4 * 4
    assert run(substeps=2).summary["networks"][1]["cost"]["rhs_evals"] == 10 * 2 * 4
    named = run(method="bosh3", rtol=1e-3).summary["networks"]
    assert [row["cost"]["method"] for row in named] == ["bosh3", "bosh3"]


def test_summary_agrees_with_the_curves(outcome):
    ds, summary = outcome.dataset, outcome.summary
    for i, row in enumerate(summary["networks"]):
        assert row["distance"] == float(ds["travelled"][i, -1])
        assert row["largest_gap"] == float(ds["gap_to_flow"][i].max())
        assert row["largest_proxy_gap"] == float(ds["gap_to_proxy"][i].max())
        assert row["largest_proxy_error"] == float(ds["proxy_to_flow"][i].max())
        assert row["solver_error"] == float(ds["solver_error"][i].max())
        assert row["proxy_evals"] == 20 * 10
        assert row["diverged_at"] is None
    assert summary["stability_limit"] == min(r["stability_limit"] for r in summary["networks"])
    assert summary["certificate"] == {"holds": True, "failures": []}
    json.dumps(summary)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"step_sizes": None}, "takes one step size, got 0; pass one"),
        ({"step_sizes": [0.2, 0.1]}, "takes one step size, got 2; pass one"),
        ({"time": "log"}, "compares at equally spaced times, got log spacing"),
        ({"proxy": 1}, "proxy: input should be greater than or equal to 2, got 1"),
        ({"substeps": 0}, "substeps: input should be greater than or equal to 1, got 0"),
        ({"data": "diabetes", "criterion": "cross-entropy"}, "cross-entropy needs classes"),
    ],
)
def test_input_errors(keys, message):
    with pytest.raises(InputError, match=message):
        run(**keys)
