"""One thread and fixed seeds for every test."""

import pytest
import torch

torch.set_num_threads(1)
collect_ignore = ["stress"]  # scripts, of minutes each; tests/test_stress.py runs the small of them


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
