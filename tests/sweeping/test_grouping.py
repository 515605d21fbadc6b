"""Which runs form a group, and sweeps in groups."""

import itertools
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

import gflow
from gflow.errors import InputError, Interrupted
from gflow.runs import runner
from gflow.settings.base import ENSEMBLE_METHODS
from gflow.solvers import methods
from gflow.solvers.loop import stepping
from gflow.sweeping import clusters, engine, grouping, task
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.folder import SweepFolder, run_path, run_states
from gflow.sweeping.grouping import GroupFolder, units_of_work
from gflow.sweeping.plan import make_plan
from gflow.sweeping.workers import WorkerConfig
from tests.sweeping.conftest import killing
from tests.sweeping.groups import (
    assert_same_bits,
    execute_only_group,
    linear_plan,
    result_arrays,
    stop_group_at,
)

MISSING = "missing"


def group_indices(plan, folder, workers, states=None):
    """Return the units as indices of the plan's members, after creating the groups' folders."""
    units = units_of_work(plan, folder, states or {m.id: MISSING for m in plan.members}, workers)
    for unit in units:
        if unit.folder is not None:
            GroupFolder(unit.folder).create(unit.members)
    index = {m.id: i for i, m in enumerate(plan.members)}
    return [[index[m.id] for m in unit.members] for unit in units]


def test_runs_that_differ_in_start_times_and_descents_form_groups(tmp_path):
    plan = linear_plan(("depth", "2,3"), ("step_size", "0.2,0.1"), ("init_scale", "0.1,0.2"))
    assert group_indices(plan, tmp_path, workers=1) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_groups_are_small_enough_to_occupy_all_workers(tmp_path):
    plan = linear_plan(seeds=10)
    assert group_indices(plan, tmp_path / "a", workers=4) == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]
    assert group_indices(plan, tmp_path / "b", workers=20) == [[i] for i in range(10)]
    large_plan = linear_plan(seeds=70)
    assert (
        max(map(len, group_indices(large_plan, tmp_path / "c", workers=1)))
        <= grouping.MAX_GROUP_SIZE
    )


def test_runs_with_different_flows_are_single(tmp_path):
    drawn = linear_plan(("data", "synthetic"), seeds=3)  # the seed draws the data
    assert group_indices(drawn, tmp_path, workers=1) == [[0], [1], [2]]
    masks = make_plan("factorization", [("t_end", "1.0")], seeds=2)
    assert group_indices(masks, tmp_path, workers=1) == [[0], [1]]
    individual = linear_plan(seeds=3, apart=True)
    assert group_indices(individual, tmp_path, workers=1) == [[0], [1], [2]]


def test_recorded_groups_have_the_same_runs_again(tmp_path):
    plan = linear_plan(seeds=8)
    before = group_indices(plan, tmp_path, workers=2)
    states = {m.id: MISSING for m in plan.members}
    for i in before[0][:2]:
        states[plan.members[i].id] = "done"
    assert sorted(group_indices(plan, tmp_path, 4, states)) == sorted(
        before
    )  # whatever workers there are
    states |= {plan.members[i].id: "done" for i in before[0]}
    assert group_indices(plan, tmp_path, 4, states) == before[1:]
    grown = linear_plan(seeds=10)
    states |= {m.id: MISSING for m in grown.members[8:]}
    assert sorted(map(len, group_indices(grown, tmp_path, 1, states))) == [2, 4]


def test_run_started_individually_is_resumed_individually(tmp_path):
    plan = linear_plan(seeds=4)
    states = {m.id: MISSING for m in plan.members} | {plan.members[1].id: "interrupted"}
    assert group_indices(plan, tmp_path, 1, states) == [[0, 2, 3], [1]]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["a"', '["../..", "x"]', '["only"]'])
def test_damaged_group_folders_are_ignored(text, tmp_path):
    path = tmp_path / "together" / "x"
    path.mkdir(parents=True)
    (path / "runs.json").write_text(text)
    assert group_indices(linear_plan(seeds=2), tmp_path, 1) == [[0, 1]]


@pytest.mark.parametrize("method", ["bdf", "exact", "dopri5", "scipy:LSODA"])
def test_methods_without_ensembles_form_no_group(method, tmp_path):
    plan = linear_plan(("method", method), seeds=3)
    assert group_indices(plan, tmp_path, workers=1) == [[0], [1], [2]]


def test_ensemble_methods_are_those_that_solve_ensembles():
    native_methods = {
        name: s for name, s in methods().items() if isinstance(s, stepping.SteppedSolver)
    }
    assert {n for n, s in native_methods.items() if s.for_ensembles()} == set(ENSEMBLE_METHODS) - {
        "auto"
    }


def test_group_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "together").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        group_indices(linear_plan(seeds=2), tmp_path, 1)


