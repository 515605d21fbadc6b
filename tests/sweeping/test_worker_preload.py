"""The set-up of worker processes: what they import, and that they end with the sweep."""

import importlib
import subprocess
import sys

import pytest

from gflow.sweeping import worker_preload

_PROGRAM = """
import time
from gflow.sweeping import worker_preload
worker_preload._IMPORTS = ()
worker_preload.dask_setup(None)
print("ready", flush=True)
time.sleep(60)
"""


def test_set_up_imports_the_modules_of_runs(monkeypatch):
    imported = []
    monkeypatch.delenv(worker_preload.EXIT_WITH_PARENT, raising=False)
    monkeypatch.setattr(importlib, "import_module", imported.append)
    worker_preload.dask_setup(None)
    assert "gflow.runs.runner" in imported


@pytest.mark.parametrize("name", worker_preload._IMPORTS)
def test_imported_modules_exist(name):
    assert importlib.util.find_spec(name) is not None


def test_worker_ends_when_its_standard_input_closes(monkeypatch):
    monkeypatch.setenv(worker_preload.EXIT_WITH_PARENT, "1")
    command = [sys.executable, "-c", _PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.stdin.close()
        assert process.wait(timeout=30) == 0
