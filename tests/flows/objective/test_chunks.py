"""Objectives that evaluate the full batch in chunks."""

import pytest
import torch
from torch import nn

from gflow.errors import InputError
from gflow.flows import NetworkFlow
from tests.helpers import randn


def tanh_network():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def half_squares(outputs, targets):
    return 0.5 * (outputs - targets).square().sum()


@pytest.mark.parametrize(
    ("criterion", "module", "chunk", "message"),
    [
        (lambda u, y: (u - y).square().mean().sqrt(), None, 2, "neither on this data"),
        (
            lambda u, y: nn.functional.cross_entropy(
                u, y.argmax(1), weight=torch.tensor([1.0, 3.0]).double()
            ),
            None,
            2,
            "a mean or a sum over samples, but this one is neither",
        ),
        (lambda u, y: 0 * u.sum(), None, 2, "vanishes at the start"),
        (nn.functional.mse_loss, nn.BatchNorm1d(3, track_running_stats=False), 2, "own sample"),
        (nn.functional.mse_loss, None, 0, "chunk must be a whole number of at least 1, got 0"),
        (nn.functional.mse_loss, None, 2.5, r"chunk must be .*got 2\.5"),
        (nn.functional.mse_loss, None, True, "chunk must be .*got True"),
    ],
)
def test_criteria_and_modules_that_cannot_be_split(criterion, module, chunk, message):
    network = nn.Sequential(module or nn.Identity(), nn.Linear(3, 2)).double().eval()
    with pytest.raises(InputError, match=message):
        NetworkFlow(network, criterion, randn(7, 3), randn(7, 2, seed=1), chunk=chunk)


def test_chunks_need_one_target_for_each_sample():
    with pytest.raises(InputError, match="got 7 and 6 rows"):
        NetworkFlow(tanh_network(), half_squares, randn(7, 3), randn(6, 2), chunk=2)


def test_memory_is_bounded_by_one_chunk():
    """The widest activation that autograd stores is that of a chunk, in gradient and product."""
    module, batch_sizes = tanh_network(), []
    module[1].register_forward_hook(lambda m, x, out: batch_sizes.append(len(out)))
    flow = NetworkFlow(module, half_squares, randn(50, 3), randn(50, 2, seed=1), chunk=8)
    batch_sizes.clear()
    flow(0.0, flow.pack())
    assert batch_sizes == [8] * 6 + [2]
    alive = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: alive.append(x.shape[:1]) or x, lambda x: x
    ):
        flow.jvp(flow.pack(), flow.pack())
    assert max(n for (n,) in (s for s in alive if s)) <= 8
