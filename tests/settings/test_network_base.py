"""What the settings of networks share: the loss, the models and the criterion."""

import pytest
import torch

from gflow.data import load
from gflow.errors import InputError
from gflow.flows.objective.criteria import HalfSquaredError
from gflow.scenario import validate


def make(**keys):
    base = {"setting": "network", "data": "synthetic", "samples": 8, "t_end": 1.0}
    return validate({**base, "inputs": 3, "width": 4, "depth": 1, **keys}, "a test")


def test_half_squared_error_sums_outputs_and_averages_samples():
    outputs = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
    targets = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert float(HalfSquaredError()(outputs, targets)) == (0.5 * (1 + 4) + 0.5 * 4) / 2


@pytest.mark.parametrize(("model", "count"), [("mlp", 3 * 4 + 4 + 4 + 1), ("linear", 3 * 4 + 4)])
def test_models_have_the_layers_that_the_keys_say(model, count):
    assert make(model=model).setup().facts["parameters"] == count


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "cnn"}, "a cnn needs images"),
        ({"model": "mpl"}, "there is no model 'mpl'; did you mean 'mlp'"),
        ({"criterion": "cross-entropy"}, "cross-entropy needs classes"),
        ({"model": "transformer"}, "a transformer needs sequences"),
        ({"model": "transformer", "data": "modular:5", "heads": 3}, "must divide its width"),
        ({"model": "linear-attention", "data": "modular:5"}, "linear attention needs sequences"),
        ({"train_fraction": 0.5, "test_samples": 2}, "leave out one"),
    ],
)
def test_keys_that_do_not_fit_the_data_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys).setup()


def test_held_out_samples_are_measured_and_scaled_as_the_others():
    keys = {"data": "diabetes", "samples": 20, "test_samples": 5, "weight_decay": 0.1}
    setup = make(**keys, measure=("effective_ranks",)).setup()
    plain = make(data="diabetes", samples=20).setup()
    data = load("diabetes")
    flow, y = setup.flow, setup.y0
    seen = flow.observables(y)
    assert torch.equal(flow.samples[0], plain.flow.samples[0])
    assert float(seen["criterion_loss"]) == pytest.approx(float(plain.flow.loss(y)), rel=1e-13)
    x, t = (torch.tensor(part[:25]) for part in (data.inputs, data.targets))
    x, t = ((p - p[:20].mean(0)) / p[:20].std(0, correction=0) for p in (x, t))
    expected = HalfSquaredError()(flow.module(x[20:]), t[20:])
    assert float(seen["test_loss"]) == pytest.approx(float(expected.detach()), rel=1e-12)
    assert seen["effective_ranks"].shape == (2,)
    assert setup.facts["test_samples"] == 5


def test_held_out_classes_are_whole_numbers_for_cross_entropy():
    flow = make(data="digits", test_samples=9, criterion="cross-entropy").setup().flow
    y, labels = flow.pack(), torch.tensor(load("digits").targets[8:17, 0])
    share = (flow.test_outputs(y).argmax(1) == labels).double().mean()
    assert float(flow.observables(y)["test_accuracy"]) == float(share)


def test_synthetic_data_have_held_out_samples_too():
    flow = make(test_samples=6).setup().flow
    assert flow.test_targets.shape == (6, 1)
    assert len(flow.samples[0]) == 8


def test_a_measure_that_is_unknown_is_refused():
    with pytest.raises(InputError, match="did you mean kernel_distance"):
        make(measure=("kernel_distanz",)).setup()


def test_tokens_are_one_hot_for_tables_and_whole_numbers_for_sequences():
    keys = {"data": "modular:5", "samples": None, "criterion": "cross-entropy"}
    table = make(**keys).setup().flow.samples[0]
    assert table.shape == (25, 10)
    assert torch.equal(table.sum(1), torch.full((25,), 2.0, dtype=torch.float64))
    ids = make(**keys, model="transformer", width=4, heads=2).setup().flow.samples[0]
    assert ids.dtype == torch.int64
    assert torch.equal(torch.nn.functional.one_hot(ids).flatten(1).double(), table)


def test_a_fraction_of_the_samples_is_held_out():
    keys = {"data": "modular:5", "model": "linear", "train_fraction": 0.6}
    setup = make(**keys, samples=None).setup()
    assert (setup.facts["samples"], setup.facts["test_samples"]) == (15, 10)
    setup = make(**keys, samples=20).setup()
    assert (setup.facts["samples"], setup.facts["test_samples"]) == (12, 8)
    with pytest.warns(UserWarning, match="splits all 25 samples of modular:5, not the first 20"):
        setup = make(**keys, samples=20, fewer_samples=True).setup()
    assert setup.facts["test_samples"] == 10


def test_the_scale_of_the_start_multiplies_all_parameters():
    y, smaller = (make(init_scale=scale).setup().y0 for scale in (1.0, 0.1))
    assert torch.equal(smaller, 0.1 * y)


def test_each_layer_may_have_its_own_scale():
    layers, plain = (make(init_scale=scale).setup() for scale in ((3.0, 0.1), 1.0))
    assert torch.equal(layers.y0, plain.flow.scaled_start([3.0, 0.1]))
    with pytest.raises(InputError, match=r"init_scale must be one number, or .* of the 2 layers"):
        make(init_scale=(1.0, 2.0, 3.0)).setup()
    for wrong in ((), (1.0, -1.0), 0.0, float("nan")):
        with pytest.raises(InputError, match="must be a positive number, or one for each layer"):
            make(init_scale=wrong)


def test_sequences_of_vectors_are_taken_as_they_are():
    keys = {"data": "in-context-regression", "length": 6, "model": "linear-attention"}
    flow = make(**keys, heads=3, width=1).setup().flow
    assert flow.samples[0].shape == (8, 7, 4)
    assert float(flow.samples[0][:, -1, -1].abs().max()) == 0.0
    assert len(flow.pack()) == 3 * 4 * 3


def test_data_with_fewer_samples_than_the_scenario_are_used_whole():
    with pytest.warns(UserWarning, match="iris has 150 samples, fewer than the 520"):
        flow = make(data="iris", samples=500, test_samples=20, fewer_samples=True).setup().flow
    assert (len(flow.samples[0]), len(flow.test_targets)) == (130, 20)
    with pytest.raises(InputError, match="at most the 150 rows of iris together"):
        make(data="iris", samples=500, test_samples=20).setup()
