"""Sweeps do every run once, tell what failed, and go on where they were left."""

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
from gflow.errors import InputError, Interrupted
from gflow.runs import runner as running
from gflow.sweeping import engine, task
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.folder import SweepFolder, read_plan, run_path, run_states, status
from gflow.sweeping.workers import WorkerConfig
from tests.sweeping.conftest import killing, small_plan


class Counted:
    """The work of a run, counted; some fail once, with an error of their own."""

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
        return task.execute(request, state)

    def __reduce__(self):  # workers are in this process: they count here
        _COUNTED[id(self)] = self
        return _counted, (id(self),)


BARE = running.RunOptions(draw=False)
_COUNTED = {}


def _counted(key):
    return _COUNTED[key]


def test_a_sweep_is_its_runs_and_a_second_one_does_what_failed(where, tmp_path):
    plan = small_plan(("t_end", "1.0,3.0"), ("step_size", "0.1"), seeds=3)
    bad = plan.members[2].id
    work = Counted(bad)
    tally = run_sweep(plan, tmp_path, where, execute=work)
    assert (tally.done, tally.failed) == (5, {bad: "OSError: the disk is full"})
    assert status(tmp_path).reasons == tally.failed
    assert status(tmp_path).counts == {"done": 5, "failed": 1}
    again = run_sweep(plan, tmp_path, where, execute=work)
    assert (again.done, again.found, again.failed) == (6, 5, {})
    assert work.began == {m.id: 2 if m.id == bad else 1 for m in plan.members}
    assert status(tmp_path).counts == {"done": 6}
    lines = [json.loads(line) for line in (tmp_path / "sweep.jsonl").read_text().splitlines()]
    assert collections.Counter(line["state"] for line in lines) == {"done": 6, "failed": 1}
    for member in plan.members:  # the same numbers as a run of its own
        alone = running.run(running.Job(member.scenario), tmp_path / "alone" / member.id, BARE)
        inside = gflow.load_run(run_path(tmp_path, member.id))
        xr.testing.assert_identical(inside.result, gflow.load_run(alone.path).result)
        assert not (inside.path / "figures").exists()


def test_a_plan_that_grows_does_what_is_new(where, tmp_path):
    work = Counted()
    run_sweep(small_plan(seeds=2), tmp_path, where, execute=work)
    grown = small_plan(seeds=4)
    assert run_sweep(grown, tmp_path, where, execute=work).found == 2
    assert set(work.began.values()) == {1}
    assert read_plan(tmp_path).members == grown.members


@pytest.mark.parametrize("state", ["interrupted", "damaged", "failed", "nothing"])
def test_a_run_left_in_any_state_is_done(state, where, tmp_path):
    plan = small_plan()
    (member,) = plan.members
    path = run_path(tmp_path, member.id)
    if state != "nothing":
        running.run(running.Job(member.scenario), path, BARE)
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**manifest, "state": state}))
    if state == "damaged":
        (path / "manifest.json").write_text("{")
    SweepFolder(tmp_path).write_text("sweep.toml", "")  # of before
    assert run_states(tmp_path, plan) == {member.id: state if state != "nothing" else "missing"}
    assert run_sweep(plan, tmp_path, where).done == 1
    assert gflow.load_run(path).summary["final_loss"] > 0


def test_a_run_that_another_process_writes_is_left_alone(where, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "_PATIENCE", 0.3)
    plan = small_plan(seeds=2)
    held = run_path(tmp_path, plan.members[0].id)
    SweepFolder(tmp_path).write_text("sweep.toml", "")
    running.run(running.Job(plan.members[0].scenario), held, BARE)
    manifest = json.loads((held / "manifest.json").read_text())
    (held / "manifest.json").write_text(json.dumps({**manifest, "state": "running"}))
    from gflow.runs import folder as store

    folder = store.RunFolder.reopen(held)
    before = (held / "result.nc").stat().st_mtime_ns
    try:
        tally = run_sweep(plan, tmp_path, where)
    finally:
        folder.close()
    assert (tally.done, tally.elsewhere, tally.failed) == (1, 1, {})
    assert (held / "result.nc").stat().st_mtime_ns == before


def test_told_to_stop_it_leaves_checkpoints_and_goes_on_to_the_same_bits(
    where, tmp_path, monkeypatch
):
    plan = small_plan(("method", "tsit5"), ("t_end", "100"), ("step_size", "0.1"), seeds=2)
    look, looks = task._look, itertools.count()

    def told(sweep_id):
        if next(looks) == 20:  # in the midst of a run, which then waits to be stopped
            os.kill(os.getpid(), signal.SIGUSR1)
            end = time.monotonic() + 20
            while sweep_id not in task._STOPPED and time.monotonic() < end:
                time.sleep(0.01)
        look(sweep_id)

    monkeypatch.setattr(task, "_look", told)
    monkeypatch.setattr(engine, "_TICK", 0.02)
    with pytest.raises(Interrupted) as caught:
        run_sweep(plan, tmp_path / "sweep", where)
    assert (caught.value.why, caught.value.folder) == ("SIGUSR1", tmp_path / "sweep")
    assert "interrupted" in run_states(tmp_path / "sweep", plan).values()
    assert run_sweep(plan, tmp_path / "sweep", where).done == 2
    for member in plan.members:
        whole = running.run(running.Job(member.scenario), tmp_path / member.id, BARE).path
        resumed = run_path(tmp_path / "sweep", member.id)
        for name, values in gflow.load_run(whole).result.variables.items():
            np.testing.assert_array_equal(gflow.load_run(resumed).result[name].values, values)


def test_two_sweeps_in_one_folder_and_other_folders_are_refused(where, tmp_path):
    plan = small_plan()
    with SweepFolder(tmp_path / "a").held(plan), pytest.raises(InputError, match="going on"):
        run_sweep(plan, tmp_path / "a", where)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="no sweep's"):
        run_sweep(plan, tmp_path / "b", where)
    (tmp_path / "c").write_text("a file")
    with pytest.raises(InputError, match="cannot write the sweep's folder"):
        run_sweep(plan, tmp_path / "c", where)


def test_lines_that_are_cut_off_or_strange_are_passed_over(where, tmp_path):
    plan = small_plan()
    run_sweep(plan, tmp_path, where)
    with (tmp_path / "sweep.jsonl").open("ab") as file:
        file.write(b'[]\n{"id": 3}\n\xff\n{"id": "x", "state": "failed", "re')
    assert status(tmp_path).counts == {"done": 1}


@pytest.mark.xdist_group("processes")
def test_workers_here_that_die_are_replaced_and_a_run_that_kills_them_is_told(tmp_path):
    plan = small_plan(seeds=5)
    bad = plan.members[1].id
    tally = run_sweep(plan, tmp_path, WorkerConfig(workers=2), execute=killing(bad))
    assert tally.done == 4
    assert tally.failed == {
        bad: "its worker died 4 times: out of memory, or a crash of the process"
    }
    assert status(tmp_path).counts == {"done": 4, "failed": 1}
