"""The data and networks of the wide-network setting."""

import numpy as np
import pytest

from gflow.data import load
from gflow.errors import InputError
from gflow.flows import TwoLayerFlow
from tests.helpers import relative
from tests.settings.scenarios import make, no_stage


def test_setup_is_the_narrowest_network():
    setup = make("wide-network", widths=[8, 4], samples=5, inputs=3).setup()
    assert isinstance(setup.flow, TwoLayerFlow)
    assert setup.y0.shape == (4, 3)
    assert setup.flow.end_to_end(setup.y0).shape == (5,)
    assert setup.facts == {"width": 4}


def test_data_are_unit_rows_with_the_remaining_samples_held_out(monkeypatch):
    arguments = {}

    def study(inputs, targets, *args, test, **options):
        arguments.update(inputs=inputs, targets=targets, test=test)
        raise InputError("not run")

    monkeypatch.setattr("gflow.studies.width.width_study", study)
    keys = {"data": "digits", "samples": 90, "test_samples": 1000, "seeds": 1}
    for more in ({"classes": ["0", "1"]}, {"classes": ["0", "1", "7"], "outputs": "all"}):
        with pytest.raises(InputError, match="not run"):
            make("wide-network", **keys, **more).run(no_stage)
        names = [float(name) for name in more["classes"]]
        data = load("digits")
        chosen = np.isin(data.targets[:, 0], names)
        rows = data.inputs[chosen] / np.linalg.norm(data.inputs[chosen], axis=1, keepdims=True)
        label = data.targets[chosen, 0]
        hot = (label[:, None] == names).astype(float)
        expected = 2 * label - 1 if len(names) == 2 else hot - hot[:90].mean(axis=0)
        assert relative(arguments["inputs"], rows[:90]) <= 1e-14
        assert relative(arguments["test"][0], rows[90:1090]) <= 1e-14
        assert relative(arguments["targets"], expected[:90]) <= 1e-14
        assert relative(arguments["test"][1], expected[90:1090]) <= 1e-14


def test_without_remaining_samples_there_is_no_test_error():
    keys = {"data": "iris", "classes": ["setosa", "versicolor"], "samples": 100}
    scenario = make("wide-network", **keys, widths=[8], seeds=1, epochs=1, points=2, rtol=1e-3)
    (row,) = scenario.run(no_stage).summary["widths"]
    assert "test_error" not in row
    with pytest.raises(InputError, match="at most 100"):
        make("wide-network", **keys | {"samples": 101}).run(no_stage)


def test_several_step_sizes_are_refused():
    scenario = make("wide-network", step_sizes=[0.1, 0.2], samples=5, inputs=3)
    with pytest.raises(InputError, match="takes one step size, got 2; keep one of them"):
        scenario.run(no_stage)


@pytest.mark.parametrize(
    ("data", "classes", "message"),
    [("digits", ["0", "1", "2"], "two"), ("diabetes", None, "must have classes")],
)
def test_two_classes_are_required(data, classes, message):
    keys = {"data": data, "samples": 10} | ({"classes": classes} if classes else {})
    with pytest.raises(InputError, match=message):
        make("wide-network", **keys).run(no_stage)
