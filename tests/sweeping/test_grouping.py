"""Which runs go together; and groups that are stopped, killed or poisoned."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import gflow
from gflow.errors import InputError, Interrupted, OutputError
from gflow.execution import checkpointing as keeping
from gflow.runs import folder as store
from gflow.runs import runner as running
from gflow.settings.base import ENSEMBLE_METHODS
from gflow.solvers import methods
from gflow.solvers.loop import stepping
from gflow.sweeping import engine, grouping, task
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.folder import SweepFolder, run_path, run_states
from gflow.sweeping.grouping import GroupFolder, units
from gflow.sweeping.plan import make_plan
from gflow.sweeping.workers import WorkerConfig
from tests.sweeping.conftest import killing

MISSING = "missing"


def linear_plan(*sets, **options):
    """Runs of the two-layer network that differ in their start."""
    fixed = "samples=60 depth=2 t_end=4.0 points=4 step_size=0.2 rtol=1e-6"
    return make_plan("deep-linear", [*(w.split("=") for w in fixed.split()), *sets], **options)


def made(plan, folder, workers, states=None):
    """Units as indices into the plan's members."""
    found = units(plan, folder, states or {m.id: MISSING for m in plan.members}, workers)
    for unit in found:
        if unit.kept is not None:
            GroupFolder(unit.kept).begin(unit.members)
    index = {m.id: i for i, m in enumerate(plan.members)}
    return [[index[m.id] for m in unit.members] for unit in found]


def test_runs_that_differ_in_start_times_and_descents_go_together(tmp_path):
    plan = linear_plan(("depth", "2,3"), ("step_size", "0.2,0.1"), ("init_scale", "0.1,0.2"))
    assert made(plan, tmp_path, workers=1) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_no_worker_is_idle_while_another_has_a_group_that_could_be_two(tmp_path):
    plan = linear_plan(seeds=10)
    assert made(plan, tmp_path / "a", workers=4) == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]
    assert made(plan, tmp_path / "b", workers=20) == [[i] for i in range(10)]
    many = linear_plan(seeds=70)
    assert max(map(len, made(many, tmp_path / "c", workers=1))) <= grouping.MOST_RUNS


def test_runs_with_flows_of_their_own_are_alone(tmp_path):
    drawn = linear_plan(("data", "synthetic"), seeds=3)  # the seed draws the data
    assert made(drawn, tmp_path, workers=1) == [[0], [1], [2]]
    masks = make_plan("factorization", [("t_end", "1.0")], seeds=2)
    assert made(masks, tmp_path, workers=1) == [[0], [1]]
    apart = linear_plan(seeds=3, apart=True)
    assert made(apart, tmp_path, workers=1) == [[0], [1], [2]]


def test_groups_stay_as_they_were_settled(tmp_path):
    plan = linear_plan(seeds=8)
    before = made(plan, tmp_path, workers=2)
    states = {m.id: MISSING for m in plan.members}
    for i in before[0][:2]:
        states[plan.members[i].id] = "done"
    assert sorted(made(plan, tmp_path, 4, states)) == sorted(before)  # whatever workers there are
    states |= {plan.members[i].id: "done" for i in before[0]}
    assert made(plan, tmp_path, 4, states) == before[1:]
    grown = linear_plan(seeds=10)
    states |= {m.id: MISSING for m in grown.members[8:]}
    assert sorted(map(len, made(grown, tmp_path, 1, states))) == [2, 4]


