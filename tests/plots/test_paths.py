"""Figures of a flow beside descent, and of step-size studies."""

import io

import numpy as np
import pytest
import torch
import xarray as xr

import gflow
from gflow import plots
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.results.arrays import path_dataset
from gflow.results.base import Setup
from gflow.results.flow_and_descent import FlowAndDescentResult
from gflow.studies.flow_and_descent import flow_and_descent
from tests.helpers import make_loss, randn
from tests.plots.results import dataset, drawn, labels


def test_lines_show_the_values():
    ds = dataset("kernel")
    axes = plots.figures(ds)["loss"].axes[0]
    flow = next(line for line in axes.lines if line.get_label() == "gradient flow")
    np.testing.assert_array_equal(flow.get_xdata(), ds["time"].values)
    np.testing.assert_array_equal(flow.get_ydata(), ds["loss"].values)


def test_more_step_sizes_than_colours_are_all_drawn():
    flow = KernelFlow(torch.eye(2).double(), torch.ones(2).double())
    sizes = [0.1 + 0.05 * i for i in range(8)]
    both = flow_and_descent(flow, torch.zeros(2).double(), 1.0, sizes, points=3)
    ds = FlowAndDescentResult.from_study(both, Setup(flow, torch.zeros(2).double())).dataset
    figures = plots.figures(ds)
    assert len(figures["loss"].axes[0].lines) == 8 + 1


def test_unstable_sizes_are_marked():
    axes = drawn("study")["step_size"].axes[0]
    texts = labels(axes.figure)
    assert any(label.startswith("order 1.0") for label in texts)
    assert any("lambda" in label and "beyond" in label for label in texts)
    marked = next(line for line in axes.lines if "beyond" in str(line.get_label()))
    assert marked.get_xdata().tolist() == [4.0]
    texts = labels(drawn("study without a fit")["step_size"])
    assert not any(label.startswith("order") for label in texts)


def test_orders_of_both_flows_are_drawn():
    axes = drawn("study, modified")["step_size"].axes[0]
    texts = labels(axes.figure)
    orders = [float(label.split()[1]) for label in texts if label.startswith("order")]
    assert orders == pytest.approx([1, 2], abs=0.1)
    squares = [line for line in axes.lines if line.get_marker() == "s" and len(line.get_xdata())]
    assert sorted(x for line in squares for x in line.get_xdata()) == [0.01, 0.02, 0.04, 2.0]


def test_path_without_descent_and_path_of_one_point_are_drawn():
    flow = EndToEndFlow(make_loss("regression", 2, 3), depth=3)
    path = gflow.integrate(flow, 0.3 * randn(2, 3), [0.0, 1.0])
    assert set(plots.figures(path_dataset(path))) == {"singular_values"}
    layers = gflow.integrate(flow.parameter_flow, flow.lift(0.3 * randn(2, 3)), [0.0, 1.0])
    ds = path_dataset(layers)
    for part in (ds, ds.isel(time=[0])):
        for figure in plots.figures(part).values():
            figure.savefig(io.BytesIO(), format="png", dpi=20)
    assert plots.figures(xr.Dataset()) == {}


def test_a_solver_error_far_below_is_a_note_and_not_empty_decades():
    axes = drawn("deep-linear")["gap"].axes[0]
    ds = dataset("deep-linear")
    gaps = ds["gap"].values[ds["gap"].values > 0]
    assert float(ds["solver_error"]) < 1e-4 * gaps.max()
    assert axes.get_ylim()[0] > 1e-5 * gaps.max()
    assert any("decades below" in text.get_text() for text in axes.texts)
    near = ds.assign(solver_error=0.5 * gaps.max())
    axes = plots.figures(near, only=["gap"])["gap"].axes[0]
    assert any(text.get_text() == "solver error" for text in axes.texts)
    assert axes.lines[-1].get_ydata()[0] == 0.5 * gaps.max()


def test_a_bound_is_drawn_in_its_colour_where_it_is_near():
    ds = dataset("deep-linear")
    axes = drawn("deep-linear")["invariants"].axes[0]
    (note,) = (text for text in axes.texts if "bound of the certificate" in text.get_text())
    assert "decades above" in note.get_text()
    drift = ds["drift_balancedness_1"].values.max()
    axes = plots.figures(ds.assign(drift_bound=2 * drift), only=["invariants"])["invariants"].axes[
        0
    ]
    (line,) = (line for line in axes.lines if line.get_ydata()[0] == 2 * drift)
    assert line.get_color() == note.get_color()
    assert axes.get_ylim()[1] > 2 * drift


