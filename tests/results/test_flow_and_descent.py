"""A flow with descents: the summary agrees with the arrays; rows that end early end with NaN."""

import json
import math

import numpy as np
import pytest
import torch

from gflow.flows import EndToEndFlow, KernelFlow, ProductFlow
from gflow.results.base import Setup, Verdict
from gflow.results.flow_and_descent import FlowAndDescentResult
from gflow.results.summaries import certificate_summary
from gflow.studies.flow_and_descent import flow_and_descent
from gflow.text import plain
from tests.helpers import make_loss, randn
from tests.results.support import as_read_back, check_labels

H = torch.diag(torch.tensor([1.0, 0.25], dtype=torch.float64))
KERNEL = KernelFlow(H, torch.ones(2, dtype=torch.float64))
ZERO = torch.zeros(2, dtype=torch.float64)


def deep():
    flow = EndToEndFlow(make_loss("regression", 2, 3), depth=3)
    return Setup(flow, 0.3 * randn(2, 3), facts={"depth": 3})


def product():
    def measure(ts, ys):
        return {"trace": ("trace of W", ys.diagonal(dim1=-2, dim2=-1).sum(-1))}

    start = 0.1 * torch.eye(3, dtype=torch.float64)
    return Setup(ProductFlow(make_loss("distance", 3, 3)), start, measure=measure)


def kernel():
    return Setup(KERNEL, ZERO, measure_flow=lambda ts, ys: {"ones": ("ones", torch.ones(len(ys)))})


@pytest.fixture(scope="module", params=[deep, product, kernel])
def made(request):
    setup = request.param()
    both = flow_and_descent(setup.flow, setup.y0, 1.0, [0.2, 0.1, 0.05], points=4)
    return setup, both, FlowAndDescentResult.from_study(both, setup)


def test_every_variable_is_labelled(made):
    check_labels(made[2].dataset)


def test_flow_variables_are_its_observables(made):
    _, both, result = made
    path = both.trajectory
    assert result.dataset["time"].values.tolist() == path.ts.tolist()
    for name, values in path.observables().items():
        variable = result.dataset[name]
        assert variable.dims[0] == "time"
        np.testing.assert_array_equal(variable.values, values.numpy())


def test_descent_variables_are_the_descents_with_nan_after_the_last(made):
    setup, both, result = made
    ds = result.dataset
    assert ds["step_size"].values.tolist() == [0.2, 0.1, 0.05]
    for i, (descent, gap) in enumerate(zip(both.descents, both.gaps, strict=True)):
        count = len(descent.ts)
        assert ds["descent_time"].values[i, :count].tolist() == descent.ts.tolist()
        assert ds["descent_loss"].values[i, :count].tolist() == descent.losses.tolist()
        assert ds["gap"].values[i, : len(gap.ts)].tolist() == gap.end_to_end.tolist()
        for name in ("descent_time", "descent_loss", "gap", "gap_time"):
            assert np.isnan(ds[name].values[i, count:]).all()
    for name in setup.measure(both.trajectory.ts, both.trajectory.ys):
        assert name in ds
        assert f"descent_{name}" in ds
    for name in setup.measure_flow(both.trajectory.ts, both.trajectory.ys):
        assert name in ds
        assert f"descent_{name}" not in ds


def test_summary_agrees_with_the_arrays(made):
    setup, both, result = made
    ds, summary = result.dataset, result.summary
    assert summary["t_end"] == float(ds["time"][-1]) == 1.0
    assert summary["initial_loss"] == float(ds["loss"][0])
    assert summary["final_loss"] == float(ds["loss"][-1])
    assert summary["stability_limit"] == float(ds["stability_limit"])
    assert summary["solver_error"] == float(ds["solver_error"])
    for i, row in enumerate(summary["descent"]):
        losses = ds["descent_loss"].values[i]
        assert row["step_size"] == float(ds["step_size"][i])
        assert row["steps"] == round(1.0 / row["step_size"])
        assert row["final_loss"] == losses[np.isfinite(losses)][-1]
        assert row["largest_gap"] == np.nanmax(ds["gap"].values[i])
        assert row["stable"] == (row["step_size"] < summary["stability_limit"])
        assert row["diverged_at"] is None
    for key, value in setup.facts.items():
        assert summary[key] == value
    if both.parameters is None:
        assert "reduction_error" not in summary
    else:
        assert summary["reduction_error"] == both.reduction_error
        assert summary["parameter_certificate"] == certificate_summary(both.parameters)
    json.dumps(plain(summary), allow_nan=False)


