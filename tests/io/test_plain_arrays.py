"""A result made by somebody else: what HDF5 could do with it is refused before it is read."""

import h5py
import numpy as np
import pytest
import xarray as xr

from gflow.io.netcdf_check import require_plain_arrays
from tests.runs.test_folder import DATA

MOST = 10_000_000


@pytest.fixture
def file(tmp_path):
    return tmp_path / "result.nc"


def test_what_xarray_writes_is_plain(file):
    data = DATA.assign_coords(name=("x", ["linear", "ü" * 3000])).assign(
        number=3.5, whole=("x", [1, 2]), yes=("x", [True, False]), empty=("y", np.zeros(0))
    )
    data.to_netcdf(file, engine="h5netcdf")
    require_plain_arrays(file, MOST)
    with xr.open_dataset(file, engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), data)


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
    ("make", "say"),
    [
        (_soft, "'a' is a link"),
        (_external_link, "'a' is a link"),
        (_elsewhere, "'a' lies in another file"),
        (_virtual, "'a' is chunked, compressed or put together from elsewhere"),
        (_compressed, "'a' is chunked, compressed or"),
        (_never_written, "'a' declares 800000000 bytes that are not there"),
        (_never_written_in_chunks, "'a' is chunked, compressed or"),
        (_group, "'a' is no array"),
        (_records, "'a' holds .* and no numbers"),
        (_references, "'a' holds .* and no numbers"),
        (_strings_in_a_table, "'a' is no list of strings"),
    ],
)
def test_what_a_run_does_not_need_is_refused(make, say, file):
    with h5py.File(file.with_name("other.nc"), "w") as other:
        other["secret"] = np.arange(3.0)
    with h5py.File(file, "w") as open_file:
        make(open_file)
    with pytest.raises(ValueError, match=say):
        require_plain_arrays(file, MOST)


def test_arrays_that_share_their_bytes_are_counted_each(file):
    with h5py.File(file, "w") as open_file:
        open_file["a"] = np.zeros(10_000)
        for i in range(3):
            open_file[f"b{i}"] = open_file["a"]  # another name, the same array
    with pytest.raises(ValueError, match=f"it declares more than its {file.stat().st_size} bytes"):
        require_plain_arrays(file, MOST)


def test_one_long_string_many_times_is_counted_each_time(file):
    with h5py.File(file, "w") as open_file:
        open_file["a"] = np.array(["x" * 50_000, *[""] * 99], h5py.string_dtype())
        where = open_file["a"].id.get_offset()
    content = bytearray(file.read_bytes())
    entry = content[where : where + 16]  # length, and where the string is
    content[where : where + 1600] = entry * 100
    file.write_bytes(content)
    with h5py.File(file) as open_file:
        assert len(open_file["a"][99]) == 50_000  # HDF5 believes it
    with pytest.raises(ValueError, match="it declares more than"):
        require_plain_arrays(file, MOST)


def test_larger_than_allowed_is_refused(file):
    DATA.to_netcdf(file, engine="h5netcdf")
    with pytest.raises(ValueError, match="it is over 100 bytes"):
        require_plain_arrays(file, 100)
