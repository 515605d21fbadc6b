"""A run's folder made by somebody else: nothing outside it is read or written, no code runs."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import gflow
from gflow.errors import InputError, Interrupted
from gflow.runs import folder as store
from gflow.runs import reading, runner
from gflow.scenario import load_scenario
from tests.cli.test_main import call
from tests.helpers import slow_except

SMALL = {"data": "synthetic", "samples": 6, "inputs": 2, "points": 3, "t_end": 1.0}
SMALL |= {"width": 3, "depth": 1, "step_sizes": (0.25,), "method": "tsit5", "rtol": 1e-3}


def interrupted(path, *, at="flow", **keys):
    """Interrupt a run in a stage; return its folder."""

    def report(t, loss):
        signal.raise_signal(signal.SIGTERM)

    job = runner.Job(load_scenario("network", {**SMALL, **keys}))
    options = runner.RunOptions(
        lambda name, t_end: report if name.startswith(at) else None, draw=False
    )
    with pytest.raises(Interrupted):
        runner.run(job, path, options)
    return path


def read_metadata(run):
    """Return the metadata of a checkpoint."""
    with safe_open(run / "checkpoint.safetensors", framework="numpy") as opened:
        return json.loads(opened.metadata()["gflow"])


def write_metadata(run, metadata):
    """Replace the metadata of a checkpoint."""
    file = run / "checkpoint.safetensors"
    save_file(load_file(file), file, {"gflow": json.dumps(metadata)})


FILES = ["manifest.json", "scenario.toml", "summary.json", "result.nc"]
PARTS = [".manifest.json.part", ".result.nc.part", ".summary.json.part"]


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def _done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "done"
    runner.run(runner.Job(load_scenario("network", SMALL)), folder, runner.RunOptions(draw=False))
    return folder


@pytest.fixture
def done(_done, tmp_path):
    """A copy of a run that is done."""
    return shutil.copytree(_done, tmp_path / "done")


@pytest.mark.parametrize("name", slow_except(FILES, "manifest.json"))
def test_links_out_of_the_folder_are_not_followed(name, done, tmp_path):
    (done / name).rename(tmp_path / "elsewhere")
    (done / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"damaged run at .*{name}: it is a link"):
        gflow.load_run(done)


@pytest.mark.parametrize("name", slow_except(FILES, "manifest.json"))
def test_pipes_are_not_read(name, done):
    (done / name).unlink()
    os.mkfifo(done / name)
    with pytest.raises(InputError, match=rf"damaged run at .*{name}: it is not a plain file"):
        gflow.load_run(done)


def test_metrics_that_are_a_pipe_are_not_read(tmp_path):
    run = interrupted(tmp_path / "run")
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    assert reading.state(run) == "interrupted"
    assert reading.last_metrics(run) == {}
    with pytest.raises(InputError, match=r"metrics.jsonl must be a plain file"):
        runner.resume(run)


def test_manifest_without_a_state_is_damaged(done):
    (done / "manifest.json").write_text("{}")
    assert reading.state(done) == "damaged"


@pytest.mark.parametrize("name", slow_except(PARTS, ".result.nc.part"))
def test_resuming_writes_through_no_link(name, tmp_path):
    run = interrupted(tmp_path / "run")
    (tmp_path / "mine").write_text("mine")
    (run / name).symlink_to(tmp_path / "mine")
    runner.resume(run, runner.RunOptions(draw=False))
    assert (tmp_path / "mine").read_text() == "mine"
    assert reading.state(run) == "done"


def test_a_folder_in_the_place_of_a_file_is_one_error(tmp_path):
    run = interrupted(tmp_path / "run")
    (run / ".manifest.json.part" / "inside").mkdir(parents=True)
    completed = call("resume", run)
    assert completed.status == 7
    assert completed.err == f"gflow: cannot write {run / 'manifest.json'}: Is a directory\n"
    assert reading.state(run) == "interrupted"


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "checkpoint.previous.safetensors"])
def test_folders_in_the_place_of_checkpoints_are_removed_when_the_run_is_done(name, tmp_path):
    run = interrupted(tmp_path / "run")
    (run / name).unlink(missing_ok=True)
    (run / name / "inside").mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checkpoint is damaged
        runner.resume(run, runner.RunOptions(draw=False))
    assert reading.state(run) == "done"
    assert not (run / name).exists()


def test_code_named_by_a_run_folder_is_not_run(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nopen('ran', 'w').close()\n"
        "def make(): return nn.Sequential(nn.Linear(2, 1))\n"
    )
    try:
        run = interrupted(tmp_path / "run", model="mine:make")
        (tmp_path / "ran").unlink()
        sys.modules.pop("mine")
        completed = call("resume", run)
        assert completed.status == 2
        assert "if you trust it, pass --model mine:make" in completed.err
        assert call("resume", run, "--model", "other:make").status == 2
        assert call("inspect", run).status == 0
        assert not (tmp_path / "ran").exists()
        assert call("resume", run, "--model", "mine:make").status == 0
        assert (tmp_path / "ran").exists()
    finally:
        sys.modules.pop("mine", None)


def test_checkpoints_that_make_no_sense_are_one_error(tmp_path):
    run = interrupted(tmp_path / "run", at="descent")
    (part,) = (run / "parts").iterdir()
    with np.load(part) as archive:
        arrays = dict(archive)
    metadata = json.loads(arrays["0"].tobytes())
    del metadata["meta"]["failures"]
    arrays["0"] = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    np.savez(part, **arrays)
    completed = call("resume", run)
    assert completed.status == 2
    assert "cannot be resumed (KeyError: 'failures'); run it again" in completed.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certificate": 3}, "unexpected contents (TypeError: "),
        ({"descent": [{"step_size": "x"}]}, "unexpected contents (KeyError: "),
        ({"descent": 3}, "summary.json: a summary of kind 'flow-and-descent' must have a list"),
        ({"a": 1}, "summary.json: a summary must name its kind, one of "),
    ],
)
def test_a_damaged_summary_is_reported_in_one_line(change, message, done):
    summary = json.loads((done / "summary.json").read_text())
    (done / "summary.json").write_text(json.dumps(change if "a" in change else summary | change))
    completed = call("inspect", done)
    assert completed.status == 2
    assert completed.err.startswith(f"gflow: damaged run at {done}: {message}")
    assert completed.err.count("\n") == 1


def test_control_characters_are_not_printed(done, tmp_path):
    manifest = json.loads((done / "manifest.json").read_text())
    manifest |= {"gflow": "\x1b[2J", "command": ["\x9b2J", "\u202e"], "written": "\x1b]0;"}
    (done / "manifest.json").write_text(json.dumps(manifest))
    summary = json.loads((done / "summary.json").read_text())
    summary["certificate"]["failures"] = ["[/b]\x1b[2J"]
    (done / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "a\x1b[2J\n").mkdir()
    done.rename(tmp_path / "a\x1b[2J\n" / "run")
    for command in ("inspect", "runs"):
        for form in ([], ["--json"]):
            place = "." if command == "runs" else tmp_path / "a\x1b[2J\n" / "run"
            completed = call(command, place, *form)
            assert completed.status == 0, completed
            assert not set("\x1b\x9b\u202e") & set(completed.out + completed.err)
            assert "a" in completed.out
    assert json.loads(completed.out)[0]["folder"] == "a\x1b[2J\n/run"


@pytest.mark.slow
def test_texts_of_a_checkpoint_are_printed_without_control_characters(tmp_path):
    run = interrupted(tmp_path / "run")
    metadata = read_metadata(run)
    metadata["meta"]["switches"] = ["\x1b[2J"]
    write_metadata(run, metadata)
    completed = call("resume", run)
    assert completed.status in (0, 4), completed
    assert "\x1b" not in completed.out
    assert "[2J" in completed.out  # the checkpoint was used


@pytest.mark.slow
def test_a_folder_name_need_not_be_valid_text(tmp_path):
    command = [sys.executable, "-m", "gflow", "kernel", "--data", "synthetic", "--samples", "4"]
    command += [
        "--test-samples",
        "2",
        "--inputs",
        "2",
        "--points",
        "3",
        "--t-end",
        "2",
        "--json",
        "--output",
    ]
    done = subprocess.run([*command, b"out\xff"], capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folder"] == "out\udcff"
    assert reading.state(tmp_path / "out\udcff") == "done"
    assert gflow.load_run(tmp_path / "out\udcff").manifest["command"][-1] == "out\udcff"


def test_a_full_disk_changes_no_existing_run(done, monkeypatch):
    before = sorted(done.rglob("*"))

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with contextlib.suppress(InputError):
        store.RunFolder(done)
    assert sorted(done.rglob("*")) == before
