"""One thread and fixed seeds for every test; which tests run in the same process."""

import gc
import os

import pytest

# The user's own configuration file has no part in the tests.
os.environ["GFLOW_CONFIG"] = ""

# What is collected stays: looking for garbage in it, again and again, takes seconds.
gc.disable()

# torch and gflow are imported where they are used: the process that distributes the tests
# reads this file, too, and the others start after that.
GROUPS = {
    # They start workers, which must not compete for the cores.
    "processes": (
        "tests/cli/test_sweeps.py",
        "tests/distributed/test_team.py",
        "tests/sweeping/test_dataset.py",
        "tests/sweeping/test_engine.py",
        "tests/sweeping/test_folder.py",
        "tests/sweeping/test_grouping.py",
        "tests/sweeping/test_task.py",
        "tests/test_stress.py",
    ),
    "reports": ("tests/reporting/", "tests/cli/test_reports.py"),  # they share runs
    "figures": ("tests/plots/",),  # they share a cache
}
collect_ignore = ["stress"]  # scripts of minutes each; tests/test_stress.py runs small versions


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def workers():
    """A scheduler with two workers in this process, which start quickly."""
    import distributed

    from gflow.sweeping.workers import WorkerConfig

    options = {"host": "127.0.0.1", "protocol": "tcp://", "dashboard_address": "127.0.0.1:0"}
    options |= {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with distributed.LocalCluster(**options) as cluster:
        yield WorkerConfig(scheduler=cluster.scheduler_address)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Run the tests of a file, which share fixtures and caches, in one process of pytest-xdist.

    So do the files of a group. (The mark ``xdist_group`` has no effect with pytest 9.2.)
    """
    from xdist.scheduler import LoadFileScheduling

    class GroupScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return next((group for group, names in GROUPS.items() if file.startswith(names)), file)

    return GroupScheduling(config, log) if config.getvalue("dist") == "loadfile" else None
