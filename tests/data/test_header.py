"""Which first rows are names."""

import pytest

from gflow.data.header import is_header
from gflow.errors import InputError


def rows(text):
    return [(i + 1, line.split(",")) for i, line in enumerate(text.split())]


@pytest.mark.parametrize(
    "text",
    [
        "a,b 1,2",
        "a,b",
        "a,,c 1,2,3",
        "0,1,target 4,5,6",
        ",0,1 7,2,3",
        "0,1,2 0.5,1e1,7",
        "a,cat 1,dog 2,ant",
        "a,b,2 1,2,3",
        ",a,b,2 0,1,2,cat",
        ",0,1,kind 0,1,1,cat",
        "0,1,2,kind 1,1,0,cat 0,1,2,dog",
        "400,410,420,430,440,450,460,y 1,3,2,4,5,5,1,0",
    ],
)
@pytest.mark.filterwarnings("ignore:line 1 of")
def test_names(text):
    assert is_header("a", rows(text))


@pytest.mark.parametrize(
    "text",
    [
        "1,2 3,4",
        "1,2,3 4,5,6",
        "a,cat 1,cat 2,ant",  # a mistake in the first sample, not a name
        "?,?,yes 1,2,no",
        "true,false,yes 0,1,no",
        "inf,x 1,y",
        "0,1,cat 1,1,dog 0,0,cat",
        "1,x,3 4,5,6",
        "x,3 4,5 6,7",
        "10,20,30,40,50,60,70,80 11,21,31,41,51,61,71,81",  # every row is even
        ",5,2 1,2,3",
    ],
)
def test_samples(text):
    assert not is_header("a", rows(text))


@pytest.mark.parametrize(
    "text", ["0,1 1,0", "0,1,2 3,4,5", "0,1,2 0,1,2", "x,0,1 4,5,6", "0,y 1,2"]
)
def test_two_readings_are_refused(text):
    with pytest.raises(InputError, match=r"line 1 of 'a', .*, can be names of columns .* as"):
        is_header("a", rows(text))


def test_names_that_are_numbers_are_said():
    with pytest.warns(UserWarning, match="line 1 of 'a', 0,1,2, is read as names of columns; if"):
        assert is_header("a", rows("0,1,2 0.5,1.5,7"))
