"""The criterion on the samples and on held-out data."""

from __future__ import annotations

from torch import Tensor

from gflow.measures.base import HELD_OUT, Measure, Network, Snapshot


class CriterionLoss(Measure):
    """The criterion on all samples, without the weight decay that ``loss`` has."""

    name = "criterion_loss"
    long_name = "loss without weight decay"
    price = "an evaluation of the loss"
    always = True

    def lacks(self, flow: Network) -> str:
        return "" if flow.has_weight_decay else "weight decay, without which it is loss"

    def __call__(self, state: Snapshot) -> Tensor:
        return state.flow.criterion_loss(state.y)


class HeldOutLoss(Measure):
    """The criterion on held-out data."""

    name = "test_loss"
    long_name = "loss on held-out data"
    price = "an evaluation of the loss on held-out data"
    always = True

    def lacks(self, flow: Network) -> str:
        return HELD_OUT if flow.test_targets is None else ""

    def __call__(self, state: Snapshot) -> Tensor:
        return state.flow.test_loss(state.y)
