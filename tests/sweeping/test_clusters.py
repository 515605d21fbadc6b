"""Connections to workers: which schedulers are trusted, and what is refused."""

import sys

import pytest

from gflow.errors import InputError
from gflow.sweeping import clusters, workers
from gflow.sweeping.clusters import connect
from gflow.sweeping.workers import WorkerConfig


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://10.0.0.7:8786", "must use TLS"),
        ("tcp://example.org:8786", "must use TLS"),
        ("tcp://127.0.0.1.example.org:8786", "must use TLS"),
        ("tcp://0.0.0.0:8786", "must use TLS"),
        ("tls://example.org:8786", "needs certificates"),
        ("ucx://127.0.0.1:8786", "must be tcp://"),
        ("127.0.0.1:8786", "must be tcp://"),
        ("tcp://127.0.0.1", "must be tcp://"),
        ("tcp://127.0.0.1:99999", "must be tcp://"),
        ("", "must be tcp://"),
    ],
)
def test_untrusted_schedulers_are_refused(address, message, tmp_path):
    with (
        pytest.raises(InputError, match=message),
        connect(WorkerConfig(scheduler=address), tmp_path),
    ):
        pass


def test_scheduler_that_does_not_respond_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_CONNECT_TIMEOUT", "0.3s")
    address = "tcp://127.0.0.1:1"
    with pytest.raises(InputError, match="no scheduler answers at"):  # noqa: SIM117
        with connect(WorkerConfig(scheduler=address), tmp_path):
            pass


def test_missing_dask_is_reported_with_its_installation(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="pip install"), connect(WorkerConfig(), tmp_path):
        pass


def test_missing_slurm_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(InputError, match="this machine has no SLURM"),
        connect(WorkerConfig(slurm={}), tmp_path),
    ):
        pass


def test_workers_have_their_threads_and_a_gpu_each(monkeypatch):
    monkeypatch.setattr(workers, "core_count", lambda: 8)
    assert len(clusters._worker_environments(WorkerConfig())) == 8
    environments = clusters._worker_environments(WorkerConfig(threads=3))
    assert [env["OMP_NUM_THREADS"] for env in environments] == ["3", "3"]
    monkeypatch.setattr(clusters, "visible_gpus", lambda: ["0", "1", "4"])
    environments = clusters._worker_environments(WorkerConfig(gpus=True))
    assert [env["CUDA_VISIBLE_DEVICES"] for env in environments] == ["0", "1", "4"]
    with pytest.raises(
        InputError, match="this machine has 3 GPUs, got --workers 4; use fewer workers"
    ):
        clusters._worker_environments(WorkerConfig(gpus=True, workers=4))
