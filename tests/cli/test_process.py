"""A command restores the state of its process, however it ends."""

import gc
import importlib
import io
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import torch

from gflow.cli import main as cli
from gflow.cli.process import discard_broken_output, loading
from tests.cli.test_main import small


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


#: Variables that scikit-learn and torch set for themselves when they are first used.
_BY_IMPORTS = ("KMP_", "TORCHINDUCTOR_")


def _process_state() -> dict[str, object]:
    """Return everything in the process that a command could change for its caller."""
    signals = {s: signal.getsignal(s) for s in signal.valid_signals()}
    return {
        "handlers": signals,
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "showwarning": warnings.showwarning,
        "filters": list(warnings.filters),
        "streams": [(s, s.errors) for s in (sys.stdout, sys.stderr)],
        "hooks": (sys.excepthook, threading.excepthook),
        "environment": {k: v for k, v in os.environ.items() if not k.startswith(_BY_IMPORTS)},
        "folder": Path.cwd(),
        "path": list(sys.path),
        "backend": mpl.get_backend(),
        "style": dict(mpl.rcParams),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "random": (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()),  # noqa: NPY002
        "numpy": np.geterr(),
    }


def _sent(name):
    return lambda *args, **kwargs: signal.raise_signal(signal.Signals[name])


def _raised(error):
    def raise_error(*args, **kwargs):
        raise error

    return raise_error


@pytest.mark.parametrize(
    ("arguments", "event", "status"),
    [
        (small("deep-linear"), None, 0),
        (["list"], None, 0),
        (small("deep-linear"), ("base.Scenario.generator", _raised(RuntimeError("a fault"))), None),
        (["deep-linear", "--depth", "-1"], None, 2),
        (["sweep", "kernel", "--set", "points=x"], None, 2),
        (small("deep-linear"), ("base.Scenario.generator", _sent("SIGTERM")), 143),
        (small("deep-linear"), ("base.Scenario.generator", _sent("SIGINT")), 130),
        (small("deep-linear"), ("base.Scenario.generator", _raised(KeyboardInterrupt())), 130),
        ([*small("deep-linear"), "--max-walltime", "0.01"], None, 143),
    ],
    ids=["run", "list", "fault", "input", "sweep", "SIGTERM", "SIGINT", "Ctrl-C", "time"],
)
def test_a_command_restores_the_state_of_the_process(arguments, event, status, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), "utf-8", "strict"))
    monkeypatch.setattr(warnings, "showwarning", lambda *args, **kwargs: None)
    handler = signal.signal(signal.SIGTERM, lambda number, frame: None)
    if event is not None:
        monkeypatch.setattr(f"gflow.settings.{event[0]}", event[1])
    extra = ["--threads", "2", "--output", "run"] if "synthetic" in arguments else []
    before = _process_state()
    try:
        with pytest.raises((SystemExit, RuntimeError)) as end:
            cli.main([*arguments, *extra])
        after = _process_state()
    finally:
        signal.signal(signal.SIGTERM, handler)
    changed = {
        (name, key): (value.get(key), after[name].get(key))
        for name, value in before.items()
        if isinstance(value, dict)
        for key in value.keys() | after[name].keys()
        if value.get(key) != after[name].get(key)
    }
    assert changed == {}
    assert after == before
    assert getattr(end.value, "code", None) == status


def test_output_that_a_closed_pipe_did_not_take_is_discarded(monkeypatch):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as broken:
        broken.write("lost")
        monkeypatch.setattr(sys, "stdout", broken)
        monkeypatch.setattr(sys, "stderr", SimpleNamespace(flush=lambda: None))
        discard_broken_output()
        broken.write("more")
        broken.flush()  # into the null device: closing raises nothing, either


def test_arrays_are_labelled_without_dask():
    code = """
import sys
from gflow.cli.process import skip_dask
skip_dask()
import numpy as np, xarray as xr
ds = xr.Dataset({"a": ("x", [1.0, 2.0])}, {"x": [0, 1]})
assert float(ds["a"].sel(x=1)) == 2 and float((ds["a"] + 1).mean()) == 2.5
assert not [name for name in sys.modules if name.split(".")[0] == "dask"]
import dask
skip_dask()
assert sys.modules["dask"] is dask
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep-linear", "kernel"])
def test_a_run_imports_neither_dask_nor_compilers(name, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "gflow", name, "-q", "--samples", "20"]
    done = subprocess.run(
        [*command, "--t-end", "1", "--points", "5", "-o", str(tmp_path / "run")],
        check=True,
        capture_output=True,
        text=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "matplotlib.figure" in loaded
    unused = {"dask", "sympy", "torch._dynamo", "torch._decomp.decompositions_for_jvp"}
    assert not unused & loaded


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_after_loading_as_before(enabled, monkeypatch):
    before = gc.isenabled()
    try:
        gc.unfreeze()
        (gc.enable if enabled else gc.disable)()
        with loading():
            assert not gc.isenabled()
        with pytest.raises(ImportError), loading():
            importlib.import_module("gflow.no_such_module")
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() == 0  # this process is not of one command
        monkeypatch.setattr("gflow.cli.process.owns_process", lambda: True)
        with loading():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
        (gc.enable if before else gc.disable)()
