"""Workers on this machine: their command, their environment, and their replacement."""

import subprocess
import sys

import pytest

from gflow.sweeping import local_workers as local
from gflow.sweeping import worker_preload
from gflow.sweeping.local_workers import local_workers, thread_environment


@pytest.fixture
def sleeping(monkeypatch):
    """Processes that wait for their standard input in place of workers."""
    processes = []
    real = subprocess.Popen

    def start(command, **options):
        process = real([sys.executable, "-S", "-c", "input()"], **options)
        processes.append((process, options["env"]))
        return process

    monkeypatch.setattr(local.subprocess, "Popen", start)
    return processes


def test_command_has_the_scheduler_the_resources_and_the_preload():
    command = local._worker_command("tcp://127.0.0.1:1", "/scratch", {"GPU": 1.0})
    assert command[:3] == [sys.executable, "-m", "distributed.cli.dask_worker"]
    text = " ".join(command)
    for part in (
        "tcp://127.0.0.1:1",
        "--nthreads 1",
        "--no-nanny",
        "--local-directory /scratch",
        "--resources GPU=1",
        f"--preload {worker_preload.__name__}",
    ):
        assert part in text
    assert "--resources" not in local._worker_command("tcp://127.0.0.1:1", "/scratch", {})


def test_environment_limits_the_threads_of_every_library():
    environment = thread_environment(3)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert environment[name] == "3"


def test_ended_workers_are_replaced_and_all_end_with_the_context(sleeping, tmp_path):
    environments = [{"NAME": "a"}, {"NAME": "b"}]
    with local_workers(environments, {}, tmp_path / "log") as (address, replace_workers):
        assert address.startswith("tcp://127.0.0.1:")
        assert [env["NAME"] for _, env in sleeping] == ["a", "b"]
        assert all(env[worker_preload.EXIT_WITH_PARENT] == "1" for _, env in sleeping)
        replace_workers()
        assert len(sleeping) == 2
        sleeping[1][0].kill()
        sleeping[1][0].wait()
        replace_workers()
        assert [env["NAME"] for _, env in sleeping] == ["a", "b", "b"]
    assert all(process.poll() is not None for process, _ in sleeping)
