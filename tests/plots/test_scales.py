"""Scales of axes."""

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from gflow.plots.scales import (
    log_x,
    mark_points,
    plain_ticks,
    readable_ticks,
    scale_time,
    set_log_y,
)
from gflow.plots.style import TIME_LABEL


@pytest.mark.parametrize(
    ("low", "high"), [(0.3, 0.5), (0.2, 0.9), (0.1, 1.0), (0.02, 3.0), (1.8, 8.2)]
)
def test_axes_of_few_decades_have_several_plain_ticks(low, high):
    axes = Figure().subplots()
    axes.set(yscale="log", ylim=(low, high))
    readable_ticks(axes.yaxis, low, high)
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert 3 <= len(ticks) <= 9
    texts = [axes.yaxis.get_major_formatter()(tick, 0) for tick in ticks]
    assert [float(text) for text in texts] == pytest.approx(ticks)
    assert not any("^" in text for text in texts)


@pytest.mark.parametrize(("low", "high"), [(3e-5, 0.013), (50.0, 3e4)])
def test_plain_numbers_and_powers_of_ten_do_not_mix(low, high):
    axes = Figure().subplots()
    axes.set(yscale="log", ylim=(low, high))
    readable_ticks(axes.yaxis, low, high)
    texts = [axes.yaxis.get_major_formatter()(tick) for tick in axes.get_yticks()]
    assert all("^" in text for text in texts)


def test_zeros_do_not_set_the_scale():
    axes = Figure().subplots()
    set_log_y(axes, np.array([0.0, -1.0, np.nan, 0.01, 1.0]))
    assert axes.get_yscale() == "log"
    assert 0.005 < axes.get_ylim()[0] < 0.01
    axes = Figure().subplots()
    set_log_y(axes, np.zeros(3))
    assert axes.get_yscale() == "linear"


@pytest.mark.parametrize("first", [1.2e-5, 4e-5, 1e-4, 9e-3])
def test_no_decade_stands_on_the_zero_of_a_logarithmic_time(first):
    axes = Figure(figsize=(5.6, 3.9)).subplots()
    axes.set_xlabel(TIME_LABEL)
    scale_time(xr.Dataset(coords={"time": [0.0, *np.geomspace(first, 20.0, 20)]}), [axes])
    ticks = axes.get_xticks()
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 9
    pixels = axes.transData.transform(np.stack([ticks, 0 * ticks], axis=1))[:, 0]
    assert np.diff(pixels).min() > 25


@pytest.mark.parametrize("values", [[0.0, 3e8], [0.0, 2e-9], [-2.145941, -2.145940]])
def test_nothing_is_written_above_linear_axes(values):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0.0, 1.0], values)
    plain_ticks(axes)
    figure.draw_without_rendering()
    assert axes.yaxis.get_offset_text().get_text() == ""
    seen = [t.get_text() for t in axes.get_yticklabels()]
    assert len(set(seen)) == len(seen)


def test_a_curve_too_short_to_see_is_marked():
    axes = Figure().subplots()
    axes.plot([0.0, 1.0], [0.0, 1.0])
    lines = axes.plot([0.5, 0.5001], [0.5, 0.5]) + axes.plot([0.1, 0.9], [np.nan, 0.2])
    lines += axes.plot([], []) + axes.plot([0.2, 0.4], [0.1, 0.1])
    mark_points(axes)
    assert [line.get_marker() for line in lines] == ["o", "o", "None", "None"]


def test_a_single_value_stands_in_the_middle():
    axes = Figure().subplots()
    log_x(axes, np.array([1.0]))
    assert axes.get_xlim() == (0.5, 2.0)
