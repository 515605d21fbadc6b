"""Small results of every kind, and their figures."""

import functools
import warnings

import torch
import xarray as xr
from matplotlib.figure import Figure

import gflow
from gflow import plots
from gflow.flows import KernelFlow
from gflow.results.completion_trend import CompletionTrendResult
from gflow.results.law_drift import LawDriftResult
from gflow.results.step_size import StepSizeResult
from gflow.scenario import validate
from tests.helpers import modified_study

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
COMPLETION = {"setting": "matrix-completion", "size": 4, "rank": 1, "samples": 12}
COMPLETION |= {"depths": [2, 3], "init_scales": [1e-2], "seeds": 2, "loss_end": 1e-4}
MODES = {
    "setting": "incremental-learning",
    "size": 3,
    "samples": 40,
    "modes": [3.0, 1.0],
    "init_scales": [0.3, 0.1, 0.03],
    "points": 8,
}
GROKKING = {
    "setting": "grokking",
    "data": "modular:3",
    "model": "mlp",
    "depth": 1,
    "width": 6,
    "activation": "square",
    "criterion": "cross-entropy",
    "train_fraction": 0.7,
    "step_sizes": [0.5],
    "points": 20,
    "time": "log",
    "rtol": 1e-4,
}
EDGE = {"setting": "edge-of-stability", "samples": 8, "inputs": 3, "width": 4, "depth": 1}
SCENARIOS = {
    "continuous-vs-discrete": {
        "setting": "continuous-vs-discrete",
        "data": "digits",
        "samples": 8,
        "width": 4,
        "activation": "relu",
        "step_sizes": [0.25],
        "test_samples": 5,
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
    "incremental-learning": MODES | {"depth": 2},
    "incremental-learning, depth 1": MODES | {"depth": 1},
    "incremental-learning, depth 3": MODES | {"depth": 3},
    "grokking": GROKKING | {"t_end": 60.0},
    "grokking, short": GROKKING | {"t_end": 1.0},
    "in-context": {
        "setting": "in-context",
        "inputs": 2,
        "samples": 6,
        "t_end": 300.0,
        "points": 20,
    },
    "kernel-to-rich": {"setting": "kernel-to-rich", "samples": 2, "inputs": 5}
    | {"init_scales": [3.0, 0.3], "loss_end": 1e-6},
    "lazy-to-rich": {"setting": "lazy-to-rich", "size": 2, "modes": [2.0], "points": 8}
    | {"balances": [-2.0, 0.0, 2.0]},
    "matrix-completion": COMPLETION,
    "matrix-completion, one start": COMPLETION | {"seeds": 1, "convex": False, "depths": [2]},
    "max-margin": {"setting": "max-margin", "samples": 6, "inputs": 2, "points": 20}
    | {"log10_loss_end": -20.0},
    "max-margin, short": {"setting": "max-margin", "samples": 6, "inputs": 2, "points": 20}
    | {"log10_loss_end": -0.5},
    "max-margin, tiny": {"setting": "max-margin", "samples": 6, "inputs": 2, "points": 9}
    | {"t_end": 0.01},
    "saddle-to-saddle": {"setting": "saddle-to-saddle", "seed": 1, "points": 40}
    | {"powers": [20.0], "jumps": 4},
    "two-by-two": {"setting": "two-by-two", "depths": [3], "loss_end": 1e-2, "points": 12}
    | {"rtol": 1e-6, "atol": 0.0},
    "network": {"setting": "network", "samples": 8, "inputs": 3, "width": 4, "depth": 1},
    "network of digits": {"setting": "network", "data": "digits", "samples": 8, "width": 4}
    | {"step_sizes": [0.1], "t_end": 0.5, "rtol": 1e-4},
    "measured network": {
        "setting": "network",
        "data": "iris",
        "samples": 8,
        "test_samples": 12,
        "width": 4,
        "depth": 1,
        "weight_decay": 0.01,
        "step_sizes": [0.1],
        "t_end": 0.5,
        "rtol": 1e-4,
        "measure": [
            "kernel_distance",
            "kernel_start_alignment",
            "hessian_eigenvalues:2",
            "spectral_density:2",
        ],
    },
    "held-out numbers": {
        "setting": "network",
        "samples": 8,
        "inputs": 3,
        "width": 4,
        "depth": 1,
        "step_sizes": [0.1],
        "t_end": 0.5,
        "test_samples": 5,
    },
    "wide-network": WIDE,
    "diverged": WIDE | {"step_sizes": [20.0], "epochs": 10},
}


#: Settings whose paths have an end of their own.
NO_END = {
    "incremental-learning",
    "in-context",
    "kernel-to-rich",
    "lazy-to-rich",
    "matrix-completion",
    "max-margin",
    "saddle-to-saddle",
    "two-by-two",
    "wide-network",
}

#: Every result with the names of its figures.
FIGURES = {
    "continuous-vs-discrete": {"continuous_vs_discrete", "held_out_networks"},
    "one network": {"continuous_vs_discrete"},
    "implicit-regularization": {"step_size", "implicit_regularization"},
    "deep-linear": {"loss", "singular_values", "gap", "invariants"},
    "edge-of-stability": {"edge_of_stability", "leaving", "oscillation", "oscillation_variance"},
    "no edge": {"edge_of_stability", "leaving", "oscillation", "oscillation_variance"},
    "factorization": {"loss", "eigenvalues", "gap", "invariants", "completion"},
    "kernel": {"loss", "gap", "residual", "learning"},
    "incremental-learning": {"incremental_learning"},
    "incremental-learning, depth 1": {"incremental_learning"},
    "incremental-learning, depth 3": {"incremental_learning"},
    "grokking": {"loss", "gap", "network", "invariants", "held_out", "grokking"},
    "grokking, short": {"loss", "gap", "network", "invariants", "held_out", "grokking"},
    "in-context": {"context_plateaus", "invariants"},
    "kernel-to-rich": {"kernel_to_rich"},
    "lazy-to-rich": {"lazy_to_rich"},
    "matrix-completion": {"completion_study"},
    "matrix-completion, one start": {"completion_study"},
    "max-margin": {"max_margin"},
    "max-margin, short": {"max_margin"},
    "max-margin, tiny": {"max_margin"},
    "saddle-to-saddle": {"saddle_to_saddle"},
    "two-by-two": {"two_by_two"},
    "network": {"loss", "gap", "sharpness", "network"},
    "network of digits": {"loss", "gap", "sharpness", "network"},
    "measured network": {
        "loss",
        "gap",
        "sharpness",
        "network",
        "held_out",
        "tangent_kernel",
        "hessian_eigenvalues",
        "hessian_spectrum",
    },
    "held-out numbers": {"loss", "gap", "sharpness", "network", "held_out"},
    "wide-network": {"distance", "peak", "kernel_drift", "test", "training"},
    "diverged": {"distance", "peak", "kernel_drift", "test", "training"},
    "laws": {"law_drift"},
    "trend of samples": {"completion_trend"},
    "trend of depth": {"completion_trend"},
    "study": {"gap", "step_size"},
    "study without a fit": {"gap", "step_size"},
    "study, modified": {"gap", "step_size"},
}


@functools.cache
def dataset(name: str) -> xr.Dataset:
    """Return the dataset of a result in `SCENARIOS`, or of a step-size study."""
    if name == "laws":
        flow, y0 = gflow.LayerwiseFlow.example()
        drift = gflow.studies.law_drift(flow, y0, 1.0, [0.08, 0.04, 0.02])
        return LawDriftResult.from_study(drift).dataset
    if name.startswith("trend"):
        matrix = torch.outer(torch.arange(1.0, 4.0), torch.ones(3)).double()
        end = {"loss_end": 1e-3, "init_scale": 0.1}
        if name == "trend of samples":
            study = gflow.studies.samples_study(matrix, [5, 8], 2, depth=2, convex=True, **end)
        else:
            study = gflow.studies.depth_study(
                matrix, torch.ones(3, 3) - torch.eye(3), [1, 2], 2, **end
            )
        return CompletionTrendResult.from_study(study).dataset
    if name == "study, modified":
        return StepSizeResult.from_study(modified_study()).dataset
    if name.startswith("study"):
        H = torch.diag(torch.tensor([1.0, 0.25], dtype=torch.float64))
        flow = KernelFlow(H, torch.ones(2, dtype=torch.float64))
        sizes = [4.0, 0.2, 0.1, 0.05, 0.025] if name == "study" else [0.2, 0.1]
        study = gflow.step_size_study(flow, torch.zeros(2, dtype=torch.float64), 8.0, sizes)
        return StepSizeResult.from_study(study).dataset
    keys = {"data": "synthetic", "points": 4} | SCENARIOS[name]
    if keys["setting"] not in NO_END:
        keys.setdefault("t_end", 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of descent beyond its stability limit
        return validate(keys, name).run(lambda stage, t_end: None).dataset


@functools.cache
def drawn(name: str) -> dict[str, Figure]:
    """Return the figures of a result."""
    return plots.figures(dataset(name), title(name))


def title(name: str) -> str:
    """Return a title that looks like mathematics."""
    return f"{name} $title$ $\\x$"


def labels(figure: Figure, panel: int = 0) -> list[str]:
    """Return the labels in the legend of a panel."""
    return figure.axes[panel].get_legend_handles_labels()[1]
