"""The flow and start of the deep linear setting."""

import numpy as np
import pytest

from gflow.data import load
from gflow.errors import InputError
from gflow.flows import EndToEndFlow
from tests.settings.scenarios import make


def test_start_and_loss():
    setup = make("deep-linear", depth=2, init_scale=0.25, outputs="all", targets=3).setup()
    assert isinstance(setup.flow, EndToEndFlow)
    assert setup.y0.shape == (3, 10)
    assert float(setup.y0.norm()) == pytest.approx(0.25, rel=1e-14)
    assert setup.facts == {"samples": 200, "shape": [3, 10], "depth": 2}
    single = make("deep-linear", outputs="single").setup()
    assert single.y0.shape == (1, 10)


def test_loss_is_the_mean_over_standardised_samples():
    setup = make("deep-linear", data="diabetes", samples=50).setup()
    data = load("diabetes")
    X, y = data.inputs[:50], data.targets[:50, 0]
    X, y = (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()
    w = setup.y0.numpy()[0]
    by_hand = 0.5 * np.mean((X @ w - y) ** 2)
    assert float(setup.flow.loss(setup.y0)) == pytest.approx(by_hand, rel=1e-12)


def test_depth_and_width_reach_the_flow():
    with pytest.raises(InputError, match="hidden_width of at least"):
        make("deep-linear", outputs="all", hidden_width=2, targets=3).setup()
    setup = make("deep-linear", depth=4, hidden_width=7).setup()
    assert setup.flow.lift(setup.y0).numel() == 7 * (10 + 7 + 7 + 1)