def test_a_run_that_was_begun_alone_goes_on_alone(tmp_path):
    plan = linear_plan(seeds=4)
    states = {m.id: MISSING for m in plan.members} | {plan.members[1].id: "interrupted"}
    assert made(plan, tmp_path, 1, states) == [[0, 2, 3], [1]]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["a"', '["../..", "x"]', '["only"]'])
def test_a_folder_that_is_no_group_is_passed_over(text, tmp_path):
    path = tmp_path / "together" / "x"
    path.mkdir(parents=True)
    (path / "runs.json").write_text(text)
    assert made(linear_plan(seeds=2), tmp_path, 1) == [[0, 1]]


@pytest.mark.parametrize("method", ["bdf", "exact", "dopri5", "scipy:LSODA"])
def test_methods_of_one_start_at_a_time_make_no_group(method, tmp_path):
    plan = linear_plan(("method", method), seeds=3)
    assert made(plan, tmp_path, workers=1) == [[0], [1], [2]]


def test_ensemble_methods_are_those_that_solve_ensembles():
    own = {name: s for name, s in methods().items() if isinstance(s, stepping.SteppedSolver)}
    assert {n for n, s in own.items() if s.for_ensembles()} == set(ENSEMBLE_METHODS) - {"auto"}


def test_a_group_that_cannot_be_kept_is_said(tmp_path):
    (tmp_path / "together").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        made(linear_plan(seeds=2), tmp_path, 1)


@pytest.mark.parametrize("place", [".", "parts", "group"])
def test_a_group_is_kept_in_its_own_folder_only(place, tmp_path):
    plan = linear_plan(seeds=2)
    (unit,) = units(plan, tmp_path, {m.id: MISSING for m in plan.members}, 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = {".": unit.kept.parent, "group": unit.kept, "parts": unit.kept / "parts"}[place]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match="must not be a link"):
        GroupFolder(unit.kept).begin(unit.members)
    assert not list(elsewhere.iterdir())


def numbers(folder, plan):
    """All arrays of all runs, but what was measured by the clock."""
    found = {}
    for member in plan.members:
        run = gflow.load_run(run_path(folder, member.id))
        found |= {(member.id, name): v.values for name, v in run.result.variables.items()}
        assert "one ensemble" in run.summary["cost"]["reason"]
    return found


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for key, values in one.items():
        np.testing.assert_array_equal(other[key], values, err_msg=str(key))


def test_a_sweep_in_groups_has_the_numbers_of_runs_alone(where, tmp_path):
    plan = linear_plan(seeds=5)
    assert run_sweep(plan, tmp_path / "sweep", where).done == 5
    assert not (tmp_path / "sweep" / "together").exists()
    for member in plan.members:
        alone = running.run(
            running.Job(member.scenario), tmp_path / member.id, running.RunOptions(draw=False)
        )
        inside = gflow.load_run(run_path(tmp_path / "sweep", member.id)).result
        for name in ("loss", "gap", "descent_loss", "time"):
            np.testing.assert_allclose(
                inside[name], gflow.load_run(alone.path).result[name], rtol=1e-7, atol=1e-12
            )
    lines = (tmp_path / "sweep" / "sweep.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(m.id for m in plan.members)


def test_one_bad_run_of_a_group_fails_alone(where, tmp_path):
    plan = linear_plan(("init_scale", "0.1,0.2,0.4"), ("max_evals", "100000"))
    bad = plan.members[1].id

    def work(request, state):
        if request.id == bad:
            raise OSError("the disk is full")
        return task.execute(request, state)

    tally = run_sweep(
        plan, tmp_path, WorkerConfig(scheduler=where.scheduler, workers=1), execute=work
    )
    assert tally.failed == {bad: "OSError: the disk is full"}
    assert (tally.done, tally.running) == (2, 0)


def requests_of(plan, folder, every=60.0):
    return [
        task.Request(
            m.id, str(run_path(folder, m.id)), m.scenario.resolved(), checkpoint_every=every
        )
        for m in plan.members
    ]


def carried_out(plan, folder, every=60.0):
    """A sweep's only group, in this process."""
    SweepFolder(folder).path.mkdir(parents=True, exist_ok=True)
    (unit,) = units(plan, folder, run_states(folder, plan), 1)
    GroupFolder(unit.kept).begin(unit.members)
    order = {request.id: request for request in requests_of(plan, folder, every)}
    return task.carry_out_unit([order[m.id] for m in unit.members], kept=str(unit.kept))


def test_a_group_told_to_stop_anywhere_ends_with_the_same_bits(tmp_path, monkeypatch):
    plan = linear_plan(("t_end", "4.0,8.0"), seeds=2)
    assert [r["state"] for r in carried_out(plan, tmp_path / "whole")] == ["done"] * 4
    truth = numbers(tmp_path / "whole", plan)
    looks = [0]
    monkeypatch.setattr(task, "_look", lambda sweep_id: looks.__setitem__(0, looks[0] + 1))
    carried_out(plan, tmp_path / "counted")
    total, chance = looks[0], random.Random(0)
    for trial in range(3):
        folder, left = tmp_path / str(trial), sorted(chance.sample(range(1, total), 3))
        looks[0] = 0

        def told(sweep_id, left=left):
            looks[0] += 1
            if left and looks[0] >= left[0]:
                left.pop(0)
                keeping.stop("the test")

        monkeypatch.setattr(task, "_look", told)
        stops = 0
        while any(state != "done" for state in run_states(folder, plan).values()):
            records = carried_out(plan, folder)
            assert {r["state"] for r in records} <= {"interrupted", "done"}, records
            stops += any(r["state"] == "interrupted" for r in records)
        assert stops >= 2
        assert_same_bits(truth, numbers(folder, plan))


_PROGRAM = """
import sys
from pathlib import Path
from tests.sweeping.test_grouping import carried_out, linear_plan
print("begun", flush=True)
carried_out(linear_plan(seeds=4), Path(sys.argv[1]), every=0.0)
"""


@pytest.mark.xdist_group("processes")
def test_a_group_killed_while_it_saves_its_runs_ends_with_the_same_bits(tmp_path):
    """Some are done then and some not: the ensembles are still those of all."""
    plan = linear_plan(seeds=4)
    carried_out(plan, tmp_path / "whole")
    truth = numbers(tmp_path / "whole", plan)
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, folder], stdout=subprocess.PIPE)
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
        pytest.skip("it was faster than the kill")
    records = carried_out(plan, folder)
    assert [r["state"] for r in records] == ["done"] * 4
    assert_same_bits(truth, numbers(folder, plan))


