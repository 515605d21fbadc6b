"""The engine executes every run once, reports failures, and resumes."""

import collections
import itertools
import json
import os
import signal
import threading
import time

import numpy as np
import pytest
import xarray as xr

import gflow
from gflow.errors import Interrupted
from gflow.runs import folder as run_folder
from gflow.runs import runner
from gflow.sweeping import clusters, engine, task
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.folder import SweepFolder, read_plan, run_path, run_states, status
from gflow.sweeping.workers import WorkerConfig
from tests.sweeping.conftest import killing, small_plan


class Counted:
    """Execute runs and count them; some fail once."""

    def __init__(self, *failing):
        self.began = collections.Counter()
        self.failing = set(failing)
        self._lock = threading.Lock()

    def __call__(self, request, state):
        with self._lock:
            self.began[request.id] += 1
        if request.id in self.failing:
            self.failing.discard(request.id)
            raise OSError("the disk\nis full")
        return task.start_or_resume(request, state)

    def __reduce__(self):  # the workers are threads of this process: they share the counts
        _COUNTED[id(self)] = self
        return _counted, (id(self),)


BARE = runner.RunOptions(draw=False)
_COUNTED = {}


def _counted(key):
    return _COUNTED[key]


def test_sweep_executes_each_run_once_and_repeats_only_failed_runs(workers, tmp_path):
    plan = small_plan(("t_end", "1.0,3.0"), ("step_size", "0.1"), seeds=2)
    bad = plan.members[2].id
    work = Counted(bad)
    progress = run_sweep(plan, tmp_path, workers, execute=work)
    assert (progress.done, progress.failed) == (3, {bad: "OSError: the disk is full"})
    assert status(tmp_path).reasons == progress.failed
    assert status(tmp_path).counts == {"done": 3, "failed": 1}
    again = run_sweep(plan, tmp_path, workers, execute=work)
    assert (again.done, again.done_before, again.failed) == (4, 3, {})
    assert work.began == {m.id: 2 if m.id == bad else 1 for m in plan.members}
    assert status(tmp_path).counts == {"done": 4}
    lines = [json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]
    assert collections.Counter(line["state"] for line in lines) == {"done": 4, "failed": 1}
    for member in plan.members:  # the numbers of an individual run
        alone = runner.run(runner.Job(member.scenario), tmp_path / "alone" / member.id, BARE)
        inside = gflow.load_run(run_path(tmp_path, member.id))
        xr.testing.assert_identical(inside.result, gflow.load_run(alone.path).result)
        assert not (inside.path / "figures").exists()


def test_extended_plan_executes_only_the_new_runs(workers, tmp_path):
    work = Counted()
    run_sweep(small_plan(seeds=2), tmp_path, workers, execute=work)
    grown = small_plan(seeds=4)
    assert run_sweep(grown, tmp_path, workers, execute=work).done_before == 2
    assert set(work.began.values()) == {1}
    assert read_plan(tmp_path).members == grown.members


@pytest.mark.parametrize("state", ["interrupted", "damaged", "failed", "nothing"])
def test_run_in_any_state_is_completed(state, workers, tmp_path):
    plan = small_plan()
    (member,) = plan.members
    path = run_path(tmp_path, member.id)
    if state != "nothing":
        runner.run(runner.Job(member.scenario), path, BARE)
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, "state": state}))
    if state == "damaged":
        (path / "manifest.json").write_text("{")
    SweepFolder(tmp_path).write_text("sweep.toml", "")  # of an existing sweep
    assert run_states(tmp_path, plan) == {member.id: state if state != "nothing" else "missing"}
    assert run_sweep(plan, tmp_path, workers).done == 1
    assert gflow.load_run(path).summary["final_loss"] > 0


def test_run_locked_by_another_process_is_skipped(workers, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "_LOCK_TIMEOUT", 0.3)
    plan = small_plan(seeds=2)
    path = run_path(tmp_path, plan.members[0].id)
    SweepFolder(tmp_path).write_text("sweep.toml", "")
    runner.run(runner.Job(plan.members[0].scenario), path, BARE)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "state": "running"}))
    folder = run_folder.RunFolder.reopen(path)
    before = (path / "result.nc").stat().st_mtime_ns
    try:
        progress = run_sweep(plan, tmp_path, workers)
    finally:
        folder.close()
    assert (progress.done, progress.elsewhere, progress.failed) == (1, 1, {})
    assert (path / "result.nc").stat().st_mtime_ns == before


def test_stopped_sweep_writes_checkpoints_and_resumes_to_the_same_bits(
    workers, tmp_path, monkeypatch
):
    plan = small_plan(("method", "tsit5"), ("t_end", "100"), ("step_size", "0.1"), seeds=2)
    checks, check_stop = itertools.count(), task._check_stop

    def stop_at_check_20(sweep_id):
        if next(checks) == 20:  # in a run, which then waits to be stopped
            os.kill(os.getpid(), signal.SIGUSR1)
            end = time.monotonic() + 10
            while sweep_id not in task._STOPPED_SWEEPS and time.monotonic() < end:
                time.sleep(0.01)
        check_stop(sweep_id)

    monkeypatch.setattr(task, "_check_stop", stop_at_check_20)
    monkeypatch.setattr(engine, "_TICK", 0.02)
    with pytest.raises(Interrupted) as caught:
        run_sweep(plan, tmp_path / "sweep", workers)
    assert (caught.value.why, caught.value.folder) == ("SIGUSR1", tmp_path / "sweep")
    assert "interrupted" in run_states(tmp_path / "sweep", plan).values()
    assert run_sweep(plan, tmp_path / "sweep", workers).done == 2
    for member in plan.members:
        reference = runner.run(runner.Job(member.scenario), tmp_path / member.id, BARE).path
        resumed = gflow.load_run(run_path(tmp_path / "sweep", member.id)).result
        for name, values in gflow.load_run(reference).result.variables.items():
            np.testing.assert_array_equal(resumed[name].values, values)


@pytest.mark.slow
def test_dead_workers_are_replaced_and_a_run_that_kills_them_is_reported(tmp_path, monkeypatch):
    assert clusters._ALLOWED_DEATHS == 3
    monkeypatch.setattr(clusters, "_ALLOWED_DEATHS", 1)  # a worker takes seconds to start
    monkeypatch.setattr(engine, "_TICK", 0.1)
    plan = small_plan(seeds=3)
    bad = plan.members[1].id
    progress = run_sweep(plan, tmp_path, WorkerConfig(workers=1), execute=killing(bad))
    assert progress.done == 2
    assert progress.failed == {
        bad: "its worker died 2 times: out of memory, or a crash of the process"
    }
    assert status(tmp_path).counts == {"done": 2, "failed": 1}
