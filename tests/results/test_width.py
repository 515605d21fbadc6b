"""The summary of a width study agrees with its arrays, and is finite even after a divergence."""

import json
import math
import warnings

import numpy as np
import pytest
import torch

from gflow.results.base import Verdict
from gflow.results.width import WidthResult
from gflow.studies.width import width_study
from gflow.text import plain
from tests.helpers import randn
from tests.results.support import as_read_back, check_labels


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
    return study, WidthResult.from_study(study)


def test_arrays_are_labelled_and_those_of_the_study(made):
    study, result = made
    ds = result.dataset
    check_labels(ds)
    assert ds["time"].values.tolist() == [k * study.step_size for k in study.epochs]
    for name, values in study.measured.items():
        np.testing.assert_array_equal(ds[name].values, values.numpy())
        assert ds[name].dims[0] == "width"
    for name, law in study.slopes.items():
        fit = ds.sel(fit=name)
        assert float(fit["fit_slope"]) == law.slope
        assert (float(fit["fit_low"]), float(fit["fit_high"])) == law.interval


def test_summary_agrees_with_the_arrays(made):
    study, result = made
    ds, summary = result.dataset, result.summary
    for i, row in enumerate(summary["widths"]):
        at_width = ds.isel(width=i)
        distance = at_width["descent_distance"].values
        at = distance.argmax(axis=1)
        norm = float(ds["kernel_norm"])
        assert row["width"] == study.widths[i]
        assert row["peak_distance"] == np.median(distance.max(axis=1))
        assert row["peak_epoch"] == np.median(ds["epoch"].values[at])
        assert row["final_distance"] == np.median(distance[:, -1])
        assert row["rises_then_falls"] == bool(((at > 0) & (at < len(study.epochs) - 1)).all())
        assert row["kernel_error"] == np.median(at_width["kernel_error"].values) / norm
        assert row["kernel_drift"] == np.median(at_width["kernel_drift"].values.max(axis=1)) / norm
        assert row["test_error"] == np.median(at_width["test_error"].values[:, -1])
        assert row["solver_error"] == at_width["solver_error"].values.max()
        assert row["network_stability_limit"] == 2 / at_width["sharpness"].values.max()
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


@pytest.mark.slow
def test_summary_of_networks_that_diverged_has_no_nan():
    study = width(epochs=10, step_size=20.0)
    assert None not in study.diverged_at[0]
    result = WidthResult.from_study(study)
    summary = result.summary
    row = summary["widths"][0]
    assert row["diverged_at"] == min(study.diverged_at[0])
    assert row["diverged"] == 3
    assert row["peak_distance"] is row["peak_epoch"] is None
    assert summary["stable"] is False
    assert summary["slopes"]["descent_peak"] is None
    assert all(math.isfinite(x) for x in numbers(summary))
    assert result.verdict(summary) is Verdict.DIVERGED
    assert result.table(summary).rows[0] == (
        "32",
        "-",
        "-",
        f"diverged from step {row['diverged_at']}",
    )


def test_an_error_that_was_not_measured_is_omitted():
    summary = WidthResult.from_study(width(epochs=1, estimate_error=False, test=None)).summary
    assert "solver_error" not in summary
    assert "solver_error" not in summary["widths"][0]
    assert "test_error" not in summary["widths"][0]
    assert "error" not in dict(WidthResult.table(summary).lines)


def test_table_has_a_row_for_each_width_and_the_slopes(made):
    study, result = made
    table = result.table(as_read_back(result.summary))
    assert table.headings == ("width", "peak distance", "at epoch", "final distance")
    assert [row[0] for row in table.rows] == ["32", "64"]
    law = study.slopes["descent_peak"]
    low, high = law.interval
    slope = f"descent peak ∝ width^{law.slope:.2f} (95 %: {low:.2f} to {high:.2f})"
    assert ("slope", slope) in table.lines
    assert result.verdict(result.summary) is Verdict.HOLDS
