"""The progress of a sweep: runs that remain, and the time that they take."""

import time

import pytest

from gflow.sweeping.progress import SweepProgress


def test_runs_that_ended_do_not_remain():
    progress = SweepProgress(total=9, done=4, elsewhere=1, failed={"a": "disk full"}, running=2)
    assert progress.remaining == 3


def test_remaining_time_is_extrapolated_from_runs_of_this_sweep():
    progress = SweepProgress(total=10, done=4, done_before=2, started=time.monotonic() - 20.0)
    assert progress.seconds_remaining() == pytest.approx(20.0 / 2 * 6, rel=0.05)


def test_no_time_is_estimated_before_a_run_ends():
    assert SweepProgress(total=10, done=4, done_before=4).seconds_remaining() is None
