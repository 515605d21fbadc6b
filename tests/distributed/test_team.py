"""Two processes by torchrun against one; only gloo on the loopback is tested here."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from benchmarks import split_by_rows
from gflow.cli.main import main as command_line
from gflow.distributed import Team, processes
from gflow.errors import InputError
from gflow.flows import KernelFlow
from gflow.kernels import ntk
from gflow.runs import reading
from gflow.runs.runner import Job, RunOptions, run
from gflow.scenario import load_scenario
from tests.distributed import two_processes
from tests.distributed.test_torchrun import COMPLETE
from tests.helpers import randn
from tests.runs.test_hostile_runs import interrupted

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds; a run takes about ten
LONG = ["--data", "synthetic", "--samples", "61", "--width", "8", "--t-end", "1000"]
LONG += ["--checkpoint-every", "0.1"]


def torchrun(*arguments: str) -> subprocess.Popen[str]:
    """Start two processes in a new session, as a terminal does."""
    environment = {k: v for k, v in os.environ.items() if not re.match(r"GFLOW|RANK|WORLD", k)}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", "-m", *arguments),
        ],
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def outcome(started: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit status, output and error output; no process survives."""
    try:
        out, err = started.communicate(timeout=PATIENCE)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
    return started.returncode, out, err


class Pair:
    """Two processes by torchrun that carry out one request after another."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.started = torchrun("tests.distributed.two_processes", str(folder))
        self._count = 0

    def start(self, *arguments: str) -> Callable[[], tuple[list[int], str, str]]:
        """Start a request; return a function that waits for the statuses and outputs of both."""
        number, self._count = self._count, self._count + 1
        part = self._folder / "part"
        part.write_text(json.dumps(arguments))
        part.rename(self._folder / f"{number}.json")
        return functools.partial(self._outcome, number)

    def _outcome(self, number: int) -> tuple[list[int], str, str]:
        until = time.monotonic() + PATIENCE
        while len(statuses := self._texts(number, "status")) < 2:
            assert self.started.poll() is None, self.started.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        out, err = ("".join(self._texts(number, stream)) for stream in ("out", "err"))
        return list(map(int, statuses)), out, err

    def _texts(self, number: int, kind: str) -> list[str]:
        return [file.read_text() for file in sorted(self._folder.glob(f"{number}.?.{kind}"))]

    def end(self) -> tuple[int, str]:
        """Wait until both processes have ended; return the status and all errors of the last."""
        _, err = self.started.communicate(timeout=PATIENCE)
        return self.started.returncode, err + "".join(self._texts(self._count - 1, "err"))

    def close(self) -> None:
        if self.started.poll() is None:
            os.killpg(self.started.pid, signal.SIGKILL)
            self.started.communicate()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pair = Pair(tmp_path_factory.mktemp("pair"))
    yield pair
    pair.close()


def gflow_lines(err: str) -> list[str]:
    """Return the lines of gflow, without the report of torchrun."""
    return [line for line in err.splitlines() if line.startswith("gflow: ")]


def children(pid: int) -> list[int]:
    """Return the process ids of the children of a process."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def ranks(launcher: int) -> dict[int, int]:
    """Return the process ids by rank of the children of torchrun."""
    pids = {}
    for pid in children(launcher):
        match = re.search(rb"\0RANK=(\d+)", Path(f"/proc/{pid}/environ").read_bytes())
        if match:
            pids[int(match[1])] = pid
    return pids


def wait_for_checkpoint(started: subprocess.Popen[str], folder: Path) -> None:
    """Wait until a run writes a checkpoint."""
    until = time.monotonic() + PATIENCE
    while not list(folder.rglob("checkpoint.safetensors")):
        assert started.poll() is None, started.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def split(source: str, folder: Path, *options: str, **changes) -> list[str]:
    """Return the command line of a run."""
    for name, value in changes.items():
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        options += (f"--{name.replace('_', '-')}", shown)
    return ["gflow", source, *options, "--output", str(folder)]


def run_in_one_process(source: str, folder: Path, **changes) -> xr.Dataset:
    run(Job(load_scenario(source, changes)), folder, RunOptions(draw=False))
    return reading.load_run(folder).result


# -- the values ---------------------------------------------------------------------


