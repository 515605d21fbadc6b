"""Arrays of all runs on one grid: shapes that differ, names of dimensions, and the bound."""

import numpy as np
import pytest
import xarray as xr

from gflow.errors import InputError
from gflow.sweeping import curves
from gflow.sweeping.curves import Curves


def combined(*results, swept=("seed",)):
    """Return the dataset of runs along the dimension seed."""
    collected = Curves(set(swept))
    ds = xr.Dataset(coords={"seed": np.arange(len(results))})
    for i, result in enumerate(results):
        if result is not None:
            collected.add((i,), {n: xr.Variable(dims, v) for n, (dims, v) in result.items()})
    collected.add_to(ds, ("seed",), (len(results),))
    return ds


def test_arrays_are_at_the_position_of_their_run_and_nan_elsewhere():
    ds = combined({"loss": (("time",), [1.0, 2.0])}, None, {"loss": (("time",), [3.0, 4.0])})
    assert ds["loss"].dims == ("seed", "time")
    assert ds["loss"].values[[0, 2]].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert np.isnan(ds["loss"].values[1]).all()


def test_arrays_of_several_shapes_and_texts_are_omitted():
    first = {"loss": (("time",), [1.0]), "name": (("time",), ["a"])}
    ds = combined(first, {"loss": (("time",), [1.0, 2.0]), "name": (("time",), ["b"])})
    assert not ds.data_vars
    assert ds.attrs["left_out"] == "loss, name"


def test_equal_coordinates_are_preserved_and_others_are_renamed():
    ds = combined({"time": (("time",), [0.0, 1.0])}, {"time": (("time",), [0.0, 1.0])})
    assert ds["time"].dims == ("time",)
    ds = combined({"time": (("time",), [0.0, 1.0])}, {"time": (("time",), [0.0, 2.0])})
    assert ds["time_values"].values.tolist() == [[0.0, 1.0], [0.0, 2.0]]


def test_swept_dimension_of_a_single_value_is_dropped():
    result = {"loss": (("seed", "time"), [[1.0, 2.0]]), "scale": (("seed",), [2.0])}
    assert combined(result, result)["loss"].dims == ("seed", "time")


def test_arrays_that_are_too_large_together_are_refused(monkeypatch):
    monkeypatch.setattr(curves, "_MAX_BYTES", 24)
    with pytest.raises(InputError, match="at most 24 bytes together; load the sweep with curves"):
        combined({"loss": (("time",), [1.0, 2.0])}, {"loss": (("time",), [1.0, 2.0])})
