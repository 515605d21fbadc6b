"""A scheduler with two workers in this process: quick to start, reached as any other."""

import os
import signal

import distributed
import pytest

from gflow.sweeping import task
from gflow.sweeping.plan import make_plan
from gflow.sweeping.workers import WorkerConfig


@pytest.fixture(scope="session")
def where():
    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    options |= {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with distributed.LocalCluster(**options) as cluster:
        yield WorkerConfig(scheduler=cluster.scheduler_address)


def small_plan(*sets, **options):
    """Kernel flows of eight points: some milliseconds each."""
    fixed = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=3.0"
    return make_plan("kernel", [*(tuple(w.split("=")) for w in fixed.split()), *sets], **options)


def killing(id):
    """The work of a run, of which one kills its worker."""

    def work(request, state):
        if request.id == id:
            os.kill(os.getpid(), signal.SIGKILL)
        return task.execute(request, state)

    return work
