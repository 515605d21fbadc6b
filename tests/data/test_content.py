"""Files that are something else than their name says."""

import io

import h5py
import numpy as np
import pytest

from gflow.data.content import require_content
from gflow.errors import InputError


def hdf5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["x"] = [1.0]
    return stream.getvalue()


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 3)))
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, X=np.ones((2, 3)))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("start", "kind", "what"),
    [
        (hdf5(), ".csv", "an HDF5 file; save the table as CSV"),
        (hdf5(), ".npz", "an HDF5 file"),
        (npy(), ".csv", "a NumPy array; give it the suffix .npy"),
        (npy(), ".npz", "a NumPy array; give it the suffix .npy"),
        (npz(), ".csv", "a zip archive; unpack it first"),
        (b"<html>\n", ".npy", "a web page"),
        (b"\xef\xbb\xbf <?xml version='1.0'?>", ".csv", "a web page or XML"),
        (b"BZh91AY&SY", ".csv", "compressed by bzip2"),
        (b"version https://git-lfs.github.com/spec/v1\n", ".npz", "a pointer of git-lfs"),
    ],
)
def test_other_files_are_named(start, kind, what):
    with pytest.raises(InputError, match=f"'a' must be a {kind} file, but it is {what}"):
        require_content("a", start[:512], kind)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (npy(), ".npy"),
        (npz(), ".npz"),
        (b"<DATE>,<TABLE>\n1,2", ".csv"),
        (b"[m],y\n1,2", ".csv"),
        (b"PAR1,PAR2\n1,2", ".csv"),
        (b"% relation\n1,2", ".csv"),
        (b"", ".csv"),
    ],
)
def test_tables_are_not_taken_for_something_else(start, kind):
    require_content("a", start[:512], kind)
