"""The configuration of workers: their number, their resources, and the GPUs that they see."""

import pytest
import torch

from gflow.errors import InputError
from gflow.sweeping import workers
from gflow.sweeping.workers import WorkerConfig


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (WorkerConfig(), 8),
        (WorkerConfig(threads=3), 2),
        (WorkerConfig(threads=16), 1),
        (WorkerConfig(workers=5, threads=3), 5),
        (WorkerConfig(gpus=True), 2),
        (WorkerConfig(gpus=True, workers=1), 1),
        (WorkerConfig(slurm={}), 4),
        (WorkerConfig(slurm={}, workers=9), 9),
        (WorkerConfig(scheduler="tcp://127.0.0.1:8786"), None),
    ],
)
def test_default_number_of_workers(config, count, monkeypatch):
    monkeypatch.setattr(workers, "core_count", lambda: 8)
    monkeypatch.setattr(workers, "visible_gpus", lambda: ["0", "1"])
    assert config.count == count


def test_runs_on_gpus_use_one_each():
    assert WorkerConfig(gpus=True).resources == {"GPU": 1}
    assert WorkerConfig().resources == {}


def test_visible_gpus_are_those_of_the_environment(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert workers.visible_gpus() == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-8f")
    assert workers.visible_gpus() == ["4", "GPU-8f"]


def test_missing_gpus_are_reported(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no GPU; use --set device=cpu"):
        workers.visible_gpus()


def test_a_process_has_at_least_one_core():
    assert workers.core_count() >= 1
