"""Every figure is drawn from the variables it needs, with labels, in the palette."""

import io
import warnings

import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.colors import to_hex

import gflow
from gflow import plots
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.results.base import Setup, path_dataset
from gflow.results.paths import flow_and_descent_outcome
from gflow.results.step_size import step_size_outcome
from gflow.scenario import validate
from gflow.studies.flow_and_descent import flow_and_descent
from tests.helpers import make_loss, modified_study, randn

OTHERS = {"#000000", "#808080"}
WIDE = {
    "setting": "wide-network",
    "samples": 4,
    "inputs": 3,
    "widths": [8, 16],
    "seeds": 2,
    "epochs": 6,
    "test_samples": 3,
    "points": 4,
    "method": "dopri5",
    "rtol": 1e-3,
}
EDGE = {"setting": "edge-of-stability", "samples": 8, "inputs": 3, "width": 4, "depth": 1}
MADE = {
    "continuous-vs-discrete": {
        "setting": "continuous-vs-discrete",
        "data": "digits",
        "samples": 8,
        "width": 4,
        "activation": "relu",
        "step_sizes": [0.25],
    },
    "one network": {
        "setting": "continuous-vs-discrete",
        "samples": 8,
        "inputs": 3,
        "model": "linear",
        "step_sizes": [0.25],
    },
    "implicit-regularization": {
        "setting": "implicit-regularization",
        "samples": 8,
        "inputs": 3,
        "width": 4,
        "step_sizes": [0.2, 0.1],
    },
    "deep-linear": {"setting": "deep-linear", "samples": 20, "inputs": 3, "outputs": "all"},
    "edge-of-stability": EDGE | {"step_sizes": [1.1, 1.0], "t_end": 20.0},
    "no edge": EDGE | {"step_sizes": [0.02]},
    "factorization": {"setting": "factorization", "size": 4, "rank": 2, "init_scale": 0.1},
    "kernel": {"setting": "kernel", "samples": 8, "inputs": 3, "test_samples": 3},
    "network": {"setting": "network", "samples": 8, "inputs": 3, "width": 4, "depth": 1},
    "network of digits": {"setting": "network", "data": "digits", "samples": 8, "width": 4},
    "wide-network": WIDE,
    "diverged": WIDE | {"step_sizes": [20.0], "epochs": 10},
}
NAMES = {
    "continuous-vs-discrete": {"continuous_vs_discrete"},
    "one network": {"continuous_vs_discrete"},
    "implicit-regularization": {"step_size", "implicit_regularization"},
    "deep-linear": {"loss", "singular_values", "gap", "invariants"},
    "edge-of-stability": {"edge_of_stability", "leaving"},
    "no edge": {"edge_of_stability", "leaving"},
    "factorization": {"loss", "eigenvalues", "gap", "invariants", "completion"},
    "kernel": {"loss", "gap", "residual", "learning"},
    "network": {"loss", "gap", "sharpness", "network"},
    "network of digits": {"loss", "gap", "sharpness", "network"},
    "wide-network": {"distance", "peak", "kernel_drift", "test", "training"},
    "diverged": {"distance", "peak", "kernel_drift", "test", "training"},
    "study": {"gap", "step_size"},
    "study without a fit": {"gap", "step_size"},
    "study, modified": {"gap", "step_size"},
}


