"""Labels beside curves."""

import numpy as np
from matplotlib.figure import Figure

from gflow.plots.clear_places import spread_apart
from gflow.plots.labels import Curve, label_curves

X = np.linspace(0.0, 1.0, 11)


def labelled(*curves, scale="linear"):
    axes = Figure().subplots()
    axes.set(xlim=(0, 1), ylim=(1e-3, 2), yscale=scale)
    texts = label_curves(axes, [Curve(X, y, label, "black") for y, label in curves])
    return texts, [text.get_position()[1] for text in axes.texts]


def test_labels_are_in_the_order_of_the_curves_and_do_not_overlap():
    curves = [(0 * X + height, str(height)) for height in (1.0, 0.5, 0.501, 0.52)]
    texts, places = labelled(*curves)
    assert texts == ["0.5 and 0.501\ncoincide", "0.52", "1.0"]
    assert places == sorted(places)
    assert min(np.diff(places)) > 0.02


def test_curves_that_differ_somewhere_are_labelled_each():
    bump = np.where(np.abs(X - 0.5) < 0.15, 1.0, 0.5)
    assert labelled((bump, "a"), (0 * X + 0.5, "b"))[0] == ["a", "b"]
    # On a logarithmic axis a small difference shows.
    assert labelled((0 * X + 0.002, "a"), (0 * X + 0.004, "b"))[0] == ["a and b coincide"]
    assert labelled((0 * X + 0.002, "a"), (0 * X + 0.004, "b"), scale="log")[0] == ["a", "b"]


def test_curves_beyond_the_axes_have_no_label():
    assert labelled((0 * X + 7.0, "high"), (np.nan * X, "none"))[0] == []


def test_places_are_as_near_as_can_be():
    wanted = np.array([0.0, 0.1, 5.0, 5.0, 5.0])
    places = spread_apart(wanted, np.ones(5))
    np.testing.assert_allclose(places, [-0.45, 0.55, 4.0, 5.0, 6.0])
