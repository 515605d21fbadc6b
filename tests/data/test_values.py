"""Cells to numbers and labels: the decimal sign and what is missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gflow.data.columns import table_of
from gflow.data.delimited import split_rows
from gflow.data.values import missing_labels
from gflow.errors import InputError


def read(text):
    return table_of("a", split_rows("a", text))


def test_decimal_commas_need_one_number_that_is_no_thousand():
    with pytest.raises(InputError, match=r"'1,234' in line 1 .* is 1234 .* and 1.234 with"):
        read("1,234;2\n2,345;3\n")
    assert read("1,234;2\n0,345;3\n")[0][:, 0].tolist() == [1.234, 0.345]


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3), min_size=1, max_size=5))
def test_decimal_commas_are_read_or_refused_but_never_misread(table):
    text = "\n".join(";".join(repr(x).replace(".", ",") for x in row) for row in table)
    try:
        inputs, targets, _ = read("a;b;y\n" + text)
    except InputError as error:
        assert "with a decimal comma" in str(error)  # noqa: PT017
        return
    assert np.array_equal(np.column_stack([inputs, targets]), table)


def test_missing_labels():
    assert missing_labels(["yes", " ", "N/A", "no", "?", "-"]) == [1, 2, 4, 5]
    assert missing_labels(["+", "-"]) == []
