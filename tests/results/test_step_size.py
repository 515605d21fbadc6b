"""A step-size study: its arrays, summary and table agree with the study."""

import json

import numpy as np
import torch

import gflow
from gflow.flows import KernelFlow
from gflow.results.base import Verdict
from gflow.results.step_size import StepSizeResult
from gflow.text import plain
from tests.helpers import modified_study
from tests.results.support import as_read_back, check_labels

H = torch.diag(torch.tensor([1.0, 0.25], dtype=torch.float64))
KERNEL = KernelFlow(H, torch.ones(2, dtype=torch.float64))
ZERO = torch.zeros(2, dtype=torch.float64)


def test_result_agrees_with_the_study():
    study = gflow.step_size_study(KERNEL, ZERO, 40.0, [4.0, 0.2, 0.1, 0.05, 0.025])
    result = StepSizeResult.from_study(study)
    ds, summary = result.dataset, result.summary
    check_labels(ds)
    assert summary["order"] == study.order == float(ds["order"])
    assert summary["order_interval"] == [float(ds["order_low"]), float(ds["order_high"])]
    assert [r["step_size"] for r in summary["step_sizes"]] == ds["step_size"].values.tolist()
    assert [r["largest_gap"] for r in summary["step_sizes"]] == ds["largest_gap"].values.tolist()
    assert ds["stable"].values.tolist() == [False, True, True, True, True]
    assert not ds["fitted"].values[0]
    assert summary["step_sizes"][0]["stable"] is False
    for i in range(1, 5):
        assert np.nanmax(ds["gap"].values[i]) == study.gaps[i]
    json.dumps(plain(summary), allow_nan=False)


def test_result_with_the_modified_flow():
    study = modified_study()
    result = StepSizeResult.from_study(study)
    ds, summary = result.dataset, result.summary
    check_labels(ds)
    assert summary["modified_order"] == study.modified_order == float(ds["modified_order"])
    low, high = float(ds["modified_order_low"]), float(ds["modified_order_high"])
    assert summary["modified_order_interval"] == [low, high]
    assert np.isnan(ds["modified_gap"].values[0])
    assert ds["modified_gap"].values[1:].tolist() == list(study.modified_gaps[1:])
    assert [r["modified_gap"] for r in summary["step_sizes"]][1:] == list(study.modified_gaps[1:])
    assert ds["modified_fitted"].values.tolist() == list(study.modified_fitted)
    assert summary["modified_solver_error"] == study.modified_solver_error
    json.dumps(plain(summary), allow_nan=False)


def test_result_without_a_fit_gives_the_reason():
    result = StepSizeResult.from_study(gflow.step_size_study(KERNEL, ZERO, 2.0, [0.2, 0.1]))
    assert result.summary["order"] is result.summary["order_interval"] is None
    assert "needs 3" in result.summary["refusal"]
    assert np.isnan(float(result.dataset["order"]))
    order = dict(result.table(result.summary).lines)["order"]
    assert order == f"not fitted: {result.summary['refusal']}"


def test_table_has_the_fitted_order_and_marks_unstable_step_sizes():
    study = gflow.step_size_study(KERNEL, ZERO, 40.0, [4.0, 0.2, 0.1, 0.05, 0.025])
    result = StepSizeResult.from_study(study)
    table = result.table(as_read_back(result.summary))
    assert table.headings == ("step size", "largest gap", "stable", "in the fit")
    assert table.rows[0][0] == "4 (unstable)"
    assert table.rows[1][:1] + table.rows[1][2:3] == ("0.2", "yes")
    low, high = study.order_interval
    assert dict(table.lines)["order"] == f"{study.order:.3f} (95 %: {low:.3f} to {high:.3f})"
    assert result.verdict(result.summary) is Verdict.HOLDS


def test_table_with_the_modified_flow_has_its_gap_and_order():
    result = StepSizeResult.from_study(modified_study())
    table = result.table(as_read_back(result.summary))
    assert table.headings[-1] == "gap to modified flow"
    assert table.rows[0][-1] == "-"  # NaN beyond the stability limit
    assert dict(table.lines)["modified"].startswith(f"order {modified_study().modified_order:.3f}")


def test_sweep_collects_the_order():
    study = gflow.step_size_study(KERNEL, ZERO, 4.0, [0.2, 0.1, 0.05])
    result = StepSizeResult.from_study(study)
    numbers = result.numbers(as_read_back(result.summary))
    assert numbers["order"] == study.order
    assert "largest_gap" not in numbers  # of several rows
    assert result.attributes("order")["long_name"] == "fitted order of the gap"