@pytest.mark.parametrize("place", [".", "parts", "group"])
def test_links_in_place_of_group_folders_are_refused(place, tmp_path):
    plan = linear_plan(seeds=2)
    (unit,) = units_of_work(plan, tmp_path, {m.id: MISSING for m in plan.members}, 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = {".": unit.folder.parent, "group": unit.folder, "parts": unit.folder / "parts"}[place]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(elsewhere)
    with pytest.raises(InputError, match="must not be a link"):
        GroupFolder(unit.folder).create(unit.members)
    assert not list(elsewhere.iterdir())


def test_sweep_in_groups_has_the_numbers_of_individual_runs(workers, tmp_path):
    plan = linear_plan(seeds=2)
    assert run_sweep(plan, tmp_path / "sweep", workers).done == 2
    assert not (tmp_path / "sweep" / "together").exists()
    for member in plan.members:
        alone = runner.run(
            runner.Job(member.scenario), tmp_path / member.id, runner.RunOptions(draw=False)
        )
        expected = gflow.load_run(alone.path).result
        inside = gflow.load_run(run_path(tmp_path / "sweep", member.id)).result
        for name in ("loss", "gap", "descent_loss", "time"):
            np.testing.assert_allclose(inside[name], expected[name], rtol=1e-7, atol=1e-12)
    lines = (tmp_path / "sweep" / "sweep.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == sorted(m.id for m in plan.members)


def test_group_folders_are_removed_when_all_runs_have_ended(workers, tmp_path, monkeypatch):
    plan = linear_plan(seeds=2)
    with monkeypatch.context() as patch:
        stop_group_at(5, patch)
        execute_only_group(plan, tmp_path)
    assert (tmp_path / "together").is_dir()
    SweepFolder(tmp_path).write_text("sweep.toml", "")  # of an existing sweep
    individual = linear_plan(seeds=2, apart=True)
    assert run_sweep(individual, tmp_path, workers).done == 2
    assert not (tmp_path / "together").exists()
    assert individual.default_folder() != plan.default_folder()


@pytest.mark.slow
def test_run_that_kills_its_worker_does_not_affect_the_rest_of_its_group(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_ALLOWED_DEATHS", 0)  # a worker takes seconds to start
    monkeypatch.setattr(engine, "_TICK", 0.1)
    # Synthetic data: those of scikit-learn would cost every worker its import.
    plan = linear_plan(("data", "synthetic"), ("init_scale", "0.1,0.2,0.4"))
    assert group_indices(plan, tmp_path / "as planned", workers=1) == [[0, 1, 2]]
    bad = plan.members[1].id
    progress = run_sweep(plan, tmp_path / "sweep", WorkerConfig(workers=1), execute=killing(bad))
    assert (progress.done, set(progress.failed)) == (2, {bad})
    assert not (tmp_path / "sweep" / "together").exists()


@pytest.mark.slow
def test_stopped_sweep_in_groups_resumes_to_the_same_bits(workers, tmp_path, monkeypatch):
    plan = linear_plan(("t_end", "40.0"), seeds=4)
    assert run_sweep(plan, tmp_path / "undisturbed", workers).done == 4
    checks, check_stop = itertools.count(1), task._check_stop

    def stop_at_check_30(sweep_id):
        if next(checks) == 30:
            os.kill(os.getpid(), signal.SIGUSR1)
            end = time.monotonic() + 20
            while sweep_id not in task._STOPPED_SWEEPS and time.monotonic() < end:
                time.sleep(0.01)
        check_stop(sweep_id)

    monkeypatch.setattr(task, "_check_stop", stop_at_check_30)
    monkeypatch.setattr(engine, "_TICK", 0.02)
    with pytest.raises(Interrupted):
        run_sweep(plan, tmp_path / "sweep", workers)
    assert (tmp_path / "sweep" / "together").is_dir()
    assert "interrupted" in run_states(tmp_path / "sweep", plan).values()
    assert run_sweep(plan, tmp_path / "sweep", workers).done == 4
    assert_same_bits(
        result_arrays(tmp_path / "undisturbed", plan), result_arrays(tmp_path / "sweep", plan)
    )
    shutil.rmtree(tmp_path / "undisturbed")
