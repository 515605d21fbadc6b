"""Datasets of values have the names, units and numbers of a run's result."""

import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.results.flow_and_descent import FlowAndDescentResult
from gflow.views import to_dataset
from tests.results.support import check_labels
from tests.views.examples import FLOW, KINDS, START, TIMES, value


@pytest.mark.parametrize("kind", [*KINDS, "ensemble"])
def test_every_value_has_labelled_arrays_and_the_same_as_tensors(kind):
    ds = value(kind).to_dataset()
    check_labels(ds)
    tensors = gflow.views.tensors(ds)
    assert set(tensors) <= set(ds.data_vars)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor.numpy(), ds[name].values)


def test_trajectories_descents_and_gaps_have_the_names_of_a_run_of_both():
    of_run = FlowAndDescentResult.from_study(value("flow and descent")).dataset
    for kind in ("trajectory", "descent"):
        ds = value(kind).to_dataset()
        assert set(ds.data_vars) <= set(of_run.data_vars)
        for name, variable in ds.data_vars.items():
            assert variable.attrs == of_run[name].attrs
            assert variable.dims == of_run[name].dims
    gap = value("gap").to_dataset()
    assert {"gap", "gap_time", "solver_error"} < set(gap)
    np.testing.assert_allclose(gap.gap.values[0], value("gap").end_to_end.numpy())
    assert float(gap.solver_error) < 1e-3 * float(gap.gap.max())


def test_closed_form_is_beside_the_flow():
    from gflow.views.values import paths_dataset

    ds = paths_dataset(value("trajectory"), [value("descent")], exact=True)
    np.testing.assert_allclose(ds.exact_singular_values, ds.singular_values, atol=1e-6)
    sines = gflow.flow_from_loss(lambda w: torch.sin(w).square().sum())
    path = gflow.integrate(sines, torch.ones(2).double(), [0.0, 0.1])
    with pytest.raises(InputError, match=r"LossFlow has no closed form .*; leave out exact"):
        gflow.plot(path, exact=True)


def test_an_ensemble_has_a_dimension_of_members():
    ds = value("ensemble").to_dataset()
    assert ds.loss.dims == ("time", "member")
    assert ds.eigenvalues.dims == ("time", "member", "mode")
    assert ds.sizes["member"] == 3


def test_an_observable_of_ones_own_is_a_variable():
    class Watched(gflow.FactorFlow):
        def observables(self, y):
            return {"corner": y[..., 0, 0], "column": y[..., 0]}

    path = gflow.integrate(Watched(FLOW._loss), START, TIMES)
    ds = path.to_dataset()
    assert ds.corner.dims == ("time",)
    assert ds["column"].dims == ("time", "column_entry")
    assert "loss" in ds


def test_other_values_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"takes a trajectory, a descent, .* got 3"):
        to_dataset(3)
