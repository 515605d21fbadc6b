"""`plot` draws into the user's axes, in the user's style, what a name says."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import gflow
from gflow.errors import InputError
from tests.views.examples import KINDS, SLOW_KINDS, value


@pytest.fixture(autouse=True)
def _no_figure_is_left():
    yield
    plt.close("all")


TWO_PANELS = xr.Dataset(
    {"held_out_error": ("time", [1.0, 0.5]), "effective_rank": ("time", [2.0, 1.0])},
    {"time": [0.0, 1.0]},
)
ALL_KINDS = [*KINDS, "ensemble", *(pytest.param(k, marks=pytest.mark.slow) for k in SLOW_KINDS)]


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_value_is_drawn_in_a_new_figure(kind):
    panels = np.atleast_1d(value(kind).plot())
    assert all(isinstance(axes, plt.Axes) for axes in panels)
    assert panels[0].lines
    assert panels[0].get_xlabel()


def test_axes_are_those_given_and_settings_those_of_the_user():
    _, (left, right) = plt.subplots(1, 2)
    assert value("trajectory").plot("loss", ax=right, title="mine") is right
    assert not left.lines
    assert right.get_title() == "mine"
    with mpl.rc_context({"lines.linewidth": 7.5, "figure.figsize": (3.0, 2.0)}):
        before = dict(mpl.rcParams)
        axes = value("trajectory").plot("loss")
        assert dict(mpl.rcParams) == before
    assert axes.lines[0].get_linewidth() == 7.5
    assert tuple(axes.figure.get_size_inches()) == (3.0, 2.0)


def test_flow_descent_and_closed_form_are_in_one_figure():
    path, gd = value("trajectory"), value("descent")
    axes = gflow.plot(path, gd, observable="loss", exact=True)
    labels = {line.get_label(): line for line in axes.lines}
    assert set(labels) == {"gradient flow", "closed form", "η = 0.1"}
    np.testing.assert_allclose(labels["gradient flow"].get_ydata(), path.losses)
    np.testing.assert_allclose(labels["closed form"].get_ydata(), path.losses, rtol=1e-5)
    np.testing.assert_allclose(labels["η = 0.1"].get_ydata(), gd.losses)
    axes = gflow.plot(path, gd, observable="nuclear_norm")  # not a figure, but a variable
    assert axes.get_ylabel() == "nuclear norm of W"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gflow.plot(), "plot takes a trajectory first, got none"),
        (lambda: gflow.plot(value("trajectory"), value("trajectory")), "draw the second into"),
        (lambda: gflow.plot(value("gap"), value("descent")), "alone, got 2 values"),
        (lambda: gflow.plot(value("descent"), exact=True), "a trajectory first"),
        (lambda: value("trajectory").plot("los"), "no figure .* 'los'.*did you mean 'loss'"),
        (lambda: value("trajectory").plot(ax=3), "ax must be axes of matplotlib, got 1 of type"),
        (lambda: gflow.plot(TWO_PANELS, ax=plt.gca()), "a sequence of 2 axes"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_figure_of_several_panels_takes_and_returns_several_axes():
    _, given = plt.subplots(1, 2)
    returned = gflow.plot(TWO_PANELS, ax=given)
    assert list(returned) == list(given)
    assert "best known at t = 1" in given[0].get_title()
    figure = gflow.plot(TWO_PANELS)[0].figure  # its own: the title is above both panels
    assert "best known at t = 1" in figure.get_suptitle()
