"""Conversion of tensors to NumPy arrays."""

import numpy as np
import pytest
import torch

from gflow.linalg.arrays import to_numpy


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64, torch.bool])
def test_values_become_float64(dtype):
    array = to_numpy(torch.tensor([[0, 1], [1, 1]], dtype=dtype))
    assert array.dtype == np.float64
    assert array.tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_gradients_are_detached():
    assert to_numpy(torch.tensor(2.0, requires_grad=True)).item() == 2.0
