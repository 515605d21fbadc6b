"""What is passed as progress."""

import pytest

from gflow import callbacks
from gflow.callbacks import as_count_progress, as_progress, as_stages
from gflow.errors import InputError


def test_functions_pass_and_nothing_is_none():
    show = lambda *values: None  # noqa: E731
    assert as_progress(show) is as_count_progress(show) is as_stages(show) is show
    assert as_progress(None) is as_progress(False) is as_count_progress(None) is None
    assert as_stages(None)("flow", 1.0) is as_stages(False)("flow", 1.0) is None


def test_true_prints_a_line(monkeypatch, capsys):
    monkeypatch.setattr(callbacks, "_INTERVAL", 0.0)
    as_progress(True)(1.5, 0.25)
    as_count_progress(True)(3, 4)
    as_stages(True)("flow", 2.0)(1.5, 0.25)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "t = 1.5, loss = 0.25\n3 of 4\nflow: t = 1.5, loss = 0.25\n"


def test_at_most_one_line_a_second(capsys):
    show = as_progress(True)
    for i in range(100):
        show(i, 1.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("check", [as_progress, as_count_progress, as_stages])
@pytest.mark.parametrize("value", [1, "yes"])
def test_other_values_are_refused(check, value):
    with pytest.raises(InputError, match="must be a function, called as"):
        check(value)
