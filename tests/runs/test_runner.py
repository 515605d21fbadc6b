"""A run whose folder cannot be written ends with one error of one line, and can be resumed."""

import json
import shutil
import sys
import threading

import pytest

from gflow.errors import InputError, Interrupted, OutputError
from gflow.execution import checkpointing as keeping
from gflow.runs import checkpoints as shelf
from gflow.runs import folder as store
from gflow.runs import reading
from gflow.runs import runner as running
from gflow.runs.runner import Job, RunOptions
from tests.execution.test_checkpointing import job

OFTEN = RunOptions(draw=False, checkpoint_every=1e-9)


@pytest.fixture(autouse=True)
def _written_often(monkeypatch):
    monkeypatch.setattr(keeping, "_SPACING", 0)


def small():
    return Job(job("deep-linear"))


def full(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["safetensors.numpy.save_file", "numpy.savez", "os.fsync"])
def test_full_disk(what, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        begin = store.RunFolder.begin

        def begin_then_fill(self, *args):
            begin(self, *args)
            patch.setattr(what, full)

        patch.setattr(store.RunFolder, "begin", begin_then_fill)
        with pytest.raises(OutputError, match=r"No space left .*; once .* resume by: gflow resume"):
            running.run(small(), tmp_path / "run", OFTEN)
    assert reading.state(tmp_path / "run") == "interrupted"
    assert running.resume(tmp_path / "run", OFTEN).summary["certificate"]["holds"]
    assert reading.state(tmp_path / "run") == "done"
    assert not (tmp_path / "run" / "parts").exists()


def test_folder_that_is_removed(tmp_path, monkeypatch):
    put = shelf.FolderCheckpointStore.put_checkpoint

    def gone(self, *args):
        shutil.rmtree(tmp_path / "run")
        put(self, *args)

    monkeypatch.setattr(shelf.FolderCheckpointStore, "put_checkpoint", gone)
    with pytest.raises(OutputError, match="No such file or directory"):
        running.run(small(), tmp_path / "run", OFTEN)
    assert not (tmp_path / "run").exists()


def test_an_error_fails_a_run_with_checkpoints_and_discards_one_without(tmp_path, monkeypatch):
    def breaks(*args):
        raise ValueError("a fault")

    monkeypatch.setattr(sys.modules["gflow.studies.flow_and_descent"], "stability_limit", breaks)
    with pytest.raises(ValueError, match="a fault"):
        running.run(small(), tmp_path / "short", RunOptions(draw=False))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("gflow.runs.signals._SIGNALS", ())
    scenario = small().scenario.model_copy(update={"step_sizes": (0.1,)})
    with pytest.raises(ValueError, match="a fault"):
        running.run(Job(scenario), tmp_path / "long", OFTEN)
    assert reading.state(tmp_path / "long") == "failed"
    with pytest.raises(InputError, match="is failed: ValueError: a fault; run it again"):
        running.resume(tmp_path / "long")


def test_time_limit_in_a_thread_that_gets_no_signals(tmp_path):
    found = []

    def work():
        try:
            running.run(small(), tmp_path / "run", RunOptions(draw=False, max_walltime=1e-9))
        except Interrupted as stop:
            found.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [(stop.why, stop.folder) for stop in found] == [("time", tmp_path / "run")]
    assert reading.state(tmp_path / "run") == "interrupted"
    assert running.resume(tmp_path / "run", RunOptions(draw=False)).path == tmp_path / "run"


def test_another_version_does_not_resume_a_run(tmp_path):
    with pytest.raises(Interrupted):
        running.run(small(), tmp_path / "run", RunOptions(draw=False, max_walltime=1e-9))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps({**manifest, "gflow": "0.0.1"}))
    with pytest.raises(InputError, match=r"started by gflow '0.0.1', this is .*; resume it with"):
        running.resume(tmp_path / "run")
    assert reading.state(tmp_path / "run") == "interrupted"
