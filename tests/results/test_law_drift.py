import numpy as np
import pytest
import torch
from torch import nn

import gflow
from gflow.results.base import Verdict
from gflow.results.law_drift import LawDriftResult
from tests.helpers import randn
from tests.results.support import as_read_back, check_labels


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)).double()
    X, Y = randn(8, 2, seed=1), randn(8, 2, seed=2)
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y, weight_decay=0.1)
    study = gflow.studies.law_drift(flow, flow.pack(), 0.4, [0.04, 0.02, 0.01], points=4)
    return study, LawDriftResult.from_study(study, {"samples": 8})


def test_arrays_are_those_of_the_study(made):
    study, result = made
    ds = result.dataset
    check_labels(ds)
    assert ds["law"].values.tolist() == ["balance_0_1"]
    np.testing.assert_array_equal(ds["law_drift"][0], study.flow_drift["balance_0_1"])
    for i, seen in enumerate(study.descent_drift):
        row = ds["descent_law_drift"].values[i, :, 0]
        np.testing.assert_array_equal(row[np.isfinite(row)], seen["balance_0_1"])
    np.testing.assert_array_equal(ds["largest_drift"][0], study.fits["balance_0_1"].gaps)


def test_table_has_formula_count_and_decay(made):
    study, result = made
    summary = as_read_back(result.summary)
    table = result.table(summary)
    assert table.headings == ("law", "entries", "rate", "drift, flow", "descent", "order")
    assert table.rows[0][:3] == ("balance_0_1", "9", "0.2")
    lines = dict(table.lines)
    assert lines["balance_0_1"] == study.formulas["balance_0_1"]
    laws = study.count.laws
    assert lines["count"].startswith(f"{laws} independent laws = 12 parameters − {12 - laws} ")
    assert lines["count"].endswith("all are found")
    assert result.verdict(summary) is Verdict.HOLDS
    summary.pop("independent_laws")
    assert dict(result.table(summary).lines)["count"].startswith("not counted")


def test_a_sweep_collects_the_numbers_of_a_single_law(made):
    numbers = LawDriftResult.numbers(as_read_back(made[1].summary))
    assert numbers["drift_order"] == made[0].fits["balance_0_1"].order
    assert numbers["independent_laws"] == made[0].count.laws
