"""`gflow sweep`, `gflow sweep status`, `gflow plot` and `gflow resume` of a sweep."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import xarray as xr

from gflow.cli import main as cli

FIXED = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=3.0 step_size=0.1"


def small(**sets):
    """Return the options of a small sweep, with some keys set otherwise."""
    specs = dict(word.split("=") for word in FIXED.split()) | sets
    return [part for key, spec in specs.items() for part in ("--set", f"{key}={spec}")]


def gflow(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    return caught.value.code


def test_a_sweep_from_the_command_line(workers, tmp_path, capsys):
    folder = tmp_path / "sweep"
    command = ["sweep", "kernel", *small(t_end="1,3"), "--seeds", 2, "--output", folder]
    command += ["--scheduler", workers.scheduler]
    assert gflow(*command) == 0
    out = capsys.readouterr().out
    assert "runs      4 done, of 4" in out
    assert f"dataset   {folder}/sweep.nc" in out
    assert xr.load_dataset(folder / "sweep.nc").final_loss.shape == (2, 2)
    assert gflow(*command, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["counts"] == {"done": 4}
    assert gflow("sweep", "status", folder) == 0
    assert "runs      4 done, of 4" in capsys.readouterr().out
    assert gflow("plot", folder, "--x", "t_end", "--y", "final_loss", "--hue", "seed") == 0
    paths = capsys.readouterr().out.split()
    assert paths == [f"{folder}/figures/final_loss-t_end-seed.{kind}" for kind in ("png", "pdf")]
    assert all(os.path.getsize(path) > 1000 for path in paths)


def test_failures_are_listed_with_their_reason_and_a_status(workers, tmp_path, capsys):
    (tmp_path / "bad.csv").write_text("nonsense")
    data = f"synthetic,{tmp_path / 'bad.csv'}"
    command = ["sweep", "kernel", *small(data=data), "--output", tmp_path / "s"]
    assert gflow(*command, "--scheduler", workers.scheduler) == 6
    out = capsys.readouterr().out
    assert "runs      1 done, 1 failed, of 2" in out
    (line,) = [line for line in out.splitlines() if line.startswith("failed")]
    assert f"data = {tmp_path / 'bad.csv'}" in line
    assert "bad.csv" in line.split(": ", 1)[1]


def test_a_dry_run_prints_the_runs_or_the_job_and_writes_nothing(tmp_path, capsys):
    folder = tmp_path / "sweep"
    command = ["sweep", "kernel", *small(), "--seeds", 3, "--output", folder, "--dry-run"]
    assert gflow(*command) == 0
    assert [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "seed = 0",
        "seed = 1",
        "seed = 2",
    ]
    assert gflow(*command, "--slurm", "--slurm-queue", "long") == 0
    assert "#SBATCH -p long" in capsys.readouterr().out
    assert not folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "kernle"], "did you mean 'kernel'"),
        (["sweep", "--seeds", "3"], "the scenario must come first"),
        (
            ["sweep", "kernel", "--set", "points"],
            "--set must read KEY=SPEC, got 'points'; for example --set depth=2,3",
        ),
        (["sweep", "kernel", "--data", "iris"], "no option --data; set it with --set data=iris"),
        (["sweep", "kernel", "--t-end=3,4"], "no option --t-end; set it with --set t_end=3,4"),
        (["sweep", "kernel", "--step-size", "1"], "set it with --set step_size=1"),
        (["sweep", "kernel", "--point", "1"], "there is no option --point"),
        (["sweep", "kernel", "--depth"], "no option --depth; set it with --set depth=VALUE"),
        (["sweep", "kernel", "--depth", "--json"], "set it with --set depth=VALUE"),
        (["sweep", "kernel", "--aparte"], "no option --aparte; did you mean --apart?"),
        (["sweep", "no.toml", "--data", "iris"], "cannot read the scenario file"),
        (["sweep", "kernel", "--set", "points=x"], "an integer"),
        (["sweep", "kernel", "--set", "depth=2", "--set", "depth=3"], "--set depth=2,3"),
        (["sweep", "kernel", "--seeds", "0"], "from 1 to"),
        (["sweep", "kernel", "--slurm-queue", "x"], "pass that too"),
        (["sweep", "kernel", "--slurm", "--scheduler", "tcp://127.0.0.1:1"], "pass one"),
        (["sweep", "kernel", "--scheduler", "tcp://example.org:1", "--output", "o"], "TLS"),
        (["sweep", "no.toml"], "cannot read the scenario file"),
        (["sweep", "status", "nowhere"], "no sweep at nowhere"),
        (["plot", "nowhere", "--x", "a", "--y", "b"], "no sweep at nowhere"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert gflow(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("gflow: ")
    assert message in error
    assert error.count("\n") == 1


def test_help_lists_commands_and_options(capsys):
    assert gflow("sweep", "--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "status FOLDER" in out
    assert "gflow sweep SCENARIO --help lists the options" in out
    assert gflow("sweep", "kernel", "--help") == 0
    assert "--scheduler" in capsys.readouterr().out


@pytest.mark.slow
def test_a_terminated_sweep_prints_how_to_resume_and_stores_its_runs(tmp_path):
    folder = tmp_path / "sweep"
    command = [sys.executable, "-m", "gflow", "sweep", "kernel", *small(), "--seeds", "400"]
    command += ["--workers", "1", "--output", str(folder)]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 100
    log = folder / "sweep.jsonl"
    while time.monotonic() < end and not (log.exists() and log.stat().st_size > 0):
        time.sleep(0.1)
    driver.send_signal(signal.SIGTERM)
    _, error = driver.communicate(timeout=60)
    assert driver.returncode == 143
    assert f"resume it by: gflow resume {folder}" in error
    assert "Traceback" not in error
    assert 0 < len(list((folder / "runs").iterdir())) < 400
