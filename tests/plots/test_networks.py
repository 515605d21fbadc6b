"""Figures of networks."""

import numpy as np
import pytest

from tests.plots.results import dataset, drawn


@pytest.mark.parametrize("name", ["edge-of-stability", "no edge"])
def test_edge_of_stability_has_a_line_at_the_limit_of_every_step_size(name):
    ds = dataset(name)
    axes = drawn(name)["edge_of_stability"].axes[1]
    dotted = [line for line in axes.lines if line.get_linestyle() == ":" and len(line.get_ydata())]
    levels = [line.get_ydata()[0] for line in dotted]
    np.testing.assert_allclose(levels, 2 / ds["step_size"].values)


def test_sharpness_of_a_diverging_descent_does_not_set_the_scale():
    ds = dataset("network")
    axes = drawn("network")["sharpness"].axes[0]
    assert axes.get_ylim()[1] <= 1.3 * 1.5 * float(ds["sharpness"].max())
    assert any("gradient flow" in text.get_text() for text in axes.texts)


def test_accuracy_is_drawn_for_classification_and_the_loss_otherwise():
    assert drawn("network of digits")["network"].axes[0].get_ylabel() == "accuracy"
    assert drawn("network")["network"].axes[0].get_ylabel() == "loss"


@pytest.mark.parametrize(("name", "networks"), [("continuous-vs-discrete", 2), ("one network", 1)])
def test_every_network_has_a_panel_on_one_scale(name, networks):
    figure = drawn(name)["continuous_vs_discrete"]
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == networks
    assert len({axes.get_ylim() for axes in panels}) == 1
    titles = [f"{network} network" for network in dataset(name)["network"].values]
    assert [axes.get_title() for axes in panels] == titles


@pytest.mark.slow
def test_implicit_regularization_compares_at_equal_loss():
    ds = dataset("implicit-regularization")
    axes = drawn("implicit-regularization")["implicit_regularization"].axes[1]
    shown = ds["modified_ratio"].values[:, 1:]
    low, high = axes.get_ylim()
    assert low < np.nanmin(shown) < 1 < high  # nothing is clipped
    texts = [text.get_text() for text in axes.texts]
    assert any("gradient flow" in text for text in texts)


def test_lines_at_the_edge_are_labelled():
    axes = drawn("edge-of-stability")["edge_of_stability"].axes[1]
    texts = {text.get_text() for text in axes.texts}
    assert {"2/η for η = 1.1", "2/η for η = 1"} <= texts


def test_even_and_odd_steps_of_an_oscillation_are_two_curves():
    ds = dataset("edge-of-stability")
    axes = drawn("edge-of-stability")["oscillation"].axes[0]
    even, odd = (line.get_ydata() for line in axes.lines)
    values = ds["oscillation"].values[0][np.isfinite(ds["step_time"].values[0])]
    np.testing.assert_array_equal(even, values[::2])
    np.testing.assert_array_equal(odd, values[1::2])
