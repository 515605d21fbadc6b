"""The network setting: its flow, its measurements, and the inputs that it refuses."""

import numpy as np
import pytest
import torch
from torch import nn

import gflow
from gflow.data import load
from gflow.errors import InputError
from gflow.scenario import validate
from tests.data.test_images import bytes_of, write_mnist
from tests.helpers import relative

SMALL = {"samples": 12, "width": 6, "depth": 1, "t_end": 2.0, "step_sizes": [0.2, 0.1], "points": 4}


def make(**keys):
    return validate({"setting": "network", "data": "digits", **SMALL, **keys}, "a test")


@pytest.fixture(scope="module")
def outcome():
    return make().run(lambda name, t_end: None)


def test_default_is_the_digits_tanh_network():
    setup = make(samples=500, width=64, depth=2).setup()
    assert setup.facts == {"samples": 500, "parameters": 8970, "model": "mlp"}
    assert float(setup.flow.loss(setup.y0)) == pytest.approx(0.5458, abs=5e-5)
    assert float(gflow.flows.sharpness.sharpness(setup.flow, setup.y0).values) == pytest.approx(
        2.4, abs=0.05
    )


@pytest.mark.parametrize("criterion", ["squared-error", "cross-entropy"])
def test_loss_is_the_mean_over_samples(criterion):
    setup = make(criterion=criterion).setup()
    data = load("digits")
    rows = data.inputs[:12] - data.inputs[:12].mean(0)
    labels = torch.tensor(data.targets[:12, 0]).long()
    W = setup.flow.parameters_dict(setup.y0)
    u = torch.tanh(torch.tensor(rows) @ W["0.weight"].mT + W["0.bias"])
    u = u @ W["2.weight"].mT + W["2.bias"]
    if criterion == "cross-entropy":
        by_hand = nn.functional.cross_entropy(u, labels)
    else:
        by_hand = 0.5 * (u - nn.functional.one_hot(labels, 10)).square().sum() / 12
    assert relative(setup.flow.loss(setup.y0), by_hand) <= 1e-14


def test_measurements_agree_with_autograd(outcome):
    ds = outcome.dataset
    setup = make().setup()
    flow = setup.flow
    path = gflow.integrate(flow, setup.y0, ds["time"].values, rtol=1e-8, atol=1e-11)
    assert relative(torch.tensor(ds["distance"].values), flow.norm(path.ys - setup.y0)) <= 1e-6
    labels = torch.tensor(load("digits").targets[:12, 0])
    for i in (0, 3, len(path.ys) - 1):
        y = path.ys[i]
        g = flow.reference(y)
        H = torch.autograd.functional.hessian(flow.loss, y)
        assert float(ds["gradient_norm"][i]) == pytest.approx(float(g.norm()), rel=1e-6)
        top = float(torch.linalg.eigvalsh(H)[-1])
        assert float(ds["sharpness"][i]) == pytest.approx(top, rel=5e-3)
        share = (flow.end_to_end(y).argmax(1) == labels).double().mean()
        assert float(ds["accuracy"][i]) == float(share)
    for name in ("sharpness", "gradient_norm", "distance", "accuracy", "loss"):
        assert np.isfinite(ds[f"descent_{name}"].values[0][:5]).all()
    assert outcome.summary["final_accuracy"] == float(ds["accuracy"][-1])
    assert outcome.summary["parameters"] == 6 * 65 + 10 * 7


def test_gap_and_solver_error_are_in_function_space(outcome):
    ds, setup = outcome.dataset, make().setup()
    gd = gflow.descend(setup.flow, setup.y0, 0.1, 20)
    path = gflow.integrate(setup.flow, setup.y0, gd.ts, rtol=1e-11, atol=1e-13)
    apart = setup.flow.end_to_end(path.ys) - setup.flow.end_to_end(gd.ys)
    apart = apart.flatten(1).norm(dim=1)
    at = [round(float(t) / 0.1) for t in ds["gap_time"].values[1] if np.isfinite(t)]
    gaps = ds["gap"].values[1][: len(at)]
    assert np.abs(gaps - apart[at].numpy()).max() <= 1e-6 * gaps.max()
    assert 0 < outcome.summary["solver_error"] < 1e-3 * gaps.max()
    assert outcome.summary["certificate"]["error_estimate"] > 0
    assert outcome.summary["certificate"]["holds"]


@pytest.mark.slow
def test_diverging_descent_is_measured_up_to_its_divergence():
    scenario = make(step_sizes=[3.0, 0.5], t_end=30.0, model="linear", rtol=1e-4, points=10)
    result = scenario.run(lambda name, t_end: None)
    assert result.summary["descent"][0]["diverged_at"] is not None
    assert result.summary["descent"][1]["diverged_at"] is None
    saved = np.isfinite(result.dataset["descent_time"].values[0])
    assert saved.sum() > 1
    assert np.isfinite(result.dataset["descent_gradient_norm"].values[0][saved][:2]).all()
    assert np.isfinite(result.dataset["sharpness"].values).all()


@pytest.mark.parametrize("model", ["linear", "cnn"])
def test_other_built_in_models_can_be_chosen(model):
    setup = make(model=model).setup()
    assert setup.flow.end_to_end(setup.y0).shape == (12, 10)


def test_regression_has_no_accuracy():
    setup = make(data="diabetes").setup()
    measured = setup.flow.observables(setup.y0)
    assert set(measured) == {"loss", "gradient_norm", "distance", "layer_norms"}


def test_chunk_size_reaches_the_flow():
    chunks = []
    setup = make(chunk=5).setup()
    setup.flow._loss.module.register_forward_hook(lambda m, x, out: chunks.append(len(out)))
    setup.flow(0.0, setup.y0)
    assert chunks == [5, 5, 2]
    assert relative(setup.flow(0.0, setup.y0), make().setup().flow(0.0, setup.y0)) <= 1e-14


def test_seed_draws_the_start():
    starts = [make(seed=seed).setup().y0 for seed in (1, 1, 2)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_a_users_model_on_mnist_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mnist(tmp_path, bytes_of(20, 4, 4), bytes_of(20, high=10, seed=1))
    text = "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(16, 10))\n"
    (tmp_path / "own_network.py").write_text(text)
    setup = make(data=f"mnist:{tmp_path}", model="own_network:make").setup()
    assert setup.facts["parameters"] == 170
    assert setup.facts["model"] == "own_network:make"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "mpl"}, "no model 'mpl'; did you mean 'mlp'.*or package.module:function"),
        ({"model": "nowhere:make"}, "must be importable"),
        (
            {"model": "torch.nn:Identity"},
            r"outputs of shape \(2, 10\) for 2 samples, got \(2, 64\)",
        ),
        ({"model": "cnn", "data": "iris"}, "a cnn needs images, but the samples of iris have"),
        ({"criterion": "cross-entropy", "data": "diabetes"}, "cross-entropy needs classes"),
    ],
)
def test_input_errors(keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys).setup()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"activation": "sin"}, "activation: input should be 'tanh'"),
        ({"depth": -1}, "depth: input should be greater than or equal to 0"),
        ({"chunk": 0}, "chunk: input should be greater"),
    ],
)
def test_options_are_checked(keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys)