def test_drift_of_parameters_starts_at_zero_and_stays_below_its_bound(made):
    _, both, result = made
    drifts = [n for n in result.dataset if n.startswith("drift_") and n != "drift_bound"]
    if both.parameters is not None and both.parameters.certificate.invariant_drift:
        assert drifts
    for name in drifts:
        values = result.dataset[name].values
        assert values[0] == 0
        assert values.max() <= float(result.dataset["drift_bound"])


def test_diverged_descent_ends_early_in_the_arrays_and_is_in_the_summary():
    both = flow_and_descent(KERNEL, ZERO, 3000.0, [30.0, 1.0], points=100)
    result = FlowAndDescentResult.from_study(both, Setup(KERNEL, ZERO))
    first, second = result.summary["descent"]
    assert first["diverged_at"] == 0
    assert first["stable"] is False
    assert second["diverged_at"] is None
    loss = result.dataset["descent_loss"].values
    assert np.isnan(loss[0, -1])
    assert np.isfinite(loss[1]).all()
    table = result.table(result.summary)
    assert table.rows[0][-1] == "diverged from step 0"
    assert dict(table.lines)["stability"].endswith("; beyond it: 30")
    assert result.verdict(result.summary) is Verdict.DIVERGED


def test_solver_error_is_nan_where_it_was_not_measured():
    setup = deep()
    both = flow_and_descent(setup.flow, setup.y0, 1.0, [0.1], points=4, estimate_error=False)
    result = FlowAndDescentResult.from_study(both, setup)
    assert math.isnan(result.summary["solver_error"])
    assert plain(result.summary)["solver_error"] is None


def test_table_has_a_row_for_each_descent(made):
    _, both, result = made
    table = result.table(as_read_back(result.summary))
    assert table.headings == ("step size", "steps", "at t", "final loss", "largest gap")
    expected = [("0.2", "5", "1"), ("0.1", "10", "1"), ("0.05", "20", "1")]
    assert [row[:3] for row in table.rows] == expected
    assert table.rows[0][4] == f"{both.gaps[0].largest:.4g}"
    labels = [label for label, _ in table.lines]
    reduction = ["reduction error"] if both.parameters is not None else []
    assert labels[:2] == ["loss", "solver error"]
    assert labels[2 : 2 + len(reduction)] == reduction
    assert labels[-3:] == ["certificate", "cost", "method"]
    assert [name for name in ("trace", "ones") if name in labels] == [
        name for name in ("trace", "ones") if name in result.dataset
    ]
    assert result.verdict(result.summary) is Verdict.HOLDS


def test_end_of_descent_is_where_its_whole_steps_end():
    setup = deep()
    both = flow_and_descent(setup.flow, setup.y0, 1.0, [0.3], points=4)
    result = FlowAndDescentResult.from_study(both, setup)
    (row,) = result.summary["descent"]
    assert row["t_end"] == row["steps"] * 0.3
    assert result.table(result.summary).rows[0][1:3] == ("3", "0.9")


def test_table_of_a_run_without_end_times_has_no_such_column(made):
    summary = as_read_back(made[2].summary)
    for row in summary["descent"]:
        del row["t_end"]
    table = made[2].table(summary)
    assert table.headings == ("step size", "steps", "final loss", "largest gap")
    assert len(table.rows) == 3


def test_certificate_of_the_parameter_flow_is_included():
    setup = deep()
    both = flow_and_descent(setup.flow, setup.y0, 1.0, [0.1], points=4)
    result = FlowAndDescentResult.from_study(both, setup)
    failed = {"holds": False, "failures": ["balancedness 0.1 > 1e-6"]}
    summary = result.summary | {"parameter_certificate": failed}
    assert result.verdict(summary) is Verdict.UNCERTIFIED
    assert dict(result.table(summary).lines)["certificate"] == (
        "DOES NOT HOLD: balancedness 0.1 > 1e-6"
    )


def test_sweep_collects_the_numbers_of_a_single_descent():
    both = flow_and_descent(KERNEL, ZERO, 1.0, [0.1], points=4)
    result = FlowAndDescentResult.from_study(both, Setup(KERNEL, ZERO))
    numbers = result.numbers(as_read_back(result.summary))
    assert numbers["final_loss"] == result.summary["final_loss"]
    assert numbers["descent_final_loss"] == result.summary["descent"][0]["final_loss"]
    assert numbers["largest_gap"] == both.gaps[0].largest
    assert result.attributes("descent_final_loss")["long_name"] == "loss at the end of descent"
