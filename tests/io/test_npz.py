"""Archives of arrays: sizes that a file claims are checked before memory is allocated."""

import io
import zipfile

import numpy as np
import pytest

from gflow.errors import InputError
from gflow.io.npz import check_header, read_members


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array)
    size = stream.tell()
    stream.seek(0)
    return stream, size


def archive_of(save, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return zipfile.ZipFile(stream), len(stream.getvalue())


def test_arrays_are_read_back():
    arrays = {"a": np.arange(3), "b/c": np.eye(2), "empty": np.zeros((0, 4)), "yes": np.array(True)}
    members = read_members(*archive_of(np.savez, **arrays))
    assert members.keys() == arrays.keys()
    for name, array in arrays.items():
        assert members[name].dtype == array.dtype
        np.testing.assert_array_equal(members[name], array)


def test_compressed_members_are_refused():
    with pytest.raises(InputError, match=r"a.npy must be stored without compression"):
        read_members(*archive_of(np.savez_compressed, a=np.zeros(10)))


def test_objects_are_refused():
    with pytest.raises(InputError, match=r"a.npy must hold numbers, got dtype object"):
        read_members(*archive_of(np.savez, a=np.array([None])))


@pytest.mark.parametrize(
    ("kinds", "max_bytes", "message"),
    [
        ("U", 1000, "must hold numbers or strings, got dtype float64"),
        ("f", 47, "must take at most 47 bytes in memory, but its header declares shape"),
    ],
)
def test_headers_of_another_kind_or_size_are_refused(kinds, max_bytes, message):
    stream, size = saved(np.zeros((2, 3)))
    with pytest.raises(InputError, match=f"the array {message}"):
        check_header("the array", stream, size, kinds, max_bytes)


def test_memory_is_counted_as_float64():
    stream, size = saved(np.zeros(10, np.int8))
    assert check_header("a", stream, size, "i", 80) == 80


def test_overlapping_members_are_refused():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for i in range(3):
            with archive.open(f"{i}.npy", "w") as member:
                np.save(member, np.zeros(1000))
    content = stream.getvalue()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert len(read_members(archive, len(content))) == 3
        with pytest.raises(InputError, match=r"1.npy must be stored without compression"):
            read_members(archive, 9000)  # a shorter file, in which the members must overlap
