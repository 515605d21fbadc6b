"""The folder of a sweep: its lock, its plan and the states of its runs."""

import pytest

from gflow.errors import InputError
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.folder import SweepFolder, is_sweep, read_plan, status
from tests.sweeping.conftest import small_plan


def test_locked_folders_and_other_contents_are_refused(workers, tmp_path):
    plan = small_plan()
    with SweepFolder(tmp_path / "a").lock(plan), pytest.raises(InputError, match="running already"):
        run_sweep(plan, tmp_path / "a", workers)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="must be empty or a sweep's folder"):
        run_sweep(plan, tmp_path / "b", workers)
    (tmp_path / "c").write_text("a file")
    with pytest.raises(InputError, match="cannot write the sweep's folder"):
        run_sweep(plan, tmp_path / "c", workers)


def test_truncated_and_malformed_lines_are_skipped(workers, tmp_path):
    plan = small_plan()
    run_sweep(plan, tmp_path, workers)
    with (tmp_path / "sweep.jsonl").open("ab") as file:
        file.write(b'[]\n{"id": 3}\n\xff\n{"id": "x", "state": "failed", "re')
    assert status(tmp_path).counts == {"done": 1}


def test_folder_without_a_sweep_is_reported(tmp_path):
    assert not is_sweep(tmp_path)
    with pytest.raises(InputError, match=r"no sweep at .*: sweep.toml is missing"):
        status(tmp_path)


def test_plan_is_read_back_and_its_runs_are_missing(tmp_path):
    plan = small_plan(("t_end", "1.0,3.0"), seeds=2)
    with SweepFolder(tmp_path).lock(plan):
        pass
    assert read_plan(tmp_path).members == plan.members
    state = status(tmp_path)
    assert state.counts == {"missing": 4}
    assert state.points == {member.id: member.point for member in plan.members}


def test_last_record_of_a_run_gives_its_reason(tmp_path):
    plan = small_plan(seeds=2)
    folder = SweepFolder(tmp_path)
    first, second = (member.id for member in plan.members)
    with folder.lock(plan):
        folder.add_line({"id": first, "state": "failed", "reason": "out of memory"})
        folder.add_line({"id": second, "state": "failed", "reason": "disk full"})
        folder.add_line({"id": second, "state": "interrupted", "reason": None})
    assert status(tmp_path).states == {first: "failed", second: "missing"}
    assert status(tmp_path).reasons == {first: "out of memory"}
