"""What the settings of networks share: the loss, the models and the criterion."""

import pytest
import torch

from gflow.errors import InputError
from gflow.scenario import validate
from gflow.settings.network_base import half_squared_error


def make(**keys):
    base = {"setting": "network", "data": "synthetic", "samples": 8, "t_end": 1.0}
    return validate({**base, "inputs": 3, "width": 4, "depth": 1, **keys}, "a test")


def test_half_squared_error_sums_outputs_and_averages_samples():
    outputs = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.float64)
    targets = torch.tensor([[0.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    assert float(half_squared_error(outputs, targets)) == (0.5 * (1 + 4) + 0.5 * 4) / 2


@pytest.mark.parametrize(("model", "count"), [("mlp", 3 * 4 + 4 + 4 + 1), ("linear", 3 * 4 + 4)])
def test_models_have_the_layers_that_the_keys_say(model, count):
    assert make(model=model).setup().facts["parameters"] == count


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "cnn"}, "a cnn needs images"),
        ({"model": "mpl"}, "there is no model 'mpl'; did you mean 'mlp'"),
        ({"criterion": "cross-entropy"}, "cross-entropy needs classes"),
    ],
)
def test_keys_that_do_not_fit_the_data_are_refused(keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys).setup()
