"""Figures are discovered, drawn from the variables that they need, and labelled."""

import io
import sys

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

from gflow import plots
from gflow.plots.style import COLOURS
from tests.helpers import slow_except
from tests.plots.results import FIGURES, dataset, drawn, title

NEUTRAL = {"#000000", "#808080", "#4c4c4c"}
SPECTRA = {"singular_values", "eigenvalues", "hessian_eigenvalues"}
#: Results of scenarios and of `gflow converge`, whose figures tests/cli/test_main.py saves.
SAVED_BY_COMMANDS = {
    "continuous-vs-discrete",
    "deep-linear",
    "edge-of-stability",
    "factorization",
    "grokking",
    "implicit-regularization",
    "in-context",
    "incremental-learning",
    "kernel",
    "kernel-to-rich",
    "lazy-to-rich",
    "matrix-completion",
    "max-margin",
    "network",
    "saddle-to-saddle",
    "study",
    "two-by-two",
    "wide-network",
}
QUICK = (
    *("continuous-vs-discrete", "deep-linear", "edge-of-stability", "factorization"),
    *("incremental-learning", "kernel", "laws", "max-margin", "network", "study", "two-by-two"),
    *("grokking, short", "trend of samples", "wide-network"),
)
DRAWN = slow_except(FIGURES, *QUICK)
TOY = """
from gflow.plots.figure_spec import figure_spec
from gflow.plots.style import TIME_LABEL


@figure_spec("toy", variables=["toy_norm"], panels=2)
def _toy(ds, *panels):
    for axes in panels:
        axes.plot(ds["time"], ds["toy_norm"])
        axes.set(xlabel=TIME_LABEL, ylabel="toy norm")
    return "what was measured"
"""


@pytest.fixture
def add_figure_file(tmp_path, monkeypatch):
    """Add files to the folder of figures for the time of a test."""
    monkeypatch.setattr(plots, "__path__", [*plots.__path__, str(tmp_path)])

    def add(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        added.append(name)

    added = []
    yield add
    for name in added:
        sys.modules.pop(f"gflow.plots.{name}", None)
        vars(plots).pop(name, None)


def test_a_new_figure_needs_one_file_only(add_figure_file):
    values = ("time", [3.0, 2.0, 1.0])
    ds = xr.Dataset({"toy_norm": values}, {"time": [0.0, 1.0, 2.0]})
    assert plots.figures(ds) == {}
    add_figure_file("toy", TOY)
    (figure,) = plots.figures(ds, "a toy").values()
    assert figure.get_suptitle() == "what was measured\na toy"
    assert len(figure.axes) == 2
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), [3.0, 2.0, 1.0])
    assert set(plots.figures(ds.assign(singular_values=(("time", "mode"), np.eye(3))))) == {
        "toy",
        "singular_values",
    }


def test_a_figure_of_an_existing_name_is_refused(add_figure_file):
    add_figure_file("repeated", TOY.replace('"toy"', '"loss"'))
    with pytest.raises(ValueError, match=r"different names, got 'loss' in gflow.plots.paths and"):
        plots.figures(xr.Dataset())


@pytest.mark.parametrize("name", DRAWN)
def test_each_result_has_its_figures(name):
    assert set(drawn(name)) == FIGURES[name]


def test_every_figure_is_drawn_for_some_result():
    of_paths = {"phase_portrait", "neurons", "plateaus"}  # test_portraits.py, test_plateaus.py
    assert {spec.name for spec in plots.figure_specs()} == of_paths | set.union(*FIGURES.values())


@pytest.mark.parametrize("name", DRAWN)
def test_axes_are_labelled_and_not_empty(name):
    for figure in drawn(name).values():
        assert figure.get_suptitle().endswith(title(name))
        for axes in (axes for axes in figure.axes if axes.axison):
            assert axes.get_ylabel()
            if axes.get_label() == "<colorbar>":
                continue
            assert axes.get_xlabel()
            points = [*(line.get_xydata() for line in axes.lines)]
            points += [marks.get_offsets() for marks in axes.collections]
            assert any(np.isfinite(of).any() for of in points)


@pytest.mark.parametrize("name", DRAWN)
def test_colours_are_those_of_the_palette(name):
    palette = {colour.upper() for colour in (*COLOURS, *NEUTRAL)}
    for figure_name, figure in drawn(name).items():
        for i, axes in enumerate(figure.axes):
            if (figure_name, i) == ("residual", 1) or figure_name in SPECTRA:
                continue  # modes are ordered, so their colours are
            assert {to_hex(line.get_color()).upper() for line in axes.lines} <= palette, figure_name


@pytest.mark.parametrize("name", slow_except(sorted(set(FIGURES) - SAVED_BY_COMMANDS), "laws"))
def test_figures_can_be_saved(name):
    for figure in drawn(name).values():
        figure.savefig(io.BytesIO(), format="png", dpi=20)


def test_drawing_restores_the_settings_of_matplotlib():
    before = dict(mpl.rcParams)
    plots.figures(dataset("kernel"))
    assert dict(mpl.rcParams) == before


def test_axes_of_log_spaced_times_show_the_start():
    times = [0.0, 0.01, 0.1, 1.0, 10.0]
    values = ("time", "mode"), np.ones((5, 1))
    ds = xr.Dataset({"singular_values": values}, {"time": times})
    assert plots.figures(ds)["singular_values"].axes[0].get_xscale() == "symlog"
    linear = ds.assign_coords(time=[0.0, 1.0, 2.0, 3.0, 4.0])
    assert plots.figures(linear)["singular_values"].axes[0].get_xscale() == "linear"
