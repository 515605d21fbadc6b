"""Rows to inputs and targets: names, index columns, warnings and the decimal sign."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gflow.data.columns import table_of
from gflow.data.delimited import split_rows


def read(text):
    return table_of("a", split_rows("a", text))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b,y\n1,2,3\n", ("a", "b")),
        ("1,2,3\n", ()),
        (",a,y\n5,2,3\n9,2,4\n", ("a",)),
        ("#,a,y\n5,2,3\n9,2,4\n", ("a",)),
        (",a,y\nAnn,2,3\nBob,2,4\n", ("a",)),
        ("#a,b,y\n1,2,3\n", ("a", "b")),
        ("a,b,y\n1,7,2,3\n2,8,2,4\n", ("a", "b")),  # R's row names have no header
    ],
)
def test_names_of_the_inputs(text, names):
    assert read(text)[2] == names


@pytest.mark.parametrize("head", ["", "id,a,y\n", "Index,a,y\n"])
def test_a_column_that_counts_the_rows_is_said(head):
    text = head + "".join(f"{i},0.5,{i}\n" for i in range(1, 5))
    with pytest.warns(UserWarning, match="first column of 'a' counts the rows and is read as an"):
        inputs, _, _ = read(text)
    assert inputs[:, 0].tolist() == [1, 2, 3, 4]
    with pytest.warns(UserWarning, match="counts the rows"):  # a shuffled index
        read("2,1,5\n0,7,5\n1,3,6\n")


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3), min_size=1, max_size=5))
def test_what_numpy_writes_is_read(table):
    stream = io.StringIO()
    np.savetxt(stream, table, fmt="%.17g", header="a b y")
    inputs, targets, names = read(stream.getvalue())
    assert np.array_equal(np.column_stack([inputs, targets]), table)
    assert names == ("a", "b")
