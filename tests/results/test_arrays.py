"""Labelled arrays: labels, padding, and the dataset of a trajectory."""

import numpy as np
import pytest
import xarray as xr

import gflow
from gflow.flows import EndToEndFlow
from gflow.results.arrays import numbered, padded, path_dataset
from tests.helpers import make_loss, randn
from tests.results.support import check_labels


def test_dataset_of_a_trajectory_that_stopped_at_once():
    flow = EndToEndFlow(make_loss("regression", 2, 3), depth=3)
    with pytest.raises(gflow.IntegrationError) as caught:
        gflow.integrate(flow, 0.3 * randn(2, 3), [0.0, 1.0], max_evals=2)
    path = caught.value.trajectory
    ds = path_dataset(path)
    assert len(ds["time"]) == len(path.ts) >= 1
    check_labels(ds)


def test_missing_coordinates_are_added_and_existing_ones_are_unchanged():
    ds = xr.Dataset({"a": (("time", "layer", "other"), np.zeros((2, 3, 1)))}, {"time": [0.0, 0.5]})
    coordinates = numbered(ds).coords
    assert coordinates["time"].values.tolist() == [0.0, 0.5]
    assert coordinates["layer"].values.tolist() == [1, 2, 3]
    assert coordinates["other"].values.tolist() == [0]


def test_padding_is_nan_and_preserves_the_other_dimensions():
    full = padded([np.ones((2, 3)), np.ones((1, 3))])
    assert full.shape == (2, 2, 3)
    assert np.isnan(full[1, 1]).all()
    assert (full[0] == 1).all()
