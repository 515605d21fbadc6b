"""Summaries agree with the arrays they are made from; rows that end early are NaN."""

import json
import math

import numpy as np
import pytest
import torch
import xarray as xr

import gflow
from gflow.flows import EndToEndFlow, KernelFlow, ProductFlow
from gflow.results.base import Setup, certificate_summary, cost_summary, path_dataset
from gflow.results.paths import flow_and_descent_outcome
from gflow.results.step_size import step_size_outcome
from gflow.studies.flow_and_descent import flow_and_descent
from gflow.text import plain
from tests.helpers import make_loss, modified_study, randn

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
    return setup, both, flow_and_descent_outcome(both, setup)


def labelled(ds: xr.Dataset):
    for name, variable in ds.variables.items():
        assert variable.attrs["long_name"], name
        assert variable.attrs["units"], name


def test_every_variable_is_labelled(made):
    labelled(made[2].dataset)


def test_flow_variables_are_its_observables(made):
    _, both, outcome = made
    path = both.trajectory
    assert outcome.dataset["time"].values.tolist() == path.ts.tolist()
    for name, values in path.observables().items():
        found = outcome.dataset[name]
        assert found.dims[0] == "time"
        np.testing.assert_array_equal(found.values, values.numpy())


def test_descent_variables_are_the_descents_with_nan_after_the_last(made):
    setup, both, outcome = made
    ds = outcome.dataset
    assert ds["step_size"].values.tolist() == [0.2, 0.1, 0.05]
    for i, (descent, gap) in enumerate(zip(both.descents, both.gaps, strict=True)):
        there = len(descent.ts)
        assert ds["descent_time"].values[i, :there].tolist() == descent.ts.tolist()
        assert ds["descent_loss"].values[i, :there].tolist() == descent.losses.tolist()
        assert ds["gap"].values[i, : len(gap.ts)].tolist() == gap.end_to_end.tolist()
        for name in ("descent_time", "descent_loss", "gap", "gap_time"):
            assert np.isnan(ds[name].values[i, there:]).all()
    for name in setup.measure(both.trajectory.ts, both.trajectory.ys):
        assert name in ds
        assert f"descent_{name}" in ds
    for name in setup.measure_flow(both.trajectory.ts, both.trajectory.ys):
        assert name in ds
        assert f"descent_{name}" not in ds


def test_summary_agrees_with_the_arrays(made):
    setup, both, outcome = made
    ds, summary = outcome.dataset, outcome.summary
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


def test_drift_of_parameters_starts_at_zero_and_keeps_its_bound(made):
    _, both, outcome = made
    drifts = [n for n in outcome.dataset if n.startswith("drift_") and n != "drift_bound"]
    if both.parameters is not None and both.parameters.certificate.invariant_drift:
        assert drifts
    for name in drifts:
        values = outcome.dataset[name].values
        assert values[0] == 0
        assert values.max() <= float(outcome.dataset["drift_bound"])


def test_descent_that_diverged_ends_early_in_arrays_and_is_told():
    both = flow_and_descent(KERNEL, ZERO, 3000.0, [30.0, 1.0], points=100)
    outcome = flow_and_descent_outcome(both, Setup(KERNEL, ZERO))
    first, second = outcome.summary["descent"]
    assert first["diverged_at"] == 0
    assert first["stable"] is False
    assert second["diverged_at"] is None
    loss = outcome.dataset["descent_loss"].values
    assert np.isnan(loss[0, -1])
    assert np.isfinite(loss[1]).all()


def test_solver_error_is_nan_where_it_was_not_measured():
    setup = deep()
    both = flow_and_descent(setup.flow, setup.y0, 1.0, [0.1], points=4, estimate_error=False)
    outcome = flow_and_descent_outcome(both, setup)
    assert math.isnan(outcome.summary["solver_error"])
    assert plain(outcome.summary)["solver_error"] is None


def test_path_dataset_of_a_path_that_stopped_at_once():
    path = None
    try:
        gflow.integrate(deep().flow, deep().y0, [0.0, 1.0], max_evals=2)
    except gflow.IntegrationError as error:
        path = error.trajectory
    ds = path_dataset(path)
    assert len(ds["time"]) == len(path.ts) >= 1
    labelled(ds)


def test_certificate_and_cost_are_plain():
    path = gflow.integrate(KERNEL, ZERO, [0.0, 1.0])
    certificate, cost = certificate_summary(path), cost_summary(path)
    assert json.loads(json.dumps(certificate)) == certificate
    assert json.loads(json.dumps(cost)) == cost
    assert certificate["holds"] is path.certificate.holds is True
    assert certificate["failures"] == []
    assert cost["rhs_evals"] == path.stats.rhs_evals


def test_step_size_outcome_agrees_with_the_study():
    study = gflow.step_size_study(KERNEL, ZERO, 40.0, [4.0, 0.2, 0.1, 0.05, 0.025])
    outcome = step_size_outcome(study)
    ds, summary = outcome.dataset, outcome.summary
    labelled(ds)
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


def test_step_size_outcome_with_the_modified_flow():
    study = modified_study()
    outcome = step_size_outcome(study)
    ds, summary = outcome.dataset, outcome.summary
    labelled(ds)
    assert summary["modified_order"] == study.modified_order == float(ds["modified_order"])
    low, high = float(ds["modified_order_low"]), float(ds["modified_order_high"])
    assert summary["modified_order_interval"] == [low, high]
    assert np.isnan(ds["modified_gap"].values[0])
    assert ds["modified_gap"].values[1:].tolist() == list(study.modified_gaps[1:])
    assert [r["modified_gap"] for r in summary["step_sizes"]][1:] == list(study.modified_gaps[1:])
    assert ds["modified_fitted"].values.tolist() == list(study.modified_fitted)
    assert summary["modified_solver_error"] == study.modified_solver_error
    json.dumps(plain(summary), allow_nan=False)


def test_step_size_outcome_without_a_fit_says_why():
    outcome = step_size_outcome(gflow.step_size_study(KERNEL, ZERO, 2.0, [0.2, 0.1]))
    assert outcome.summary["order"] is outcome.summary["order_interval"] is None
    assert "needs 3" in outcome.summary["refusal"]
    assert np.isnan(float(outcome.dataset["order"]))