def test_processes_compute_the_values_of_one_process(pair, tmp_path):
    file = tmp_path / "values.pt"
    statuses, _, err = pair.start("values", str(file))()
    assert statuses == [0, 0], err
    values = torch.load(file, weights_only=True)
    expected = two_processes.all_values(
        [two_processes.network(None, *key) for key in two_processes.NETWORKS],
        [two_processes.kernel(None, *key) for key in two_processes.KERNELS],
    )
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        assert values[name].shape == value.shape, name
        gap = (values[name].double() - value.double()).abs().max()
        assert float(gap) <= 1e-12 * float(value.double().abs().max()), name


@pytest.mark.slow
def test_a_network_run_is_that_of_one_process(pair, tmp_path):
    changes = {"data": "synthetic", "samples": 61, "width": 8, "t_end": 4.0, "points": 5}
    changes["step_sizes"] = (0.2,)
    outcome = pair.start(*split("network", tmp_path / "split", "--json", **changes))
    expected = run_in_one_process("network", tmp_path / "expected", **changes)
    statuses, out, err = outcome()
    assert statuses == [0, 0], err
    assert len(out.splitlines()) == 1  # of rank 0 only
    require_same(reading.load_run(tmp_path / "split").result, expected, 1e-10)


def test_a_kernel_run_is_that_of_one_process(pair, tmp_path):
    changes = {"data": "synthetic", "samples": 41, "test_samples": 11, "points": 5}
    changes["step_sizes"] = (0.15,)
    _, *command = split("kernel", tmp_path / "split", **changes)
    outcome = pair.start("gflow without figures", *command)
    expected = run_in_one_process("kernel", tmp_path / "expected", **changes)
    statuses, _, err = outcome()
    assert statuses == [0, 0], err
    require_same(reading.load_run(tmp_path / "split").result, expected, 1e-10)


def require_same(result: xr.Dataset, expected: xr.Dataset, tolerance: float) -> None:
    """Compare every variable relative to its largest value; NaN must be in the same places."""
    assert set(result.variables) == set(expected.variables)
    for name, value in expected.variables.items():
        a, b = result[name].values, value.values
        assert a.shape == b.shape, name
        if b.dtype.kind != "f":
            assert (a == b).all(), name
            continue
        # The solver's error is a difference of two paths, and rounds as they do.
        scale = 1.0 if name == "solver_error" else np.abs(b[np.isfinite(b)]).max(initial=0.0)
        np.testing.assert_allclose(a, b, rtol=0.0, atol=tolerance * scale, err_msg=name)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc")
def test_a_stopped_run_resumes_to_the_last_bit(pair, tmp_path):
    """Half the samples in a chunk of one process: the same sums in the same order."""
    folder = tmp_path / "split"
    changes = {"samples": 62, "width": 8, "t_end": 40.0, "step_sizes": (0.1,), "points": 5}
    options = ["--no-estimate-error", "--checkpoint-every", "0.1"]
    started = torchrun(*split("network", folder, *options, **changes))
    wait_for_checkpoint(started, folder)
    os.killpg(started.pid, signal.SIGINT)  # as Ctrl-C does; torchrun adds SIGTERM
    _, out, err = outcome(started)
    assert out == ""
    assert len(gflow_lines(err)) == 1, err
    assert f"gflow resume {folder}" in gflow_lines(err)[0]
    assert reading.state(folder) == "interrupted"
    resumed = pair.start("gflow without figures", "resume", str(folder))
    expected = run_in_one_process(
        "network", tmp_path / "expected", chunk=31, estimate_error=False, **changes
    )
    statuses, _, err = resumed()
    assert statuses == [0, 0], err
    require_same(reading.load_run(folder).result, expected, 0.0)


@pytest.mark.slow
def test_the_benchmark_runs(pair, monkeypatch):
    words = ["--quick", "--repeats", "2"]
    statuses, out, err = pair.start("benchmark", *words)()
    assert statuses == [0, 0], err
    # 8,970 parameters of 8 bytes and a header of 256; the loss is returned, too.
    assert "gradient | 8,970 | 72,016 | 71,768 |" in out
    started = []
    done = subprocess.CompletedProcess([], 3)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: started.append(command) or done)
    monkeypatch.setattr(sys, "argv", ["split_by_rows.py", *words])
    assert split_by_rows.main() == 3
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    assert started == [[*launcher, "--nproc-per-node", "2", split_by_rows.__file__, *words]]


