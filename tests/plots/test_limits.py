"""Figures whose curves or marks have places beyond the axes."""

import numpy as np
import xarray as xr

from gflow import plots
from tests.plots.results import dataset, drawn


def test_every_plateau_has_its_ring_and_that_at_the_start_stands_on_the_axis():
    ds = dataset("in-context")
    times, heights = ds["plateau_time"].values.copy(), ds["height"].values
    times[0] = 0.0
    axes = plots.figures(ds.assign(plateau_time=(ds["plateau_time"].dims, times)))[
        "context_plateaus"
    ].axes[0]
    (rings,) = (line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(rings.get_ydata(), heights)
    left, right = axes.get_xlim()
    seen = rings.get_xdata()[np.isfinite(heights)]
    assert seen.min() == left
    assert seen.max() <= right
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "nearest to a saddle (leftmost: t = 0)" in texts


def test_a_path_that_falls_far_does_not_flatten_the_others():
    ds = dataset("two-by-two")
    near = drawn("two-by-two")["two_by_two"].axes[1]
    low, high = near.get_ylim()
    deep = ds.copy(deep=True)
    deep["log10_singular_values"][..., 1] = np.linspace(-2.0, -3.6e6, ds.sizes["point"])
    both = xr.concat([deep.assign_coords(depth=[2]), ds], "depth", data_vars="minimal")
    axes = plots.figures(both, only=["two_by_two"])["two_by_two"].axes[1]
    np.testing.assert_allclose(axes.get_ylim(), (low, high), atol=0.1 * (high - low))
    assert "N = 2, to -3,600,000" in {text.get_text() for text in axes.texts}


def test_the_error_of_a_solver_is_a_curve_where_it_is_near():
    ds = dataset("continuous-vs-discrete")
    gaps = ds["proxy_to_flow"].values[..., 1:]
    errors = ds["solver_error"].copy(data=0.1 * ds["proxy_to_flow"].values)
    near = plots.figures(ds.assign(solver_error=errors))["continuous_vs_discrete"]
    for i, axes in enumerate(axes for axes in near.axes if axes.axison):
        (dotted,) = (line for line in axes.lines if line.get_linestyle() == ":")
        np.testing.assert_allclose(dotted.get_ydata(), 0.1 * gaps[i])
        assert any("solver error" in text.get_text() for text in axes.texts)
    far = plots.figures(ds.assign(solver_error=1e-9 * errors))["continuous_vs_discrete"]
    assert any("decades below" in text.get_text() for text in far.axes[0].texts)
