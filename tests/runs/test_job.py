"""A job is read from a manifest; code that it names is refused until the user names it too."""

import json

import pytest

from gflow.errors import InputError
from gflow.runs.job import Job, job_to_resume, read_job
from gflow.scenario import load_scenario


def manifest_of(job, path):
    path.mkdir()
    kinds = {name: getattr(job, name) for name in ("study", "modified", "laws")}
    entries = {"scenario": job.scenario.resolved(), **kinds}
    (path / "manifest.json").write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    "flags", [(False, False), (True, False), (True, True), (False, False, True)]
)
def test_a_job_is_read_back(flags, tmp_path):
    job = Job(load_scenario("kernel", {"points": 7}), *flags)
    assert read_job(manifest_of(job, tmp_path / "run")) == job
    assert job.name == f"kernel{'-converge' if job.study else '-laws' if job.laws else ''}"


@pytest.mark.parametrize("entries", [{}, {"scenario": 3}])
def test_a_manifest_without_a_scenario_is_damaged(entries, tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"manifest\.json holds no scenario"):
        read_job(tmp_path)


def test_code_must_be_named_by_the_user(tmp_path):
    job = Job(load_scenario("network", {"model": "mine:make"}))
    path = manifest_of(job, tmp_path / "run")
    assert read_job(path) == job  # read only
    assert job_to_resume(path, "mine:make") == job
    for model in (None, "other:make"):
        with pytest.raises(InputError, match="if you trust it, pass --model mine:make"):
            job_to_resume(path, model)


def test_a_study_needs_the_length_of_the_path():
    scenario = load_scenario("wide-network", {"data": "synthetic", "samples": 4, "inputs": 2})
    with pytest.raises(InputError, match="needs the length of the path: pass --t-end"):
        Job(scenario, study=True).work(lambda name, t_end: None)
