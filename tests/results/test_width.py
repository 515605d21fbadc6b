"""The summary of a width study agrees with its arrays, and is finite whatever diverged."""

import json
import math
import warnings

import numpy as np
import pytest
import torch

from gflow.results.width import width_outcome
from gflow.studies.width import width_study
from gflow.text import plain
from tests.helpers import randn


def width(epochs=8, step_size=None, **options):
    x = torch.nn.functional.normalize(randn(9, 3), dim=1)
    y = torch.sign(randn(9, seed=3))
    options = {"points": 4, "rtol": 1e-3, "atol": 1e-6, "test": (x[5:], y[5:])} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return width_study(x[:5], y[:5], [32, 64], [0, 1, 2], epochs, step_size, **options)


@pytest.fixture(scope="module")
def made():
    study = width()
    return study, width_outcome(study)


def test_every_variable_is_labelled_and_the_studys(made):
    study, outcome = made
    ds = outcome.dataset
    for name, variable in ds.variables.items():
        assert variable.attrs["long_name"], name
        assert variable.attrs["units"], name
    assert ds["time"].values.tolist() == [k * study.step_size for k in study.epochs]
    for name, values in study.measured.items():
        np.testing.assert_array_equal(ds[name].values, values.numpy())
        assert ds[name].dims[0] == "width"
    for name, law in study.slopes.items():
        fit = ds.sel(fit=name)
        assert float(fit["fit_slope"]) == law.slope
        assert (float(fit["fit_low"]), float(fit["fit_high"])) == law.interval


def test_summary_agrees_with_the_arrays(made):
    study, outcome = made
    ds, summary = outcome.dataset, outcome.summary
    for i, row in enumerate(summary["widths"]):
        one = ds.isel(width=i)
        distance = one["descent_distance"].values
        at = distance.argmax(axis=1)
        norm = float(ds["kernel_norm"])
        assert row["width"] == study.widths[i]
        assert row["peak_distance"] == np.median(distance.max(axis=1))
        assert row["peak_epoch"] == np.median(ds["epoch"].values[at])
        assert row["final_distance"] == np.median(distance[:, -1])
        assert row["rises_then_falls"] == bool(((at > 0) & (at < len(study.epochs) - 1)).all())
        assert row["kernel_error"] == np.median(one["kernel_error"].values) / norm
        assert row["kernel_drift"] == np.median(one["kernel_drift"].values.max(axis=1)) / norm
        assert row["test_error"] == np.median(one["test_error"].values[:, -1])
        assert row["solver_error"] == one["solver_error"].values.max()
        assert row["network_stability_limit"] == 2 / one["sharpness"].values.max()
        assert (row["diverged_at"], row["diverged"]) == (None, 0)
    assert summary["solver_error"] == ds["solver_error"].values.max()
    assert summary["final_loss"] == np.median(ds["network_loss"].values[-1, :, -1])
    assert summary["cost"]["rhs_evals"] == sum(c.rhs_evals for row in study.stats for c in row)
    assert summary["certificate"]["holds"] is True
    assert summary["stable"] is True
    assert summary["slopes"]["descent_peak"]["slope"] == study.slopes["descent_peak"].slope
    json.dumps(plain(summary), allow_nan=False)


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [x for v in value for x in numbers(v)]
    return [value] if isinstance(value, float) else []


def test_summary_of_networks_that_diverged_has_no_nan():
    study = width(epochs=10, step_size=20.0)
    assert None not in study.diverged_at[0]
    summary = width_outcome(study).summary
    row = summary["widths"][0]
    assert row["diverged_at"] == min(study.diverged_at[0])
    assert row["diverged"] == 3
    assert row["peak_distance"] is row["peak_epoch"] is None
    assert summary["stable"] is False
    assert summary["slopes"]["descent_peak"] is None
    assert all(math.isfinite(x) for x in numbers(summary))


def test_error_that_was_not_measured_is_left_out():
    summary = width_outcome(width(epochs=1, estimate_error=False, test=None)).summary
    assert "solver_error" not in summary
    assert "solver_error" not in summary["widths"][0]
    assert "test_error" not in summary["widths"][0]
