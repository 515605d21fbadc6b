"""A run whose folder cannot be written ends with one error of one line, and can be resumed."""

import json
import shutil
import sys
import threading

import pytest

from gflow.errors import InputError, Interrupted, OutputError
from gflow.execution import checkpointing
from gflow.runs import checkpoints, reading, runner
from gflow.runs import folder as store
from gflow.runs.runner import Job, RunOptions
from tests.execution.test_checkpointing import small_scenario
from tests.helpers import slow_except

OFTEN = RunOptions(draw=False, checkpoint_every=1e-9)


@pytest.fixture(autouse=True)
def _written_often(monkeypatch):
    monkeypatch.setattr(checkpointing, "_SPACING", 0)


def small():
    return Job(small_scenario("deep-linear"))


def full(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "function",
    slow_except(["safetensors.numpy.save_file", "numpy.savez", "os.fsync"], "numpy.savez"),
)
def test_a_full_disk_interrupts_the_run(function, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        begin = store.RunFolder.begin

        def begin_and_fill(self, *args):
            begin(self, *args)
            patch.setattr(function, full)

        patch.setattr(store.RunFolder, "begin", begin_and_fill)
        with pytest.raises(OutputError, match=r"No space left .*; once .* resume by: gflow resume"):
            runner.run(small(), tmp_path / "run", OFTEN)
    assert reading.state(tmp_path / "run") == "interrupted"
    assert runner.resume(tmp_path / "run", OFTEN).summary["certificate"]["holds"]
    assert reading.state(tmp_path / "run") == "done"
    assert not (tmp_path / "run" / "parts").exists()


def test_a_removed_folder_is_an_error(tmp_path, monkeypatch):
    put = checkpoints.FolderCheckpointStore.put_checkpoint

    def gone(self, *args):
        shutil.rmtree(tmp_path / "run")
        put(self, *args)

    monkeypatch.setattr(checkpoints.FolderCheckpointStore, "put_checkpoint", gone)
    with pytest.raises(OutputError, match="No such file or directory"):
        runner.run(small(), tmp_path / "run", OFTEN)
    assert not (tmp_path / "run").exists()


def test_an_error_fails_a_run_with_checkpoints_and_discards_one_without(tmp_path, monkeypatch):
    def breaks(*args):
        raise ValueError("a fault")

    monkeypatch.setattr(sys.modules["gflow.studies.flow_and_descent"], "stability_limit", breaks)
    with pytest.raises(ValueError, match="a fault"):
        runner.run(small(), tmp_path / "short", RunOptions(draw=False))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("gflow.runs.signals._SIGNALS", ())
    scenario = small().scenario.model_copy(update={"step_sizes": (0.1,)})
    with pytest.raises(ValueError, match="a fault"):
        runner.run(Job(scenario), tmp_path / "long", OFTEN)
    assert reading.state(tmp_path / "long") == "failed"
    with pytest.raises(InputError, match="is failed: ValueError: a fault; run it again"):
        runner.resume(tmp_path / "long")


def test_time_limit_in_a_thread_that_gets_no_signals(tmp_path):
    interruptions = []

    def work():
        try:
            runner.run(small(), tmp_path / "run", RunOptions(draw=False, max_walltime=1e-9))
        except Interrupted as interruption:
            interruptions.append(interruption)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [(interruption.why, interruption.folder) for interruption in interruptions] == [
        ("time", tmp_path / "run")
    ]
    assert reading.state(tmp_path / "run") == "interrupted"
    assert runner.resume(tmp_path / "run", RunOptions(draw=False)).path == tmp_path / "run"


def test_another_version_does_not_resume_a_run(tmp_path):
    with pytest.raises(Interrupted):
        runner.run(small(), tmp_path / "run", RunOptions(draw=False, max_walltime=1e-9))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({**manifest, "gflow": "0.0.1"}))
    with pytest.raises(InputError, match=r"started by gflow '0.0.1', this is .*; resume it with"):
        runner.resume(tmp_path / "run")
    assert reading.state(tmp_path / "run") == "interrupted"
