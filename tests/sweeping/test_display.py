"""The progress of a sweep on standard error: lines, and a table on a terminal."""

import io
import sys
import time

import pytest
from rich.console import Console

from gflow.sweeping import display
from gflow.sweeping.display import progress_display, progress_line
from gflow.sweeping.progress import SweepProgress

FAILED = {f"run{i}": f"reason {i}" for i in range(5)}


def test_line_has_counts_and_the_remaining_time():
    started = time.monotonic() - 400.0
    progress = SweepProgress(8, done=4, running=2, workers=2, failed={"a": ""}, started=started)
    assert (
        progress_line(progress)
        == "4 of 8 done, 2 running on 2 workers, 1 failed, about 4.0 min left"
    )


def test_line_of_an_ended_sweep_has_no_remaining_time():
    assert progress_line(SweepProgress(2, done=2, workers=2)).endswith("0 failed")


def test_lines_are_printed_at_intervals_off_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    now = [0.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    progress = SweepProgress(2, started=0.0)
    with progress_display() as show:
        for now[0] in (1.0, 29.0, 31.0, 40.0, 62.0):
            show(progress)
    lines = sys.stderr.getvalue().splitlines()
    assert lines == ["gflow: 0 of 2 done, 0 running on 0 workers, 0 failed"] * 2


@pytest.mark.parametrize("failed", [{}, FAILED])
def test_table_has_counts_and_the_latest_failures(failed):
    progress = SweepProgress(9, done=3, running=1, workers=2, failed=failed)
    console = Console(file=io.StringIO(), width=100)
    console.print(display._progress_table(progress))
    text = console.file.getvalue()
    assert "3 of 9" in text
    assert [f"failed run{i}: reason {i}" in text for i in range(5)] == [
        bool(failed) and i >= 2 for i in range(5)
    ]
