"""Loggers: what they are given, and that their faults do not end a run."""

import importlib.util
import sys
import warnings
from types import ModuleType, SimpleNamespace

import pytest

from gflow.errors import InputError
from gflow.loggers.base import LoggedRun, Logger, RunLog, find_loggers, loggers
from gflow.runs import Job, RunOptions, load_run, run
from gflow.scenario import load_scenario
from tests.helpers import slow_except
from tests.reporting.pages import SMALL

JOB = Job(load_scenario("deep-linear", SMALL))


class Recorder:
    """A module, or an object in one, whose every call is recorded."""

    def __init__(self, calls, name=""):
        self.calls, self.name = calls, name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Recorder(self.calls, f"{self.name}.{name}".lstrip("."))

    def __call__(self, *args, **kwargs):
        self.calls.append((self.name, args, kwargs))
        return self


@pytest.fixture
def calls(monkeypatch):
    """Replace the packages of all loggers by recorders; return the list of calls."""
    made = []
    for kind in loggers().values():
        module = ModuleType(kind.module)
        recorder = Recorder(made)
        module.__getattr__ = recorder.__getattr__
        monkeypatch.setitem(sys.modules, kind.module, module)
    writer = SimpleNamespace(SummaryWriter=Recorder(made, "SummaryWriter"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)
    monkeypatch.setattr("gflow.runs.writing._METRICS_INTERVAL", 0.0)
    return made


@pytest.mark.parametrize("name", slow_except(sorted(loggers()), "wandb"))
def test_a_run_is_logged(name, calls, tmp_path):
    run(JOB, tmp_path / "run", RunOptions(draw=False, log=(name,)))
    final_loss = load_run(tmp_path / "run").summary["final_loss"]
    start, *steps = calls
    known = repr(start) + repr(calls[1])
    assert "deep-linear-run" in known or "run/tensorboard" in known
    assert "'depth': 3" in known or "'depth': '3'" in known or "depth = 3" in known
    assert "flow/loss" in repr(steps)
    assert f"{final_loss!r}" in repr(steps[-10:] if name != "tensorboard" else steps)
    ends = {"wandb": "finish", "trackio": "finish", "mlflow": "end_run", "tensorboard": "close"}
    assert calls[-1][0].endswith(ends[name])
    assert sum(call[0].endswith(ends[name]) for call in calls) == 1


def test_metrics_have_names_that_mlflow_takes(calls, tmp_path):
    log = RunLog(find_loggers(["mlflow"]), LoggedRun("a run", tmp_path, {}))
    log.log("descent, step 0.1", 1.0, 0.5)
    log.finish({"gap (η = 0.1)": 1.0})
    names = [name for call in calls for mapping in call[1] for name in mapping]
    assert names == ["descent step 0.1/t", "descent step 0.1/loss", "summary/gap η  0.1"]


def test_a_logger_is_ten_lines():
    for kind in loggers().values():
        source = importlib.util.find_spec(kind.__module__).origin
        with open(source, encoding="utf-8") as file:
            code = file.read().partition("class ")[2]
        statements = [line for line in code.splitlines()[2:] if line.strip() and '"""' not in line]
        assert len(statements) <= 15, kind


class Failing(Logger):
    name = module = "failing"

    def __init__(self, run):
        self.calls = 0

    def log(self, step, values):
        self.calls += 1
        raise RuntimeError("no connection")

    def finish(self, numbers):
        raise AssertionError("it is not called again")


def test_a_fault_is_one_warning_and_the_others_go_on(tmp_path):
    seen = []

    class Good(Failing):
        def log(self, step, values):
            seen.append((step, dict(values)))

        def finish(self, numbers):
            seen.append(numbers)

    log = RunLog([Failing, Good], LoggedRun("a", tmp_path, {}))
    with pytest.warns(UserWarning, match="the logger failing failed .* no connection"):
        log.log("flow", 1.0, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.log("flow", 2.0, 0.25)
        log.finish({"final_loss": 0.25})
        log.finish({})
    assert seen[0] == (1, {"flow/t": 1.0, "flow/loss": 0.5})
    assert seen[-1] == {"final_loss": 0.25}
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "there is no logger 'nothing'"),
        ("trackio", r"needs the package trackio; run: pip install 'gflow-ode\[trackio\]'"),
    ],
)
def test_what_cannot_log_is_refused_before_a_folder_is_made(name, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(InputError, match=message):
        run(JOB, tmp_path / "run", RunOptions(log=(name,)))
    assert not (tmp_path / "run").exists()
    assert find_loggers([]) == []


def test_tensorboard_reads_what_was_written(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr("gflow.runs.writing._METRICS_INTERVAL", 0.0)
    run(JOB, tmp_path / "run", RunOptions(draw=False, log=("tensorboard",)))
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    summary = load_run(tmp_path / "run").summary
    (final,) = events.Scalars("summary/final_loss")
    assert final.value == pytest.approx(summary["final_loss"], rel=1e-6)
    losses = [event.value for event in events.Scalars("flow/loss")]
    assert len(losses) > 3
    assert losses[0] > losses[-1] == pytest.approx(summary["final_loss"], rel=0.1)
