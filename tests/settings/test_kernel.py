"""The kernels of the kernel setting, and its test error."""

import typing

import numpy as np
import pytest
import torch

from gflow.data import load
from gflow.errors import InputError
from gflow.flows import KernelFlow
from gflow.kernels import nngp, ntk, two_layer_relu_gram
from gflow.kernels.activations import ACTIVATIONS
from gflow.scenario import setting_model
from tests.helpers import relative
from tests.settings.scenarios import make


def test_kernel_is_the_gram_matrix_of_unit_rows():
    setup = make("kernel", data="digits", samples=12, test_samples=5).setup()
    flow = setup.flow
    assert isinstance(flow, KernelFlow)
    rows = load("digits").inputs[:12]
    rows = torch.tensor(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert relative(-flow.jvp(setup.y0, flow.targets), two_layer_relu_gram(rows) @ flow.targets) < (
        1e-13
    )
    assert setup.y0.shape == (12, len(set(load("digits").targets[:17, 0])))
    assert not setup.y0.any()
    measured = setup.measure_flow(torch.tensor([0.0, 1.0]).double(), torch.stack([setup.y0] * 2))
    assert set(measured) == {
        "residual_bound",
        "bound_slack",
        "bound_holds",
        "effective_dimension",
        "learned_share",
        "test_error",
    }
    lam = setup.spectral["kernel_eigenvalues"][2]
    assert torch.equal(lam, flow.eigenvalues.flip(0))
    assert relative(setup.spectral["learning_times"][2] * lam, torch.ones(12)) <= 1e-14
    assert float(setup.spectral["target_energy"][2].sum()) == pytest.approx(1.0, rel=1e-12)
    assert "step size, on the sum" in setup.facts["time_unit"]
    assert 0 <= float(measured["test_error"][1][-1]) <= 1
    assert setup.facts["test_samples"] == 5


def test_kernel_test_error_of_a_regression_is_that_of_the_exact_flow():
    setup = make("kernel", samples=9, test_samples=4, inputs=3).setup()
    ts = torch.tensor([0.0, 2.0], dtype=torch.float64)
    ys = setup.flow.exact(ts, setup.y0)
    measured = setup.measure_flow(ts, ys)
    assert (measured["bound_holds"][1] == 1).all()
    residual = (ys - setup.flow.targets).flatten(1).norm(dim=1)
    assert (residual <= measured["residual_bound"][1] * (1 + 1e-12)).all()


@pytest.mark.parametrize(("name", "kernel"), [("ntk", ntk), ("nngp", nngp)])
def test_kernels_of_deep_networks_are_chosen_by_name(name, kernel):
    network = {"depth": 3, "activation": "gelu", "w_std": 1.5, "b_std": 0.2}
    sizes = {"samples": 9, "test_samples": 4}
    flow = make("kernel", data="digits", kernel=name, **sizes, **network).setup().flow
    rows = load("digits").inputs[:13]
    rows = torch.tensor(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    assert relative(flow.H, kernel(rows[:9], **network)) <= 1e-14
    assert relative(flow.H_test, kernel(rows[9:], rows[:9], **network)) <= 1e-14


@pytest.mark.parametrize(
    ("option", "value"), [("depth", 2), ("activation", "erf"), ("w_std", 2.0), ("b_std", 0.1)]
)
def test_two_layer_kernel_refuses_options_of_deep_networks(option, value):
    message = f"{option} applies to the kernels ntk and nngp, got {option}={value} with kernel two"
    with pytest.raises(InputError, match=message):
        make("kernel", **{option: value}).setup()


def test_kernel_lists_every_activation_of_the_package():
    field = setting_model("kernel").model_fields["activation"]
    assert set(typing.get_args(field.annotation)) == set(ACTIVATIONS)


@pytest.mark.parametrize("t_end", [10.0, 1e8])
def test_evaluations_do_not_grow_with_the_length_of_a_run(monkeypatch, t_end):
    calls, velocity = [], KernelFlow.__call__
    counted = lambda flow, t, y: calls.append(t) or velocity(flow, t, y)  # noqa: E731
    monkeypatch.setattr(KernelFlow, "__call__", counted)
    scenario = make("kernel", data="digits", samples=20, test_samples=5, t_end=t_end, points=5)
    result = scenario.run(lambda name, t_end: None)
    assert max(row["steps"] for row in result.summary["descent"]) > 10 * t_end
    assert len(calls) <= 40
    assert result.summary["cost"]["method"] == "exact"
    assert result.summary["certificate"]["holds"]
    if t_end > 1e6:  # all is learned
        assert result.summary["descent"][0]["final_loss"] < 1e-20
