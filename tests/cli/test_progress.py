"""The progress bar: shown on a terminal only, and for long work only."""

import io

import pytest

from gflow.cli import progress
from gflow.cli.progress import Bar, counting


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test advances."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_every_ten_seconds_off_a_terminal(monkeypatch, clock):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with Bar() as bar:
        update = bar.stage("flow", 4.0)
        for seconds, t in ((9.9, 0.5), (0.1, 1.0), (9.0, 2.0), (1.0, 3.0)):
            clock[0] += seconds
            update(t, 0.25)
        bar.stage("descent", 4.0)(1.0, 0.25)  # within the ten seconds of the line before
    assert stream.getvalue().splitlines() == [
        "gflow: flow: t = 1 of 4, loss 0.25, about 30 s left",
        "gflow: flow: t = 3 of 4, loss 0.25, about 7 s left",
    ]


def test_counted_work_has_lines_off_a_terminal(monkeypatch, clock):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with counting("kernel") as update:
        for done in range(1, 4):
            clock[0] += 6.0
            update(done, 4)
    assert stream.getvalue() == "gflow: kernel: 2 of 4, about 12 s left\n"


def test_a_silent_bar_shows_nothing(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    assert Bar(silent=True).stage("flow", 1.0) is None


def test_bar_waits_then_shows_the_stage_time_and_loss(monkeypatch, clock):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Bar() as bar:
        update = bar.stage("flow", 2.0)
        update(0.1, 5.0)
        clock[0] += 1.99
        update(0.5, 4.0)
        assert bar._bar is None
        assert stream.getvalue() == ""
        clock[0] += 0.02
        update(1.0, 3.0)
        assert bar._bar is not None
        clock[0] += 1.0
        update(1.25, 0.125)
        (task,) = bar._bar.tasks
        assert (task.description, task.completed, task.total) == ("flow", 1.25, 2.0)
        assert task.fields["loss"] == 0.125
        bar._bar.refresh()
        second = bar.stage("descent", 9.0)
        clock[0] += 1.0
        second(3.0, 1.0)
        (task,) = bar._bar.tasks
        assert (task.description, task.completed, task.total) == ("descent", 3.0, 9.0)
    for words in ("flow", "t = 1.25 of 2", "loss 0.125"):
        assert words in stream.getvalue()


def test_updates_are_not_more_often_than_the_interval(monkeypatch, clock):
    monkeypatch.setattr("sys.stderr", Terminal())
    with Bar() as bar:
        update = bar.stage("flow", 2.0)
        clock[0] += 3.0
        update(0.5, 1.0)
        clock[0] += 0.05
        update(0.6, 1.0)
        assert bar._bar.tasks[0].completed == 0.5


def test_bar_is_stopped_when_the_work_fails(monkeypatch, clock):
    monkeypatch.setattr("sys.stderr", Terminal())

    def work(bar):
        clock[0] += 3.0
        bar.stage("flow", 2.0)(0.5, 1.0)
        raise RuntimeError("stopped")

    bar = Bar()
    with pytest.raises(RuntimeError), bar:
        work(bar)
    assert bar._bar is not None
    assert not bar._bar.live.is_started


def test_a_count_is_shown_on_a_terminal_after_a_while(monkeypatch, clock):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with counting("kernel, 1 GB of memory") as update:
        update(1, 4)
        assert stream.getvalue() == ""
        clock[0] += 2.1
        update(2, 4)
        update(4, 4)
    assert "kernel, 1 GB of memory" in stream.getvalue()
    assert "100%" in stream.getvalue()