# -- failures ----------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_the_other_process_ends_the_run_itself(pair, tmp_path, rank):
    """Without torchrun, which ends the processes that are left."""
    folder = tmp_path / "run"
    ended = pair.start(*split("network", folder, *LONG))
    wait_for_checkpoint(pair.started, folder)
    (pid,) = children(ranks(pair.started.pid)[rank])
    os.kill(pid, signal.SIGKILL)
    statuses, _, err = ended()
    assert statuses[rank] == -signal.SIGKILL
    assert reading.state(folder) == "interrupted"
    if rank == 1:
        assert statuses[0] not in (0, -signal.SIGKILL)
        assert len(gflow_lines(err)) == 1, err
        assert f"gflow resume {folder}" in gflow_lines(err)[0]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("an error in one", "PeerError: process 1 of 2 failed: mat1 and mat2"),
        ("data that differ", "InputError: inputs and targets must be the same in every process"),
        ("too late", r"InputError: make every split flow in all processes, before team\.leads"),
    ],
)
def test_an_error_in_one_process_ends_all_and_is_reported(pair, case, message):
    statuses, _, err = pair.start(case, "-")()
    assert statuses != [0, 0]
    assert re.search(rf"rank0\]: gflow\.errors\.{message}", err), err


def test_a_run_that_cannot_be_split_is_refused_once(pair, tmp_path):
    statuses, out, err = pair.start(*split("deep-linear", tmp_path / "run"))()
    assert (statuses, out) == ([2, 0], "")
    assert gflow_lines(err) == ["gflow: deep-linear runs in one process; start it without torchrun"]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the processes in /proc")
def test_a_killed_process_ends_the_run(pair, tmp_path):
    """The last test of the pair, which it ends."""
    folder = tmp_path / "run"
    pair.start("here", *split("network", folder, *LONG))
    wait_for_checkpoint(pair.started, folder)
    pids = ranks(pair.started.pid)
    os.kill(pids[1], signal.SIGKILL)
    status, err = pair.end()
    assert status != 0
    assert not Path(f"/proc/{pids[0]}").exists()
    assert not re.search(r'File ".*/gflow/\w+\.py"', err), err  # torchrun reports separately
    assert reading.state(folder) == "interrupted"
    assert len(gflow_lines(err)) == 1, err
    assert f"gflow resume {folder}" in gflow_lines(err)[0]


def test_a_sweep_is_not_split(tmp_path, monkeypatch, capsys):
    for name, value in {**COMPLETE, "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    command = ["sweep", "kernel", "--set", "samples=10,20", "--output", str(tmp_path / "sweep")]
    with pytest.raises(SystemExit) as caught:
        command_line(command)
    assert caught.value.code == 2
    (line,) = gflow_lines(capsys.readouterr().err)
    assert line == "gflow: a sweep starts its own workers; start it without torchrun"
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_no_process_runs_code_that_a_folder_names(tmp_path, monkeypatch):
    """Every rank builds the model, also those that only serve requests."""
    (tmp_path / "mine_too.py").write_text(
        "import pathlib, torch\n"
        "pathlib.Path('ran').touch()\n"
        "def make(): return torch.nn.Linear(2, 1).double()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    folder = interrupted(tmp_path / "run", model="mine_too:make")
    (tmp_path / "ran").unlink()
    environment = {**os.environ, **COMPLETE, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    command = [sys.executable, "-m", "gflow", "resume", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")  # rank 0 reports the reason
    assert not (tmp_path / "ran").exists()


# -- one process --------------------------------------------------------------------


def test_rows_are_split_without_a_gap():
    for n in (3, 7, 100):
        parts = [Team(rank, 3).rows(n) for rank in range(3)]
        assert [i for part in parts for i in range(n)[part]] == list(range(n))
        sizes = [part.stop - part.start for part in parts]
        assert max(sizes) - min(sizes) <= 1
    with pytest.raises(InputError, match="2 rows cannot be split across 3 processes"):
        Team(0, 3).rows(2)


def test_without_torchrun_a_team_is_this_process():
    with processes() as team:
        assert (team.rank, team.size, team.leads()) == (0, 1, True)
        flow = two_processes.network(team, "mean", None)
        assert torch.equal(
            flow(0.0, flow.pack()), two_processes.network(None, "mean", None)(0.0, flow.pack())
        )
        x, y = randn(5, 3), randn(5)
        kernel = KernelFlow.from_kernel(ntk, x, y, team=team)
        assert torch.equal(kernel.H, ntk(x))
