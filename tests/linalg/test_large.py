"""The size from which on memory counts is that of all rows together."""

import numpy as np
import torch

from gflow.linalg.large import LARGE, is_large


def test_all_members_of_an_ensemble_count():
    assert not is_large(np.empty(LARGE - 1))
    assert is_large(np.empty(LARGE))
    assert is_large(torch.empty(16, LARGE // 16))
    assert not is_large(torch.empty(15, LARGE // 16))
