"""A study at the edge of stability: arrays, summary and table agree with the study."""

import math

import numpy as np
import pytest

from gflow.results.base import Verdict
from gflow.results.edge_of_stability import EdgeOfStabilityResult
from gflow.studies.edge_of_stability import edge_of_stability
from tests.results.support import as_read_back, check_labels
from tests.valleys import STEP, valley


@pytest.fixture(scope="module")
def made():
    flow, y0 = valley((90.0, 70.0), (104.0, 90.0), y=1e-3)
    study = edge_of_stability(flow, y0, 4.0, [STEP, STEP / 2], smoothing=1.0, points=20)
    return study, EdgeOfStabilityResult.from_study(study, {"samples": 3})


@pytest.mark.slow
def test_arrays_are_those_of_the_study_and_end_with_nan(made):
    study, result = made
    ds = result.dataset
    check_labels(ds)
    np.testing.assert_array_equal(ds["flow_sharpness"], study.sharpness)
    for i, edge in enumerate(study.edges):
        losses = ds["step_loss"].values[i]
        assert losses[: len(edge.descent.losses)].tolist() == edge.descent.losses.tolist()
        assert np.isnan(losses[len(edge.descent.losses) :]).all()
    assert np.isnan(ds["central_loss"].values[1]).all()  # it does not cross 2/step_size
    assert float(ds["crossing"][0]) == study.edges[0].crossing


def test_summary_and_table_have_a_row_for_each_step_size(made):
    study, result = made
    summary = as_read_back(result.summary)
    assert summary["samples"] == 3
    assert summary["final_sharpness"] == float(study.sharpness[-1])
    table = result.table(summary)
    assert table.headings[:3] == ("step size", "2/η", "crossed at t")
    first, second = study.edges
    assert table.rows[0][2] == f"{first.crossing:.4g}"
    assert table.rows[0][5] == f"{first.central_error:.4g}"
    assert table.rows[1][2] == table.rows[1][5] == "-"
    assert math.isnan(second.central_error)
    assert ("sharpness", f"{summary['final_sharpness']:.4g} at the end of the flow") in table.lines
    assert result.verdict(summary) is Verdict.HOLDS


def test_sweep_collects_crossing_and_gaps_of_a_single_descent(made):
    summary = as_read_back(made[1].summary)
    summary["descent"] = summary["descent"][:1]
    numbers = EdgeOfStabilityResult.numbers(summary)
    assert numbers["crossing"] == made[0].edges[0].crossing
    assert numbers["descent_final_loss"] == summary["descent"][0]["final_loss"]
