"""The manifest records what made a run; the default folder is named after its scenario."""

import json
import os

from gflow import __version__
from gflow.runs import manifest


def test_the_default_folder_depends_on_the_resolved_scenario():
    first, again = (manifest.default_folder("kernel", {"depth": 3}) for _ in range(2))
    other = manifest.default_folder("kernel", {"depth": 4})
    assert first.parts[:2] == ("outputs", "kernel")
    digest = first.name.split("-")[-1]
    assert again.name.endswith(digest)
    assert not other.name.endswith(digest)


def test_slurm_variables_are_recorded(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert manifest.manifest("done", {}, {})["slurm"]["SLURM_JOB_ID"] == "17"


def test_versions_machine_and_scenario_are_recorded():
    resolved = {"seed": 3, "dtype": "float64", "device": "cpu", "depth": 2}
    entries = manifest.manifest("running", resolved, {"study": True})
    assert entries["state"] == "running"
    assert entries["study"] is True
    assert entries["scenario"] == resolved
    assert (entries["seed"], entries["dtype"], entries["device"]) == (3, "float64", "cpu")
    assert entries["gflow"] == __version__
    assert entries["process"] == os.getpid()
    assert set(entries["packages"]) >= {"torch", "numpy", "scipy", "xarray"}
    assert json.loads(json.dumps(entries)) == entries
