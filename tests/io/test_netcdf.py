"""netCDF-4 files written by h5py alone equal those of xarray; unsafe features are refused."""

from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
import xarray as xr

from gflow.io import netcdf
from gflow.io.netcdf import require_plain_arrays
from tests.runs.test_folder import DATA

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


def test_files_equal_those_of_xarray(tmp_path):
    netcdf.write(ALL_KINDS, tmp_path / "ours.nc")
    ALL_KINDS.to_netcdf(tmp_path / "theirs.nc", engine="h5netcdf")
    ours, theirs = (xr.load_dataset(tmp_path / f"{name}.nc") for name in ("ours", "theirs"))
    xr.testing.assert_identical(ours, ALL_KINDS)
    xr.testing.assert_identical(ours, theirs)


@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_read_variables_returns_numbers_with_their_dimensions(writer, tmp_path):
    path = tmp_path / "a.nc"
    if writer == "ours":
        netcdf.write(ALL_KINDS, path)
    else:
        ALL_KINDS.to_netcdf(path, engine="h5netcdf")
    variables = netcdf.read_variables(path)
    assert set(variables) == {*ALL_KINDS.variables} - {"word", "name"}
    for name, variable in variables.items():
        assert variable.dims == ALL_KINDS[name].dims
        np.testing.assert_array_equal(variable.values, ALL_KINDS[name].values)
    assert variables["curve"].attrs == ALL_KINDS["curve"].attrs
    templates = {name: variable * 0 for name, variable in variables.items()}
    templates["single"] = variables["single"][:1]  # another shape: read from the file
    again = netcdf.read_variables(path, templates)
    assert again.keys() == variables.keys()
    assert all(again[name].identical(variables[name]) for name in variables if name != "curve")
    np.testing.assert_array_equal(again["curve"].values, variables["curve"].values)


@pytest.mark.slow
def test_files_of_equal_names_can_be_written_concurrently(tmp_path):
    def write(i):
        (tmp_path / str(i)).mkdir()
        netcdf.write(ALL_KINDS, tmp_path / str(i) / "result.nc")
        return xr.load_dataset(tmp_path / str(i) / "result.nc")

    with ThreadPoolExecutor(4) as threads:
        for dataset in threads.map(write, range(12)):
            xr.testing.assert_identical(dataset, ALL_KINDS)


# -- files from elsewhere ---------------------------------------------------------------

MAX_BYTES = 10_000_000


@pytest.fixture
def file(tmp_path):
    return tmp_path / "result.nc"


def test_files_written_by_xarray_are_accepted(file):
    data = DATA.assign_coords(name=("x", ["linear", "ü" * 3000])).assign(
        number=3.5, count=("x", [1, 2]), yes=("x", [True, False]), empty=("y", np.zeros(0))
    )
    data.to_netcdf(file, engine="h5netcdf")
    require_plain_arrays(file, MAX_BYTES)
    with xr.open_dataset(file, engine="h5netcdf") as dataset:
        xr.testing.assert_identical(dataset.load(), data)


def _soft(open_file):
    open_file["a"] = h5py.SoftLink("/b")


def _external_link(open_file):
    open_file["a"] = h5py.ExternalLink("other.nc", "/secret")


def _elsewhere(open_file):
    open_file.create_dataset("a", (3,), "f8", external=[("other.nc", 0, 24)])


def _virtual(open_file):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.nc", "secret", (3,))
    open_file.create_virtual_dataset("a", layout)


def _compressed(open_file):
    open_file.create_dataset("a", data=np.zeros(1_000_000), compression="gzip")


def _never_written(open_file):
    open_file.create_dataset("a", (100_000_000,), "f8")


def _never_written_in_chunks(open_file):
    open_file.create_dataset("a", (100_000_000,), "f8", chunks=(1000,))


def _group(open_file):
    open_file.create_group("a")


def _records(open_file):
    open_file["a"] = np.zeros(2, [("x", "f8")])


def _references(open_file):
    open_file["a"] = np.array([open_file.ref] * 3, h5py.ref_dtype)


def _strings_in_a_table(open_file):
    open_file["a"] = np.array([["a", "b"]], h5py.string_dtype())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_soft, "'a' is a link, not an array"),
        (_external_link, "'a' is a link, not an array"),
        (_elsewhere, "'a' is stored in another file"),
        (_virtual, "'a' is chunked, compressed or virtual"),
        (_compressed, "'a' is chunked, compressed or virtual"),
        (_never_written, "'a' declares 800000000 bytes that the file does not hold"),
        (_never_written_in_chunks, "'a' is chunked, compressed or virtual"),
        (_group, "'a' is not an array"),
        (_records, "'a' holds .*, not numbers"),
        (_references, "'a' holds .*, not numbers"),
        (_strings_in_a_table, "'a' is not a list of strings"),
    ],
)
def test_features_that_a_run_does_not_need_are_refused(make, message, file):
    with h5py.File(file.with_name("other.nc"), "w") as other:
        other["secret"] = np.arange(3.0)
    with h5py.File(file, "w") as open_file:
        make(open_file)
    with pytest.raises(ValueError, match=message):
        require_plain_arrays(file, MAX_BYTES)


def test_arrays_that_share_bytes_are_all_counted(file):
    with h5py.File(file, "w") as open_file:
        open_file["a"] = np.zeros(10_000)
        for i in range(3):
            open_file[f"b{i}"] = open_file["a"]  # another name, the same array
    with pytest.raises(ValueError, match=f"it declares more than its {file.stat().st_size} bytes"):
        require_plain_arrays(file, MAX_BYTES)


def test_every_reference_to_one_long_string_is_counted(file):
    with h5py.File(file, "w") as open_file:
        open_file["a"] = np.array(["x" * 50_000, *[""] * 99], h5py.string_dtype())
        where = open_file["a"].id.get_offset()
    content = bytearray(file.read_bytes())
    entry = content[where : where + 16]  # the length of the string and its position
    content[where : where + 1600] = entry * 100
    file.write_bytes(content)
    with h5py.File(file) as open_file:
        assert len(open_file["a"][99]) == 50_000  # HDF5 accepts the reference
    with pytest.raises(ValueError, match="it declares more than"):
        require_plain_arrays(file, MAX_BYTES)


def test_a_file_over_the_size_limit_is_refused(file):
    DATA.to_netcdf(file, engine="h5netcdf")
    with pytest.raises(ValueError, match="it is over 100 bytes"):
        require_plain_arrays(file, 100)
