"""A solve that stopped early: the partial path, and its verdict."""

import pytest

import gflow
from gflow.flows import EndToEndFlow
from gflow.results.base import Verdict
from gflow.results.stopped import StoppedResult
from tests.helpers import make_loss, randn
from tests.results.support import as_read_back, check_labels


@pytest.fixture(scope="module")
def error():
    flow = EndToEndFlow(make_loss("regression", 2, 3), depth=3)
    with pytest.raises(gflow.IntegrationError) as caught:
        gflow.integrate(flow, 0.3 * randn(2, 3), [0.0, 1.0], max_evals=20)
    return caught.value


def test_arrays_and_summary_end_where_the_solver_stopped(error):
    result = StoppedResult.from_error(error)
    check_labels(result.dataset)
    assert float(result.dataset["time"][-1]) == result.summary["t"] == error.t
    assert result.summary["stopped"] == error.reason
    assert result.summary["cost"]["rhs_evals"] == error.trajectory.stats.rhs_evals


def test_verdict_is_stopped_and_the_table_has_no_rows(error):
    result = StoppedResult.from_error(error)
    summary = as_read_back(result.summary)
    assert result.verdict(summary) is Verdict.STOPPED
    table = result.table(summary)
    assert table.headings == table.rows == ()
    assert "the budget of 20 evaluations ran out" in dict(table.lines)["stopped"]
    assert result.numbers(summary)["t"] == error.t
