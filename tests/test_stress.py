"""Small versions of the scripts in tests/stress."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

STRESS = Path(__file__).parent / "stress"


def stress(*words, seconds=300):
    command = [sys.executable, str(STRESS / words[0]), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs fork and prctl")
def test_runs_stopped_at_random_moments_end_with_the_same_bits():
    counts = ["--kill", "1", "--term", "1", "--other", "0", "--processes", "0", "--changes", "0"]
    done = stress("kill.py", *counts, "--case", "bdf")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SIGKILL 1" in done.stdout
    assert "SIGTERM 1" in done.stdout


@pytest.mark.skipif("GFLOW_TEST_SLURM" not in os.environ, reason="set GFLOW_TEST_SLURM to run it")
def test_sweep_on_slurm_survives_a_cancelled_job():
    done = stress("slurm.py", seconds=1200)
    if done.stdout.startswith("skipped"):
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in STRESS.glob("*.py")))
def test_scripts_can_be_imported(name, monkeypatch):
    monkeypatch.syspath_prepend(STRESS)
    spec = importlib.util.spec_from_file_location(f"stress_{name}", STRESS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # for dataclasses
    spec.loader.exec_module(module)


def test_functions_whose_costs_are_measured_exist():
    from tests.stress import checkpoint_costs as costs

    clock = costs.Clock()
    with costs._count_inside(clock), costs._without_checkpoints_and_metrics():
        assert clock.seconds == 0.0
