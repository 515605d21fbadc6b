"""Descent against flow and proxy: arrays, summary and table agree with the studies."""

import numpy as np
import pytest

from gflow.flows import EndToEndFlow
from gflow.results.base import Verdict
from gflow.results.continuous_vs_discrete import ContinuousVsDiscreteResult
from gflow.studies.continuous_vs_discrete import continuous_vs_discrete
from tests.helpers import make_loss, randn
from tests.results.support import as_read_back, check_labels


@pytest.fixture(scope="module")
def made():
    flows = {f"depth {n}": EndToEndFlow(make_loss("regression", 2, 3), depth=n) for n in (2, 3)}
    studies = {
        name: continuous_vs_discrete(flow, 0.3 * randn(2, 3), 1.0, 0.1, points=4)
        for name, flow in flows.items()
    }
    facts = {name: {"depth": flow.depth} for name, flow in flows.items()}
    return studies, ContinuousVsDiscreteResult.from_study(studies, facts)


def test_arrays_have_a_row_for_each_network(made):
    studies, result = made
    ds = result.dataset
    check_labels(ds)
    assert ds["network"].values.tolist() == list(studies)
    for name, study in studies.items():
        np.testing.assert_array_equal(ds["gap_to_flow"].sel(network=name), study.gap)
        np.testing.assert_array_equal(ds["flow_losses"].sel(network=name), study.losses)


def test_summary_and_table_have_a_row_for_each_network(made):
    studies, result = made
    summary = as_read_back(result.summary)
    assert [row["depth"] for row in summary["networks"]] == [2, 3]
    table = result.table(summary)
    assert table.headings[:3] == ("network", "travelled", "gap to flow")
    for cells, (name, study) in zip(table.rows, studies.items(), strict=True):
        assert cells[0] == name
        assert cells[2] == f"{float(study.gap.max()):.4g}"
    first = studies["depth 2"]
    share = f"{float(first.proxy_gap.max() / first.gap.max()):.1%}"
    assert f"depth 2 {share}" in dict(table.lines)["proxy"]
    assert "400 evaluations" in dict(table.lines)["proxy"]
    assert result.verdict(summary) is Verdict.HOLDS


def test_share_of_a_zero_or_unknown_gap_is_omitted(made):
    summary = as_read_back(made[1].summary)
    for gap in (0.0, None):
        summary["networks"][0]["largest_gap"] = gap
        assert "depth 2 -," in dict(made[1].table(summary).lines)["proxy"]


def test_a_network_whose_descent_diverged_decides_the_verdict(made):
    summary = as_read_back(made[1].summary)
    summary["networks"][1]["diverged_at"] = 4
    assert made[1].verdict(summary) is Verdict.DIVERGED
    assert made[1].table(summary).rows[1][-1] == "diverged from step 4"
