"""One thread and fixed seeds for every test; which tests run in the same process."""

import pytest
import torch

from gflow.sweeping.workers import WorkerConfig

torch.set_num_threads(1)
SHARING = {"tests/plots"}  # folders whose files share a cache, of figures
STARTS_PROCESSES = pytest.mark.xdist_group("processes")
collect_ignore = ["stress"]  # scripts, of minutes each; tests/test_stress.py runs the small of them


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def workers():
    """A scheduler with two workers in this process: quick to start, reached as any other."""
    import distributed

    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    options |= {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with distributed.LocalCluster(**options) as cluster:
        yield WorkerConfig(scheduler=cluster.scheduler_address)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Say which tests pytest-xdist runs in the same process.

    Those of a file, which share fixtures and caches; and all that start workers, which must not
    compete for the cores.
    """
    for item in items:
        if "workers" in getattr(item, "fixturenames", ()):
            item.add_marker(STARTS_PROCESSES)
        elif item.get_closest_marker("xdist_group") is None:
            file = item.nodeid.partition("::")[0]
            folder = file.rpartition("/")[0]
            item.add_marker(pytest.mark.xdist_group(folder if folder in SHARING else file))
