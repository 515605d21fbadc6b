"""One thread and fixed seeds for every test; which tests run in the same process."""

import pytest
import torch

torch.set_num_threads(1)
collect_ignore = ["stress"]  # scripts, of minutes each; tests/test_stress.py runs the small of them


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one process of pytest-xdist: they share fixtures and caches."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
