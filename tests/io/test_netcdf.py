"""netCDF-4 files by h5py alone: what xarray writes, read by xarray and by our own reader."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

from gflow.io import netcdf as arrays

ALL_KINDS = xr.Dataset(
    {
        "curve": (("time", "mode"), np.arange(6.0).reshape(3, 2), {"units": "1", "long_name": "∑"}),
        "flag": ("time", [True, False, True]),
        "count": ((), 3),
        "nothing": ((), np.nan),
        "word": ("name", ["x", "yy"]),
        "empty": (("time", "none"), np.ones((3, 0))),
        "single": ("mode", np.ones(2, np.float32)),
    },
    coords={"time": [1.0, 2.0, 3.0], "epoch": ("time", [4, 5, 6]), "name": ["m", "ü"]},
    attrs={"title": "ü", "runs": 3},
)


def test_xarray_reads_what_it_would_have_written(tmp_path):
    arrays.write(ALL_KINDS, tmp_path / "ours.nc")
    ALL_KINDS.to_netcdf(tmp_path / "theirs.nc", engine="h5netcdf")
    ours, theirs = (xr.load_dataset(tmp_path / f"{name}.nc") for name in ("ours", "theirs"))
    xr.testing.assert_identical(ours, ALL_KINDS)
    xr.testing.assert_identical(ours, theirs)


@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_our_reader_gives_the_numbers_with_their_dimensions(writer, tmp_path):
    path = tmp_path / "a.nc"
    if writer == "ours":
        arrays.write(ALL_KINDS, path)
    else:
        ALL_KINDS.to_netcdf(path, engine="h5netcdf")
    found = arrays.read_variables(path)
    assert set(found) == {*ALL_KINDS.variables} - {"word", "name"}
    for name, variable in found.items():
        assert variable.dims == ALL_KINDS[name].dims
        np.testing.assert_array_equal(variable.values, ALL_KINDS[name].values)
    assert found["curve"].attrs == ALL_KINDS["curve"].attrs
    other = {name: variable * 0 for name, variable in found.items()}
    other["single"] = found["single"][:1]  # of another shape: looked up anew
    again = arrays.read_variables(path, other)
    assert again.keys() == found.keys()
    assert all(again[name].identical(found[name]) for name in found if name != "curve")
    np.testing.assert_array_equal(again["curve"].values, found["curve"].values)


def test_files_of_one_name_are_written_at_once(tmp_path):
    def write(i):
        (tmp_path / str(i)).mkdir()
        arrays.write(ALL_KINDS, tmp_path / str(i) / "result.nc")
        return xr.load_dataset(tmp_path / str(i) / "result.nc")

    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(write, range(12)):
            xr.testing.assert_identical(found, ALL_KINDS)
