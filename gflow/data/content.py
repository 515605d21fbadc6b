"""Recognise files that are not what their name says: web pages, archives, pointers of git-lfs."""

from __future__ import annotations

import re
from pathlib import Path

from gflow.errors import InputError

_SPREADSHEET = "a spreadsheet of Excel or another Office file; save it as CSV"
_SAVE_AS = "; save the table as CSV or .npz"
#: The number of first bytes that tell what a file is: ARFF may begin with a long comment.
START = 2**14
_POINTER = b"version https://git-lfs.github.com/"
#: What a file is that begins with these bytes, and what helps.
_STARTS = {
    _POINTER: "a pointer of git-lfs, not the data; run: git lfs pull",
    b"\xd0\xcf\x11\xe0": _SPREADSHEET,
    b"BZh91AY": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"PAR1\x15": f"a Parquet file{_SAVE_AS}",
    b"ARROW1\0": f"an Arrow file{_SAVE_AS}",
    b"\x89HDF": f"an HDF5 file{_SAVE_AS}",
    b"CDF\x01": f"a netCDF file{_SAVE_AS}",
    b"MATLAB 5.0 MAT": f"a MATLAB file{_SAVE_AS}",
    b"SQLite format": f"an SQLite file{_SAVE_AS}",
    b"%PDF-": f"a PDF{_SAVE_AS}",
    b"{\\rtf": f"a word processor's file{_SAVE_AS}",
    b"\x80\x02": "a pickle, which could run code; save the arrays as .npz",
    b"\x80\x03": "a pickle, which could run code; save the arrays as .npz",
    b"\x80\x04": "a pickle, which could run code; save the arrays as .npz",
    b"\x80\x05": "a pickle, which could run code; save the arrays as .npz",
}
_ZIP, _NUMPY = b"PK\x03\x04", b"\x93NUMPY"
#: The same for text, after leading blanks; a table may begin with <DATE> or [m], too.
_TEXTS = {
    re.compile(rb"<(!doctype|!--|\?xml|(html|head|body|table|svg)[\s>])", re.IGNORECASE): (
        "a web page or XML; download the file itself, not the page that shows it"
    ),
    re.compile(rb"[\[{]\s*([\[{\"\d-]|[\]}]\s*$)"): f"JSON{_SAVE_AS}",
    re.compile(rb"(%[^\n]*\n|\s)*@relation\s", re.IGNORECASE): f"ARFF{_SAVE_AS}",
    # A number and pairs index:value; 12:30 is a time.
    re.compile(
        rb"(#[^\n]*\n)*(?![^\n]*\s\d\d:\d\d\s)[+-]?[\d.]+"
        rb"([ \t]+(qid|\d+):[+-]?[\d.]+([eE][+-]?\d+)?)+[ \t]*(\n|\r|#|$)"
    ): "svmlight (index:value pairs); read it by sklearn.datasets.load_svmlight_file, and "
    "save it as .npz",
}


def require_content(name: str, start: bytes, kind: str) -> None:
    """Raise InputError where the first bytes of a file are those of another kind of file.

    Parameters
    ----------
    name : str
        The file's name, for the message.
    start : bytes
        The first `START` bytes.
    kind : str
        ``.npz``, ``.npy``, or anything else for other kinds of files.

    Raises
    ------
    InputError
        If the file is recognised as something else.

    Examples
    --------
    >>> require_content("a.csv", b"1.5,2.0", ".csv")
    >>> require_content("a.csv", b"<!DOCTYPE html>", ".csv")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: 'a.csv' must be a .csv file, but it is a web page or XML; download ...
    """
    found = next((text for magic, text in _STARTS.items() if start.startswith(magic)), None)
    if found is None and kind != ".npz" and start.startswith(_ZIP):
        office = any(part in start for part in (b"[Content_Types]", b"_rels/", b"mimetype"))
        found = _SPREADSHEET if office else "a zip archive; unpack it first"
    if found is None and kind != ".npy" and start.startswith(_NUMPY):
        found = "a NumPy array; give it the suffix .npy"
    if found is None:
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        found = next((what for pattern, what in _TEXTS.items() if pattern.match(text)), None)
    if found is not None:
        raise InputError(f"{name!r} must be a {kind} file, but it is {found}")


def require_no_pointer(path: Path) -> None:
    """Raise InputError where a file is a pointer of git-lfs instead of the data.

    Raises
    ------
    InputError
        If it is.
    """
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise InputError(f"{path.name!r} must be the data, but it is {_STARTS[_POINTER]}")
