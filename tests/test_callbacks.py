"""What is passed as progress."""

import sys
import types

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


def test_a_bar_in_a_terminal_ends_with_its_line(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(callbacks, "_BAR_INTERVAL", 0.0)
    show = as_progress(True, "flow", 4.0)
    show(1.0, 0.5)
    show(4.0, 0.25)
    show(5.0, 0.1)  # a second solve past the end draws nothing more
    first, last = capsys.readouterr().err.split("\r\x1b[2K")[1:]
    assert first.count("━") == 6  # a quarter of 24
    assert " 25 %  flow: t = 1 of 4, loss 0.5, " in first
    assert "\n" not in first
    assert "100 %  flow: t = 4 of 4, loss 0.25, " in last
    assert last.endswith("\n")


def test_a_bar_in_a_notebook_is_one_that_changes(monkeypatch):
    shown = []

    class ZMQInteractiveShell:
        pass

    class Handle:
        def update(self, bar):
            shown.append(bar)

    def display(bar, display_id):
        assert display_id
        shown.append(bar)
        return Handle()

    ipython, module = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = ZMQInteractiveShell
    module.HTML, module.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(callbacks, "_BAR_INTERVAL", 0.0)
    show = as_progress(True, "<flow>", 4.0)
    show(2.0, 0.5)
    show(4.0, 0.25)
    assert len(shown) == 2
    assert shown[0].startswith("<progress max='1' value='0.5000'></progress>  50 %  &lt;flow&gt;: ")
    assert "value='1.0000'" in shown[1]
