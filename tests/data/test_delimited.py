"""Text to rows: encodings, separators, comments and line numbers."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gflow.data.delimited import decode, split_rows
from gflow.errors import InputError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_a_mark_and_utf8(encoding):
    assert decode("a", "grün,漢\n".encode(encoding)) == "grün,漢\n"


def test_windows_1252_is_said():
    with pytest.warns(UserWarning, match=r"'a' is not in UTF-8 \(line 2\) and is read as Windows"):
        assert decode("a", "x\ngrün €".encode("cp1252")) == "x\ngrün €"


@pytest.mark.parametrize("raw", [b"a\n\0", b"\xff\xfea", b"a\n\x81"])
def test_what_is_no_text_is_refused(raw):
    with pytest.raises(InputError, match=r"'a' must be a readable text file, but .*save it again"):
        decode("a", raw)


def test_lines_are_those_of_the_file():
    text = 'sep=;\n# c\n\nx;y\n1;"a\nb"\n\n#2;b\n3;c\n'
    assert split_rows("a", text).rows == [(4, ["x", "y"]), (5, ["1", "a b"]), (9, ["3", "c"])]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@settings(max_examples=20)
@given(
    table=st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.tuples(
                *[st.floats(allow_nan=False, allow_infinity=False)] * width,
                st.text("ab ,;|\"'", min_size=1, max_size=6).map(lambda t: f"x{t}x"),
            ),
            min_size=2,
            max_size=6,
        )
    )
)
def test_what_csv_writes_is_read(separator, table):
    """Numbers and words with any separators in them, written by the standard library."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator).writerows(table)
    rows = split_rows("a", stream.getvalue()).rows
    expected = [[*map(repr, row[:-1]), " ".join(row[-1].split())] for row in table]
    assert [cells for _, cells in rows] == expected
