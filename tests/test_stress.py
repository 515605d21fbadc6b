"""Small versions of what tests/stress/ does at length."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("processes")
STRESS = Path(__file__).parent / "stress"


def stress(*words, seconds=300):
    command = [sys.executable, str(STRESS / words[0]), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)


@pytest.mark.skipif(sys.platform != "linux", reason="forked, and tied to their parent by prctl")
def test_runs_stopped_at_random_moments_end_bit_identically():
    counts = ["--kill", "2", "--term", "1", "--other", "0", "--processes", "0", "--changes", "0"]
    done = stress("kill.py", *counts, "--case", "bdf")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGKILL 2" in done.stdout
    assert "SIGTERM 1" in done.stdout


@pytest.mark.skipif("GFLOW_TEST_SLURM" not in os.environ, reason="set GFLOW_TEST_SLURM to run it")
def test_sweep_on_slurm_survives_a_cancelled_job():
    done = stress("slurm.py", seconds=1200)
    if done.stdout.startswith("skipped"):
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
