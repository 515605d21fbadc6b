"""Curves and labels that figures share."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from gflow.plots.style import COLOURS, colour_of, descent_curves, draw_median_band, format_number


def test_colours_repeat():
    assert [colour_of(i) for i in range(2 * len(COLOURS))] == [*COLOURS, *COLOURS]
    assert len(set(COLOURS)) == len(COLOURS)


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
