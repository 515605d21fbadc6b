"""Checks of functions that users pass."""

import pytest

from gflow.checks import evaluated, require_callable
from gflow.errors import InputError


@pytest.mark.parametrize(("value", "got"), [(3, "3"), (None, "None"), (int, "int")])
def test_what_is_no_function_is_refused(value, got):
    with pytest.raises(InputError) as caught:
        require_callable("progress", value, "progress(t, loss)")
    expected = f"progress must be a function, called as progress(t, loss), got {got}"
    assert str(caught.value) == expected


def test_the_error_of_a_function_is_one_line_with_its_cause():
    require_callable("f", len, "f(x)")
    assert evaluated("f(x)", lambda: 3) == 3

    def fail():
        raise ValueError("first\nsecond")

    with pytest.raises(InputError) as caught:
        evaluated("f(x)", fail, "use torch")
    assert str(caught.value) == "f(x) fails: ValueError: first second; use torch"
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_of_gflow_passes():
    def refuse():
        raise InputError("as it is")

    with pytest.raises(InputError, match="as it is"):
        evaluated("f(x)", refuse)
