"""Tasks of a worker: single runs in every state; groups that are stopped, killed or fail."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gflow.errors import Interrupted, OutputError
from gflow.runs import folder as run_folder
from gflow.solvers.loop import stepping
from gflow.sweeping import task
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.folder import run_states
from gflow.sweeping.grouping import GroupFolder, units_of_work
from gflow.sweeping.workers import WorkerConfig
from tests.sweeping.groups import (
    assert_same_bits,
    execute_only_group,
    linear_plan,
    requests_of,
    result_arrays,
    stop,
    stop_group_at,
)


def test_failing_run_of_a_group_does_not_affect_the_others(workers, tmp_path):
    plan = linear_plan(("init_scale", "0.1,0.2,0.4"), ("max_evals", "100000"))
    bad = plan.members[1].id

    def work(request, state):
        if request.id == bad:
            raise OSError("the disk is full")
        return task.start_or_resume(request, state)

    progress = run_sweep(
        plan, tmp_path, WorkerConfig(scheduler=workers.scheduler, workers=1), execute=work
    )
    assert progress.failed == {bad: "OSError: the disk is full"}
    assert (progress.done, progress.running) == (2, 0)


@pytest.mark.slow
def test_group_stopped_anywhere_ends_with_the_same_bits(tmp_path, monkeypatch):
    plan = linear_plan(("t_end", "4.0,8.0"), seeds=2)
    assert [r["state"] for r in execute_only_group(plan, tmp_path / "undisturbed")] == ["done"] * 4
    truth = result_arrays(tmp_path / "undisturbed", plan)
    checks = [0]
    monkeypatch.setattr(task, "_check_stop", lambda sweep_id: checks.__setitem__(0, checks[0] + 1))
    execute_only_group(plan, tmp_path / "counted")
    total, rng = checks[0], random.Random(0)
    for trial in range(3):
        folder, stops_at = tmp_path / str(trial), sorted(rng.sample(range(1, total), 3))
        checks[0] = 0

        def check_stop(sweep_id, stops_at=stops_at):
            checks[0] += 1
            if stops_at and checks[0] >= stops_at[0]:
                stops_at.pop(0)
                stop()

        monkeypatch.setattr(task, "_check_stop", check_stop)
        stops = 0
        while any(state != "done" for state in run_states(folder, plan).values()):
            records = execute_only_group(plan, folder)
            assert {r["state"] for r in records} <= {"interrupted", "done"}, records
            stops += any(r["state"] == "interrupted" for r in records)
        assert stops >= 2
        assert_same_bits(truth, result_arrays(folder, plan))


_PROGRAM = """
import sys
from pathlib import Path
from tests.sweeping.groups import execute_only_group, linear_plan
print("begun", flush=True)
execute_only_group(linear_plan(seeds=4), Path(sys.argv[1]), every=0.0)
"""


@pytest.mark.slow
def test_group_killed_while_saving_ends_with_the_same_bits(tmp_path):
    """Some runs are done and some are not: the ensembles must still have all members."""
    plan = linear_plan(seeds=4)
    execute_only_group(plan, tmp_path / "undisturbed")
    truth = result_arrays(tmp_path / "undisturbed", plan)
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, folder], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"begun\n"  # imports take seconds
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if "done" in run_states(folder, plan).values():
            break
        time.sleep(0.001)
    process.kill()
    process.wait()
    process.stdout.close()
    states = list(run_states(folder, plan).values())
    assert states.count("done") >= 1
    if states.count("done") == len(plan.members):
        pytest.skip("all runs were done before the kill")
    records = execute_only_group(plan, folder)
    assert [r["state"] for r in records] == ["done"] * 4
    assert_same_bits(truth, result_arrays(folder, plan))


@pytest.mark.slow
def test_solves_of_a_group_survive_a_full_disk(tmp_path, monkeypatch):
    plan = linear_plan(seeds=3)
    execute_only_group(plan, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:

        def full(self, name, dataset):
            raise OutputError("cannot write: no space left on device")

        patch.setattr(run_folder.RunFolder, "write_dataset", full)
        records = execute_only_group(plan, tmp_path / "full")
    assert all(r["state"] == "failed" and "no space" in r["reason"] for r in records)
    monkeypatch.setattr(stepping.SteppingLoop, "run", None)  # nothing is solved again
    assert [r["state"] for r in execute_only_group(plan, tmp_path / "full")] == ["done"] * 3
    assert_same_bits(
        result_arrays(tmp_path / "undisturbed", plan), result_arrays(tmp_path / "full", plan)
    )


@pytest.mark.slow
def test_group_submitted_twice_is_executed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(task, "_LOCK_TIMEOUT", 0.3)
    plan = linear_plan(seeds=2)
    (unit,) = units_of_work(plan, tmp_path, run_states(tmp_path, plan), 1)
    folder = GroupFolder(unit.folder)
    folder.create(unit.members)
    with folder.lock(0.0) as acquired:
        assert acquired
        records = task.execute_unit(requests_of(plan, tmp_path), folder=str(unit.folder))
    assert [r["state"] for r in records] == ["running"] * 2
    assert unit.folder.is_dir()
    assert [r["state"] for r in execute_only_group(plan, tmp_path)] == ["done"] * 2


def test_group_resumes_with_fewer_and_with_more_runs(tmp_path, monkeypatch):
    """One run fails before its first solve, or is done by another process meanwhile."""
    plan = linear_plan(seeds=3)
    failing = [plan.members[0].id]

    def work(request, state):
        if request.id in failing:
            raise OSError("not now")
        return task.start_or_resume(request, state)

    stop_group_at(40, monkeypatch)
    (unit,) = units_of_work(plan, tmp_path, run_states(tmp_path, plan), 1)
    GroupFolder(unit.folder).create(unit.members)
    requests = requests_of(plan, tmp_path)
    records = task.execute_unit(requests, work, folder=str(unit.folder))
    assert [r["state"] for r in records] == ["failed", "interrupted", "interrupted"]
    failing.clear()
    stop_group_at(60, monkeypatch)
    records = task.execute_unit(requests, work, folder=str(unit.folder))
    assert {r["state"] for r in records} == {"interrupted"}
    failing.append(plan.members[1].id)
    records = task.execute_unit(requests, work, folder=str(unit.folder))
    assert [r["state"] for r in records] == ["done", "failed", "done"]


@pytest.mark.slow
def test_group_stops_within_a_descent(tmp_path, monkeypatch):
    sets = ("step_size", "1e-4"), ("t_end", "100.0"), ("method", "tsit5"), ("rtol", "1e-3")
    plan = linear_plan(*sets, seeds=2)
    stopped = []

    def check_stop(sweep_id):
        if Path(sys._getframe(2).f_code.co_filename).parent.name == "descent":
            stopped.append(time.monotonic())
            stop()

    monkeypatch.setattr(task, "_check_stop", check_stop)
    records = execute_only_group(plan, tmp_path)
    assert [r["state"] for r in records] == ["interrupted"] * 2
    assert time.monotonic() - stopped[0] < 10


@pytest.mark.slow
def test_unit_whose_group_folder_is_gone_is_executed_run_by_run(tmp_path):
    """Its worker died after the group was done, before it returned the records."""
    plan = linear_plan(seeds=2)
    execute_only_group(plan, tmp_path)
    folder = str(tmp_path / "together" / "gone")
    records = task.execute_unit(requests_of(plan, tmp_path), folder=folder)
    assert [r["state"] for r in records] == ["done"] * 2
    assert not any("numbers" in record for record in records)  # they were done before


@pytest.mark.parametrize("state", ["failed", "damaged"])
def test_failed_and_damaged_runs_are_restarted_in_an_empty_folder(state, tmp_path, monkeypatch):
    path = tmp_path / "run"
    path.mkdir()
    monkeypatch.setattr(task, "_state", lambda request: state)
    request = task.RunRequest("a1", str(path), {})
    summary = {"kind": "width", "widths": []}
    record = task.execute_run(request, lambda _, state: {**summary, "exists": path.exists()})
    assert (record["state"], record["numbers"]) == ("done", {"exists": 0.0})


def test_done_and_running_runs_are_not_executed(tmp_path, monkeypatch):
    monkeypatch.setattr(task, "_LOCK_TIMEOUT", 0.0)
    request = task.RunRequest("a1", str(tmp_path), {})
    for state in ("done", "running"):
        monkeypatch.setattr(task, "_state", lambda request, state=state: state)
        record = task.execute_run(request, lambda request, state: 1 / 0)
        assert record == {"id": "a1", "state": state, "reason": None}


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (OutputError("no space\nleft"), "failed", "no space left"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError: no message"),
        (MemoryError("x" * 999), "failed", "MemoryError: " + "x" * 500),
        (Interrupted("SIGTERM"), "interrupted", None),
    ],
)
def test_errors_become_records(error, state, reason, tmp_path):
    def execute(request, state):
        raise error

    record = task.execute_run(task.RunRequest("a1", str(tmp_path / "run"), {}), execute)
    assert (record["state"], record["reason"]) == (state, reason)