def test_what_a_group_worked_out_is_there_when_the_disk_is_not_full_any_more(tmp_path, monkeypatch):
    plan = linear_plan(seeds=3)
    carried_out(plan, tmp_path / "whole")
    with monkeypatch.context() as patch:

        def full(self, name, dataset):
            raise OutputError("cannot write: no space left on device")

        patch.setattr(store.RunFolder, "write_dataset", full)
        records = carried_out(plan, tmp_path / "full")
    assert all(r["state"] == "failed" and "no space" in r["reason"] for r in records)
    monkeypatch.setattr(stepping.SteppingLoop, "run", None)  # nothing is to be solved again
    assert [r["state"] for r in carried_out(plan, tmp_path / "full")] == ["done"] * 3
    assert_same_bits(numbers(tmp_path / "whole", plan), numbers(tmp_path / "full", plan))


def test_a_group_handed_out_twice_is_done_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(task, "_PATIENCE", 0.3)
    plan = linear_plan(seeds=2)
    (unit,) = units(plan, tmp_path, run_states(tmp_path, plan), 1)
    folder = GroupFolder(unit.kept)
    folder.begin(unit.members)
    with folder.held(0.0) as ours:
        assert ours
        records = task.carry_out_unit(requests_of(plan, tmp_path), kept=str(unit.kept))
    assert [r["state"] for r in records] == ["running"] * 2
    assert unit.kept.is_dir()
    assert [r["state"] for r in carried_out(plan, tmp_path)] == ["done"] * 2


def stopped_after(looks, monkeypatch):
    """The next group is told to stop at one of its looks."""
    left = [looks]

    def told(sweep_id):
        left[0] -= 1
        if left[0] == 0:
            keeping.stop("the test")

    monkeypatch.setattr(task, "_look", told)


