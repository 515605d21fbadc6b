"""The benchmark of the kernels runs and writes its table."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "kernels.py"


@pytest.mark.slow
def test_small_run(tmp_path):
    result = tmp_path / "kernels.md"
    options = ["--points", "50", "--repeats", "1", "--large", "80", "--result", str(result)]
    command = [sys.executable, "-W", "ignore", str(BENCHMARK), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr  # 1: fixed costs dominate at this size
    assert "ntk of 80 points in float32 will take" in done.stderr
    assert result.read_text() == done.stdout
    for row in ("needed", "ntk relu", "ntk relu, x2 given", "nngp relu", "ntk gelu"):
        assert f"| {row} |" in done.stdout