def test_modes_are_numbered_and_coloured_by_a_map():
    ds = dataset("deep-linear")
    axes = drawn("deep-linear")["singular_values"].axes[0]
    modes = ds.sizes["mode"]
    assert [text.get_text() for text in axes.texts][: modes + 1][-1] == "mode"
    solid = [line for line in axes.lines if line.get_marker() == "None" and len(line.get_xdata())]
    assert len({line.get_color() for line in solid}) == len(solid) == modes
    for i, line in enumerate(solid):
        np.testing.assert_array_equal(line.get_ydata(), ds["singular_values"].values[:, i])


@pytest.mark.parametrize("name", ["deep-linear", "kernel", "factorization", "study"])
def test_titles_say_numbers_that_were_measured(name):
    for figure in drawn(name).values():
        headline = figure.get_suptitle().split("\n")[0]
        assert any(character.isdigit() for character in headline)
    ds = dataset("kernel")
    title = drawn("kernel")["loss"].get_suptitle()
    assert f"falls from {ds.loss.values[0]:.3g} to {ds.loss.values[-1]:.3g} by" in title


def test_a_gap_that_is_zero_at_all_times_saved_is_said():
    flow, start = KernelFlow(torch.eye(2).double(), torch.ones(2).double()), torch.zeros(2).double()
    both = flow_and_descent(flow, start, 1e6, [0.5, 0.25], points=100)
    ds = FlowAndDescentResult.from_study(both, Setup(flow, start)).dataset
    assert not ds["gap"].values.any()
    figure = plots.figures(ds, only=["gap"])["gap"]
    assert figure.get_suptitle() == "Descent and the flow are at the same place at all times saved"
    assert figure.axes[0].get_xlim()[1] == pytest.approx(1.01e6)


def test_the_title_of_a_gap_names_the_largest_of_each_step_size_or_the_extremes():
    ds = dataset("deep-linear")
    largest = ds["gap"].max([d for d in ds["gap"].dims if d != "step_size"]).values
    title = drawn("deep-linear")["gap"].get_suptitle()
    for gap, size in zip(largest, ds["step_size"].values, strict=True):
        assert f"{gap:.3g} (η = {size:g})" in title
    many = xr.concat([ds[["gap", "gap_time"]].isel(step_size=[0])] * 4, "step_size")
    many["step_size"] = [0.4, 0.3, 0.2, 0.1]
    many["gap"] = many["gap"] * xr.DataArray([3.0, 9.0, 1.0, 2.0], dims="step_size")
    many["solver_error"] = ds["solver_error"]
    title = " ".join(plots.figures(many, only=["gap"])["gap"].get_suptitle().split())
    assert f"{largest[0]:.3g} (η = 0.2) to {9 * largest[0]:.3g} (η = 0.3)" in title


def test_conserved_quantities_have_colours_of_their_own_and_say_when_they_vanish():
    ds = dataset("deep-linear")
    drift = ds["drift_balancedness_1"].copy(data=np.linspace(1e-9, 1e-8, ds.sizes["time"]))
    names = [f"drift_quantity_{i}" for i in range(5)]
    more = ds[["drift_bound"]].assign({name: (1 + i) * drift for i, name in enumerate(names)})
    gone = drift.copy(data=np.where(ds["time"].values < 0.5, drift.values, 0.0))
    last = float(ds["time"].values[ds["time"].values < 0.5][-1])
    axes = plots.figures(more.assign(drift_quantity_0=gone))["invariants"].axes[0]
    assert len({line.get_color() for line in axes.lines}) == len(axes.lines) == 5
    texts = [text.get_text() for text in axes.texts]
    assert f"exactly 0: quantity 0 from t = {last:.3g} on" in texts


def test_a_bound_within_the_axes_is_never_said_to_be_above_them():
    ds = dataset("deep-linear")
    drift = ds["drift_balancedness_1"].copy(data=np.geomspace(1e-15, 1e-4, ds.sizes["time"]))
    for bound in (1e-4, 1e-3, 0.05, 5.0, 1e4):
        more = ds[[]].assign(drift_bound=bound, drift_quantity=drift)
        axes = plots.figures(more, only=["invariants"])["invariants"].axes[0]
        drawn_at = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
        above = any("decades above" in text.get_text() for text in axes.texts)
        assert above == (bound > axes.get_ylim()[1]) == (bound not in drawn_at)
    assert above
    none = ds[[]].assign(drift_bound=1e-5, drift_quantity=0 * drift)
    axes = plots.figures(none, only=["invariants"])["invariants"].axes[0]
    assert any("decades above" in text.get_text() for text in axes.texts)
