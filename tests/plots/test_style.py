"""Curves and labels that figures share."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from gflow.plots.style import (
    COLOURS,
    colour_of,
    descent_curves,
    draw_median_band,
    format_number,
    thinned,
)


def test_colours_repeat():
    assert [colour_of(i) for i in range(2 * len(COLOURS))] == [*COLOURS, *COLOURS]
    assert len(set(COLOURS)) == len(COLOURS)


def test_descents_of_several_step_sizes_have_circles_at_about_the_same_times():
    grids = [np.linspace(0, 100, 101)]
    for size in (0.0121, 0.0063):
        every = size * np.arange(int(100 / size) + 1)
        saved = every[np.abs(every[:, None] - np.arange(101)).argmin(axis=0)]
        grids.append(saved)
    circles = [grid[thinned(grid)] for grid in grids]
    np.testing.assert_allclose(circles[0], np.arange(0, 101, 4))
    for other in circles[1:]:
        np.testing.assert_allclose(other, circles[0], atol=0.02)


def test_circles_are_even_on_a_logarithmic_axis_too():
    t = np.append(0.0, np.geomspace(1e-2, 1e4, 601))
    gaps = np.diff(np.log10(t[thinned(t)][1:]))
    assert gaps.max() < 1.2 * gaps.min()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1234.5, "1230"), (2.5e7, "2.5e+07"), (2.0, "2"), (1e-5, "1e-05")],
)
def test_numbers_have_three_digits(value, text):
    assert format_number(value) == text


def test_curves_end_with_their_descent():
    times = [[0.0, 0.1, 0.2], [0.0, 0.2, np.nan]]
    values = [[3.0, 2.0, 1.0], [3.0, np.inf, np.nan]]
    dims = "step_size", "k"
    ds = xr.Dataset({"loss": (dims, values), "t": (dims, times)}, {"step_size": [0.1, 0.2]})
    (_, t0, loss0), (label, t1, loss1) = descent_curves(ds, "loss", "t")
    assert label == "η = 0.2"
    np.testing.assert_array_equal(t0, times[0])
    np.testing.assert_array_equal(loss0, values[0])
    np.testing.assert_array_equal(t1, [0.0, 0.2])
    np.testing.assert_array_equal(loss1, [3.0, np.inf])


def test_band_is_the_middle_half_of_the_finite_values():
    axes = Figure().subplots()
    values = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, np.nan], [9.0, np.nan, np.nan]])
    values = np.concatenate([values, np.full((3, 1), np.nan)], axis=1)
    medians = draw_median_band(axes, np.arange(4.0), values, color="black")
    np.testing.assert_array_equal(medians, [2.0, 3.0, 3.0])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), medians)
    corners = axes.collections[0].get_paths()[0].vertices
    at_zero = corners[corners[:, 0] == 0.0, 1]
    assert (at_zero.min(), at_zero.max()) == (1.5, 5.5)