def dataset(name: str) -> xr.Dataset:
    if name == "study, modified":
        return step_size_outcome(modified_study()).dataset
    if name.startswith("study"):
        H = torch.diag(torch.tensor([1.0, 0.25], dtype=torch.float64))
        flow = KernelFlow(H, torch.ones(2, dtype=torch.float64))
        sizes = [4.0, 0.2, 0.1, 0.05, 0.025] if name == "study" else [0.2, 0.1]
        study = gflow.step_size_study(flow, torch.zeros(2, dtype=torch.float64), 8.0, sizes)
        return step_size_outcome(study).dataset
    keys = {"data": "synthetic", "points": 4} | MADE[name]
    if keys["setting"] != "wide-network":
        keys.setdefault("t_end", 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of descent beyond its stability limit
        return validate(keys, name).run(lambda stage, t_end: None).dataset


@pytest.fixture(scope="module")
def drawn():
    return {name: plots.figures(dataset(name), f"{name} $title$ $\\x$") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_each_result(name, drawn):
    assert set(drawn[name]) == NAMES[name]


def test_every_figure_is_drawn_by_some_result(drawn):
    assert {item.name for item in plots.style.FIGURES} == {
        n for found in drawn.values() for n in found
    }


@pytest.mark.parametrize("name", NAMES)
def test_axes_are_labelled_and_hold_something(name, drawn):
    for figure in drawn[name].values():
        assert figure.get_suptitle() == f"{name} $title$ $\\x$"
        for axes in figure.axes:
            assert axes.get_xlabel()
            assert axes.get_ylabel()
            assert any(np.isfinite(line.get_ydata()).any() for line in axes.lines)


@pytest.mark.parametrize("name", NAMES)
def test_colours_are_those_of_the_palette(name, drawn):
    for what, figure in drawn[name].items():
        for i, axes in enumerate(figure.axes):
            if (what, i) == ("residual", 1):
                continue  # modes are ordered: a ramp
            found = {to_hex(line.get_color()).upper() for line in axes.lines}
            assert found <= {c.upper() for c in (*plots.style.COLOURS, *OTHERS)}, what


@pytest.mark.parametrize("name", NAMES)
def test_figures_can_be_saved(name, drawn):
    for figure in drawn[name].values():
        figure.savefig(io.BytesIO(), format="png", dpi=20)


def test_lines_show_the_numbers():
    ds = dataset("kernel")
    axes = plots.figures(ds)["loss"].axes[0]
    flow = next(line for line in axes.lines if line.get_label() == "gradient flow")
    np.testing.assert_array_equal(flow.get_xdata(), ds["time"].values)
    np.testing.assert_array_equal(flow.get_ydata(), ds["loss"].values)


def test_every_step_size_is_drawn_even_with_more_than_there_are_colours():
    flow = KernelFlow(torch.eye(2).double(), torch.ones(2).double())
    sizes = [0.1 + 0.05 * i for i in range(8)]
    both = flow_and_descent(flow, torch.zeros(2).double(), 1.0, sizes, points=3)
    ds = flow_and_descent_outcome(both, Setup(flow, torch.zeros(2).double())).dataset
    figures = plots.figures(ds)
    assert len(figures["loss"].axes[0].lines) == 8 + 1


def test_unstable_sizes_are_marked(drawn):
    axes = drawn["study"]["step_size"].axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert any(label.startswith("order 1.0") for label in labels)
    assert any("lambda" in label and "beyond" in label for label in labels)
    marked = next(line for line in axes.lines if "beyond" in str(line.get_label()))
    assert marked.get_xdata().tolist() == [4.0]
    none = drawn["study without a fit"]["step_size"].axes[0].get_legend_handles_labels()[1]
    assert not any(label.startswith("order") for label in none)


def test_both_orders_are_drawn(drawn):
    axes = drawn["study, modified"]["step_size"].axes[0]
    labels = axes.get_legend_handles_labels()[1]
    orders = [float(label.split()[1]) for label in labels if label.startswith("order")]
    assert orders == pytest.approx([1, 2], abs=0.1)
    squares = [line for line in axes.lines if line.get_marker() == "s" and len(line.get_xdata())]
    assert sorted(x for line in squares for x in line.get_xdata()) == [0.01, 0.02, 0.04, 2.0]


def test_path_alone_and_path_of_one_point():
    flow = EndToEndFlow(make_loss("regression", 2, 3), depth=3)
    path = gflow.integrate(flow, 0.3 * randn(2, 3), [0.0, 1.0])
    assert set(plots.figures(path_dataset(path))) == {"singular_values"}
    layers = gflow.integrate(flow.parameter_flow, flow.lift(0.3 * randn(2, 3)), [0.0, 1.0])
    ds = path_dataset(layers)
    for part in (ds, ds.isel(time=[0])):
        for figure in plots.figures(part).values():
            figure.savefig(io.BytesIO(), format="png", dpi=20)
    assert plots.figures(xr.Dataset()) == {}


def test_drawing_leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    plots.figures(dataset("kernel"))
    assert dict(mpl.rcParams) == before
