"""The number of bytes that a call allocates."""

import torch

from gflow.kernels.allocation import allocated_bytes


def test_every_new_tensor_counts_freed_ones_included():
    x = torch.ones(10, dtype=torch.float64)
    assert allocated_bytes(lambda: x + 1)[0] == 80
    assert allocated_bytes(lambda: (x + 1) * 2)[0] == 160


def test_views_and_operations_in_place_are_not_new():
    x = torch.ones(4, 5, dtype=torch.float64)
    assert allocated_bytes(lambda: x.mT.reshape(20)[:3])[0] == 160  # the reshape copies
    assert allocated_bytes(lambda: x.mT[1:].flatten(0, 0))[0] == 0
    assert allocated_bytes(lambda: x.mul_(2).add_(1))[0] == 0


def test_the_value_of_the_call_is_returned():
    size, value = allocated_bytes(lambda: "value")
    assert (size, value) == (0, "value")
