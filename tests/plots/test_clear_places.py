"""Texts that cover neither curves nor each other."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from gflow.plots.clear_places import CORNERS, covered, move_clear, spread_apart
from gflow.plots.drawing import wrapped
from gflow.plots.labels import Curve, label_curves, label_level, note
from tests.plots.results import drawn

X = np.linspace(0.0, 1.0, 201)


def axes_with(*curves, **style):
    axes = Figure().subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for y in curves:
        axes.plot(X, y, **style)
    return axes


def seen(axes):
    """Return the points of the axes' first curves, in pixels."""
    return np.concatenate([axes.transData.transform(line.get_xydata()) for line in axes.lines])


@pytest.mark.parametrize("corner", CORNERS)
def test_a_note_leaves_the_corner_of_a_curve(corner):
    vertical, horizontal = corner.split()
    x = X if horizontal == "right" else 1 - X
    axes = axes_with(0.5 + (0.5 if vertical == "upper" else -0.5) * x**0.5)
    note(axes, "a remark about it", at=corner)
    assert covered(axes.texts[0].get_window_extent(), seen(axes)) > 0
    move_clear([axes])
    assert covered(axes.texts[0].get_window_extent(), seen(axes)) == 0


def test_a_note_stays_where_nothing_is_better_and_where_it_is_told_to():
    axes = axes_with(0.5 + 0 * X)
    note(axes, "a remark", at="lower left")
    before = axes.texts[0].get_window_extent().bounds
    move_clear([axes])
    assert axes.texts[0].get_window_extent().bounds == before
    axes = axes_with(1 - X, 0.9 + 0 * X)  # free only below
    note(axes, "↑ a bound far above", at="upper left")
    move_clear([axes])
    assert axes.texts[0].get_va() == "top"


@pytest.mark.parametrize(("level", "words", "side"), [(-1e9, "↓ a", "bottom"), (7.0, "↑ a", "top")])
def test_a_level_beyond_the_axes_is_a_note_and_leaves_the_layout_alone(level, words, side):
    axes = axes_with(X)
    label_level(axes, level, "a", "grey")
    axes.set(ylim=(0, 1))
    move_clear([axes])
    (text,) = (text for text in axes.texts if text.get_visible())
    assert text.get_text() == f"{words}: {level:g}"
    assert text.get_va() == side
    assert axes.get_tightbbox().height < 1.2 * axes.bbox.height


def test_a_level_without_a_value_is_not_written():
    axes = axes_with(X)
    label_level(axes, np.nan, "a", "grey")
    move_clear([axes])
    assert not any(text.get_visible() for text in axes.texts)


def test_figures_of_studies_have_a_layout():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn("trend of depth")["completion_trend"].draw_without_rendering()


def test_a_note_covers_no_marks_and_no_curve_that_ends_far_away():
    axes = axes_with(np.where(X < 0.1, 0.03, 0.5), ls="none", marker="o", markevery=400)
    note(axes, "a remark")
    move_clear([axes])
    assert axes.texts[0].get_ha() == "right"
    axes = axes_with(np.where(X < 0.05, 0.5, 0.5 - 1e9 * (X - 0.05)))
    note(axes, "a remark")
    move_clear([axes])
    assert axes.texts[0].get_ha() == "right"


def test_the_label_of_a_level_leaves_a_curve():
    rising = 0.3 + 0.4 * X
    axes = axes_with(rising)
    label_level(axes, 0.3, "a level", "grey")
    points = axes.transData.transform(np.stack([X, rising], axis=1))
    assert covered(axes.texts[0].get_window_extent(), points) > 0
    move_clear([axes])
    assert covered(axes.texts[0].get_window_extent(), points) == 0


def test_labels_of_curves_leave_the_axis_of_time_free():
    axes = axes_with()
    curves = [Curve(X, 0 * X + 0.002 * k, f"curve {k}", "black") for k in (1, 9, 18)]
    label_curves(axes, curves)
    boxes = [text.get_window_extent() for text in axes.texts]
    assert min(box.y0 for box in boxes) > axes.bbox.y0 - 3
    below = sorted(boxes, key=lambda box: box.y0)
    assert all(a.y1 < b.y0 + 3 for a, b in pairwise(below))


def test_places_stay_within_bounds():
    places = spread_apart(np.array([0.0, 0.1, 9.9]), np.ones(3), 0.0, 10.0)
    np.testing.assert_allclose(places, [0.5, 1.5, 9.5])
    # What does not fit rises above the highest place, and the order remains.
    places = spread_apart(np.zeros(4), np.ones(4), 0.0, 2.0)
    np.testing.assert_allclose(places, [0.5, 1.5, 2.5, 3.5])


@pytest.mark.parametrize("name", ["deep-linear", "factorization", "kernel"])
def test_notes_of_figures_stand_on_no_curve(name):
    notes = [
        (axes, text)
        for figure in drawn(name).values()
        for axes in figure.axes
        for text in axes.texts
        if "decades below" in text.get_text()
    ]
    assert notes
    for axes, text in notes:
        assert covered(text.get_window_extent(), seen(axes)) == 0


def test_lines_of_a_title_are_alike_and_keep_equations_whole():
    text = "The largest distance of descent to the flow is 6.56 (η = 0.5), 8.51 (η = 0.4)"
    lines = wrapped(text, 68).split("\n")
    assert " ".join(lines) == text
    assert len(lines) == 2
    assert min(map(len, lines)) > 0.5 * max(map(len, lines))
    for width in range(40, 80):
        lines = wrapped(text, width).split("\n")
        assert " ".join(lines) == text
        assert not any(line.endswith(("=", "η")) or line.startswith("=") for line in lines)
    assert wrapped("", 10) == ""
    assert max(map(len, wrapped("a" * 50, 10).split("\n"))) == 10
