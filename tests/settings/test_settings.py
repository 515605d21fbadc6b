"""Each setting builds the flow and the start that its formula says."""

import importlib
import typing

import numpy as np
import pytest
import torch

from gflow.data import load
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow, ProductFlow, TwoLayerFlow
from gflow.kernels import nngp, ntk, two_layer_relu_gram
from gflow.kernels.activations import ACTIVATIONS
from gflow.scenario import setting_model, setting_models, validate
from gflow.settings.base import Scenario
from tests.helpers import relative

SETTINGS = sorted(setting_models())


def make(setting, **keys):
    needed = {} if setting == "wide-network" else {"t_end": 1.0}
    return validate({"setting": setting, "data": "synthetic", **needed, **keys}, "a test")


def no_stage(name, t_end):
    return None


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_found_by_its_file(name):
    model = setting_model(name)
    assert issubclass(model, Scenario)
    assert model.setting == name
    assert model.__module__ == f"gflow.settings.{name.replace('-', '_')}"
    assert importlib.import_module(model.__module__).__doc__


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_setup_is_a_start_of_the_flow_in_the_dtype_asked_for(name, dtype):
    extra = {"samples": 6, "test_samples": 2} if name == "kernel" else {}
    setup = make(name, dtype=str(dtype).removeprefix("torch."), **extra).setup()
    setup.flow.check_state(setup.y0)
    assert setup.y0.dtype == dtype
    assert torch.isfinite(setup.flow(0.0, setup.y0)).all()
    assert setup.facts


def test_deep_linear_start_and_loss():
    setup = make("deep-linear", depth=2, init_scale=0.25, outputs="all", targets=3).setup()
    assert isinstance(setup.flow, EndToEndFlow)
    assert setup.y0.shape == (3, 10)
    assert float(setup.y0.norm()) == pytest.approx(0.25, rel=1e-14)
    assert setup.facts == {"samples": 200, "shape": [3, 10], "depth": 2}
    single = make("deep-linear", outputs="single").setup()
    assert single.y0.shape == (1, 10)


def test_deep_linear_loss_is_the_mean_over_standardised_samples():
    setup = make("deep-linear", data="diabetes", samples=50).setup()
    data = load("diabetes")
    X, y = data.inputs[:50], data.targets[:50, 0]
    X, y = (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()
    w = setup.y0.numpy()[0]
    by_hand = 0.5 * np.mean((X @ w - y) ** 2)
    assert float(setup.flow.loss(setup.y0)) == pytest.approx(by_hand, rel=1e-12)


def test_factorization_start_mask_and_held_out_error():
    scenario = make("factorization", size=6, rank=2, observed=0.4, init_scale=0.1, seed=3)
    setup = scenario.setup()
    assert isinstance(setup.flow, ProductFlow)
    assert relative(setup.y0, 0.01 * torch.eye(6).double()) <= 1e-15
    ((label, error),) = setup.measure(torch.zeros(1), setup.y0[None]).values()
    assert "unobserved" in label
    assert float(error[0]) == 1.0  # nothing is known off the diagonal at the start
    assert 6 <= setup.facts["observed_entries"] < 36
    assert (setup.facts["observed_entries"] - 6) % 2 == 0  # the mask is symmetric


def test_factorization_with_everything_observed_has_nothing_held_out():
    setup = make("factorization", size=5, observed=1.0).setup()
    assert setup.facts["observed_entries"] == 25
    assert setup.measure(torch.zeros(1), setup.y0[None]) == {}


def test_kernel_is_the_gram_of_unit_rows_with_points_kept_for_testing():
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
def test_kernel_of_a_deep_network_is_asked_for_by_name(name, kernel):
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
def test_two_layer_kernel_takes_no_option_of_deep_networks(option, value):
    message = f"{option} applies to the kernels ntk and nngp, got {option}={value} with kernel two"
    with pytest.raises(InputError, match=message):
        make("kernel", **{option: value}).setup()


def test_kernel_names_every_activation_of_the_package():
    field = setting_model("kernel").model_fields["activation"]
    assert set(typing.get_args(field.annotation)) == set(ACTIVATIONS)


def test_wide_network_setup_is_the_narrowest():
    setup = make("wide-network", widths=[8, 4], samples=5, inputs=3).setup()
    assert isinstance(setup.flow, TwoLayerFlow)
    assert setup.y0.shape == (4, 3)
    assert setup.flow.end_to_end(setup.y0).shape == (5,)
    assert setup.facts == {"width": 4}


def test_wide_network_data_are_unit_rows_with_the_rest_held_out(monkeypatch):
    seen = {}

    def study(inputs, targets, *args, test, **options):
        seen.update(inputs=inputs, targets=targets, test=test)
        raise InputError("seen")

    monkeypatch.setattr("gflow.studies.width.width_study", study)
    keys = {"data": "digits", "samples": 90, "test_samples": 1000, "seeds": 1}
    for more in ({"classes": ["0", "1"]}, {"classes": ["0", "1", "7"], "outputs": "all"}):
        with pytest.raises(InputError, match="seen"):
            make("wide-network", **keys, **more).run(no_stage)
        names = [float(name) for name in more["classes"]]
        data = load("digits")
        keep = np.isin(data.targets[:, 0], names)
        rows = data.inputs[keep] / np.linalg.norm(data.inputs[keep], axis=1, keepdims=True)
        label = data.targets[keep, 0]
        hot = (label[:, None] == names).astype(float)
        want = 2 * label - 1 if len(names) == 2 else hot - hot[:90].mean(axis=0)
        assert relative(seen["inputs"], rows[:90]) <= 1e-14
        assert relative(seen["test"][0], rows[90:1090]) <= 1e-14
        assert relative(seen["targets"], want[:90]) <= 1e-14
        assert relative(seen["test"][1], want[90:1090]) <= 1e-14


def test_wide_network_without_a_rest_has_nothing_held_out():
    keys = {"data": "iris", "classes": ["setosa", "versicolor"], "samples": 100}
    scenario = make("wide-network", **keys, widths=[8], seeds=1, epochs=1, points=2, rtol=1e-3)
    (row,) = scenario.run(no_stage).summary["widths"]
    assert "test_error" not in row
    with pytest.raises(InputError, match="at most 100"):
        make("wide-network", **keys | {"samples": 101}).run(no_stage)


def test_wide_network_takes_one_step_size():
    scenario = make("wide-network", step_sizes=[0.1, 0.2], samples=5, inputs=3)
    with pytest.raises(InputError, match="takes one step size, got 2"):
        scenario.run(no_stage)


@pytest.mark.parametrize(
    ("data", "classes", "say"),
    [("digits", ["0", "1", "2"], "two"), ("diabetes", None, "must have classes")],
)
def test_wide_network_needs_two_classes(data, classes, say):
    keys = {"data": data, "samples": 10} | ({"classes": classes} if classes else {})
    with pytest.raises(InputError, match=say):
        make("wide-network", **keys).run(no_stage)


def test_depth_and_width_reach_the_flow():
    with pytest.raises(InputError, match="hidden_width of at least"):
        make("deep-linear", outputs="all", hidden_width=2, targets=3).setup()
    setup = make("deep-linear", depth=4, hidden_width=7).setup()
    assert setup.flow.lift(setup.y0).numel() == 7 * (10 + 7 + 7 + 1)
