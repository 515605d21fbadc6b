"""A study of implicit regularization: arrays, summary and table agree with the study."""

import numpy as np
import pytest

from gflow.flows import EndToEndFlow
from gflow.results.base import Setup, Verdict
from gflow.results.implicit_regularization import ImplicitRegularizationResult
from gflow.studies.implicit_regularization import implicit_regularization
from tests.helpers import make_loss, randn
from tests.results.support import as_read_back, check_labels


@pytest.fixture(scope="module")
def made():
    flow = EndToEndFlow(make_loss("regression", 2, 3), depth=2)
    setup = Setup(flow, 0.3 * randn(2, 3), facts={"depth": 2})
    study = implicit_regularization(flow, setup.y0, 1.0, [0.1, 0.05, 0.025], points=5)
    return study, ImplicitRegularizationResult.from_study(study, setup)


def test_arrays_are_those_of_the_study(made):
    study, result = made
    ds = result.dataset
    check_labels(ds)
    np.testing.assert_array_equal(ds["squared_gradient"], study.slopes)
    assert ds["largest_gap"].values.tolist() == list(study.study.gaps)
    for i, ratios in enumerate(study.descent_ratios):
        np.testing.assert_array_equal(ds["descent_ratio"].values[i, : len(ratios)], ratios)


def test_summary_and_table_have_orders_and_ratios(made):
    study, result = made
    summary = as_read_back(result.summary)
    assert summary["depth"] == 2
    assert summary["final_loss"] == float(study.study.trajectory.losses[-1])
    table = result.table(summary)
    assert table.headings[-3:] == ("gap to modified flow", "‖∇L‖² ratio", "expected")
    for row, cells in zip(result.summary["step_sizes"], table.rows, strict=True):
        assert cells[-2:] == (f"{row['median_ratio']:.4g}", f"{row['modified_median_ratio']:.4g}")
    lines = dict(table.lines)
    assert lines["order"].startswith(f"{study.study.order:.3f} ")
    assert lines["modified"].startswith(f"order {study.study.modified_order:.3f} ")
    assert "‖∇L‖²" in lines["ratio"]
    assert result.verdict(summary) is Verdict.HOLDS


def test_sweep_collects_the_order(made):
    study, result = made
    assert result.numbers(as_read_back(result.summary))["order"] == study.study.order
    assert result.attributes("order")["long_name"] == "fitted order of the gap"
