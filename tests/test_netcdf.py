"""netCDF-4 files by h5py alone: what xarray writes, read by xarray and by our own reader."""

import h5py
import numpy as np
import pytest
import xarray as xr

from gflow import netcdf

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
    netcdf.write(ALL_KINDS, tmp_path / "ours.nc")
    ALL_KINDS.to_netcdf(tmp_path / "theirs.nc", engine="h5netcdf")
    ours, theirs = (xr.load_dataset(tmp_path / f"{name}.nc") for name in ("ours", "theirs"))
    xr.testing.assert_identical(ours, ALL_KINDS)
    xr.testing.assert_identical(ours, theirs)


@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_our_reader_gives_the_numbers_with_their_dimensions(writer, tmp_path):
    path = tmp_path / "a.nc"
    if writer == "ours":
        netcdf.write(ALL_KINDS, path)
    else:
        ALL_KINDS.to_netcdf(path, engine="h5netcdf")
    found = netcdf.read_variables(path, 10_000)
    assert set(found) == {*ALL_KINDS.variables} - {"word", "name"}
    for name, variable in found.items():
        assert variable.dims == ALL_KINDS[name].dims
        np.testing.assert_array_equal(variable.values, ALL_KINDS[name].values)
    assert found["curve"].attrs == ALL_KINDS["curve"].attrs


def test_sizes_are_checked_as_declared_before_memory_is_taken(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file.create_dataset("a", shape=(10**12,), dtype="f8", chunks=(1000,))
    with pytest.raises(ValueError, match="too many bytes"):
        netcdf.read_variables(tmp_path / "a.nc", 10**9)


@pytest.mark.parametrize("how", ["external link", "soft link", "external data", "group"])
def test_nothing_outside_of_the_file_is_read(how, tmp_path):
    (tmp_path / "secret").write_bytes(b"12345678")
    with h5py.File(tmp_path / "other.nc", "w") as file:
        file["b"] = 1.0
    with h5py.File(tmp_path / "a.nc", "w") as file:
        if how == "external link":
            file["a"] = h5py.ExternalLink(str(tmp_path / "other.nc"), "b")
        elif how == "soft link":
            file["a"] = h5py.SoftLink("/b")
        elif how == "group":
            file.create_group("a")
        else:
            outside = [(str(tmp_path / "secret"), 0, 8)]
            file.create_dataset("a", shape=(1,), dtype="f8", external=outside)
    with pytest.raises(ValueError, match="in the file itself"):
        netcdf.read_variables(tmp_path / "a.nc", 10**9)
