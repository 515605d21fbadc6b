"""The figure of a sweep."""

import numpy as np
import pytest
import xarray as xr

from gflow.errors import InputError
from gflow.plots.sweeps import sweep_figure


def sweep():
    """Return a sweep over widths, step sizes and seeds."""
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=(3, 2, 9))
    values[2, 1, 3:] = np.nan  # runs that are not done
    attributes = {"long_name": "loss at the end", "units": "1"}
    return xr.Dataset(
        {"final_loss": (("width", "step_size", "seed"), values, attributes)},
        coords={
            "width": ("width", [64, 128, 256], {"long_name": "hidden width m", "units": "1"}),
            "step_size": ("step_size", [0.1, 0.2], {"long_name": "step size", "units": "1"}),
            "seed": np.arange(9),
        },
    )


def test_medians_and_middle_halves_are_drawn():
    ds = sweep()
    values = ds["final_loss"].values
    figure = sweep_figure(ds, "width", "final_loss", "step_size")
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("hidden width m", "loss at the end")
    assert axes.get_xscale() == "linear"  # less than a decade
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "step size = 0.1",
        "step size = 0.2",
    ]
    for i, line in enumerate(axes.lines):
        np.testing.assert_allclose(line.get_ydata(), np.nanmedian(values[:, i], axis=-1))
        corners = axes.collections[i].get_paths()[0].vertices
        for j, width in enumerate([64, 128, 256]):
            edges = sorted(set(corners[corners[:, 0] == width, 1]))
            low, high = np.nanpercentile(values[j, i], (25, 75))
            np.testing.assert_allclose([edges[0], edges[-1]], [low, high])
    assert "over seed" in axes.get_title()
    spread = ds.assign_coords(width=ds.width.copy(data=[1, 10, 100]))
    assert sweep_figure(spread, "width", "final_loss").axes[0].get_xscale() == "log"


def test_texts_are_drawn_side_by_side():
    names = ("width", ["a", "b", "c"], {"long_name": "model"})
    ds = sweep().isel(seed=[0]).assign_coords(width=names)
    (axes,) = sweep_figure(ds, "width", "final_loss").axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b", "c"]
    assert axes.lines[0].get_xdata().tolist() == [0.0, 1.0, 2.0]


def test_round_off_does_not_set_the_scale():
    ds = sweep().isel(seed=[0], step_size=[0])
    ds["final_loss"].values[:, 0, 0] = [1.0, 1e-3, 1e-18]
    (axes,) = sweep_figure(ds, "width", "final_loss").axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] == pytest.approx(5e-4)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("depth", "final_loss"), "--x: there is no coordinate 'depth'"),
        (("seed", "final_los"), "did you mean 'final_loss'"),
        (("seed", "state"), "there is no variable 'state'"),
        (("seed", "final_loss", "depth"), "--hue: there is no coordinate"),
        (("seed", "final_loss", "seed"), "must differ from --x"),
        (("seed", "order"), "at least one run with order must be done"),
    ],
)
def test_variables_that_cannot_be_drawn_are_refused_in_one_line(names, message):
    ds = sweep()
    ds["state"] = ("seed", np.full(9, "done", dtype=object))
    ds["order"] = ("seed", np.full(9, np.nan))
    with pytest.raises(InputError, match=message) as caught:
        sweep_figure(ds, *names)
    assert "\n" not in str(caught.value)