def test_a_group_goes_on_with_fewer_runs_and_with_more(tmp_path, monkeypatch):
    """One of them is done by another process meanwhile, or failed before it asked anything."""
    plan = linear_plan(seeds=3)
    failing = [plan.members[0].id]

    def work(request, state):
        if request.id in failing:
            raise OSError("not now")
        return task.execute(request, state)

    stopped_after(40, monkeypatch)
    (unit,) = units(plan, tmp_path, run_states(tmp_path, plan), 1)
    GroupFolder(unit.kept).begin(unit.members)
    requests = requests_of(plan, tmp_path)
    records = task.carry_out_unit(requests, work, kept=str(unit.kept))
    assert [r["state"] for r in records] == ["failed", "interrupted", "interrupted"]
    failing.clear()
    stopped_after(60, monkeypatch)
    records = task.carry_out_unit(requests, work, kept=str(unit.kept))
    assert {r["state"] for r in records} == {"interrupted"}
    failing.append(plan.members[1].id)
    records = task.carry_out_unit(requests, work, kept=str(unit.kept))
    assert [r["state"] for r in records] == ["done", "failed", "done"]


def test_a_group_is_told_to_stop_in_a_descent(tmp_path, monkeypatch):
    sets = ("step_size", "1e-4"), ("t_end", "100.0"), ("method", "tsit5"), ("rtol", "1e-3")
    plan = linear_plan(*sets, seeds=2)
    began, look = [], task._look

    def told(sweep_id):
        if sys._getframe(2).f_code.co_name == "descend_measured":
            began.append(time.monotonic())
            keeping.stop("the test")
        look(sweep_id)

    monkeypatch.setattr(task, "_look", told)
    records = carried_out(plan, tmp_path)
    assert [r["state"] for r in records] == ["interrupted"] * 2
    assert time.monotonic() - began[0] < 10


def test_nothing_is_left_of_groups_whatever_way_their_runs_were_done(where, tmp_path, monkeypatch):
    plan = linear_plan(seeds=2)
    with monkeypatch.context() as patch:
        stopped_after(5, patch)
        carried_out(plan, tmp_path)
    assert (tmp_path / "together").is_dir()
    SweepFolder(tmp_path).write_text("sweep.toml", "")  # of before
    apart = linear_plan(seeds=2, apart=True)
    assert run_sweep(apart, tmp_path, where).done == 2
    assert not (tmp_path / "together").exists()
    assert apart.default_folder() != plan.default_folder()


def test_a_unit_whose_group_is_over_is_done_run_by_run(tmp_path):
    """As where the word that it was done was lost with its worker."""
    plan = linear_plan(seeds=2)
    carried_out(plan, tmp_path)
    again = task.carry_out_unit(requests_of(plan, tmp_path), kept=str(tmp_path / "together/gone"))
    assert [r["state"] for r in again] == ["done"] * 2
    assert not any("numbers" in record for record in again)  # they were found done


@pytest.mark.xdist_group("processes")
def test_a_run_that_kills_its_worker_takes_no_other_of_its_group_with_it(tmp_path):
    plan = linear_plan(seeds=3)
    bad = plan.members[1].id
    tally = run_sweep(plan, tmp_path, WorkerConfig(workers=1), execute=killing(bad))
    assert (tally.done, set(tally.failed)) == (2, {bad})
    assert not (tmp_path / "together").exists()


def test_a_sweep_in_groups_told_to_stop_goes_on(where, tmp_path, monkeypatch):
    plan = linear_plan(("t_end", "40.0"), seeds=4)
    assert run_sweep(plan, tmp_path / "whole", where).done == 4
    looks, look = [0], task._look

    def told(sweep_id):
        looks[0] += 1
        if looks[0] == 30:
            os.kill(os.getpid(), signal.SIGUSR1)
            end = time.monotonic() + 20
            while sweep_id not in task._STOPPED and time.monotonic() < end:
                time.sleep(0.01)
        look(sweep_id)

    monkeypatch.setattr(task, "_look", told)
    monkeypatch.setattr(engine, "_TICK", 0.02)
    with pytest.raises(Interrupted):
        run_sweep(plan, tmp_path / "sweep", where)
    assert (tmp_path / "sweep" / "together").is_dir()
    assert "interrupted" in run_states(tmp_path / "sweep", plan).values()
    assert run_sweep(plan, tmp_path / "sweep", where).done == 4
    assert_same_bits(numbers(tmp_path / "whole", plan), numbers(tmp_path / "sweep", plan))
    shutil.rmtree(tmp_path / "whole")
