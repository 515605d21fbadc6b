"""The criterion on the samples and on held-out data."""

from __future__ import annotations

from torch import Tensor

from gflow.measures.base import HELD_OUT, WEIGHT_DECAY, Measure, Snapshot


class CriterionLoss(Measure):
    """The criterion on all samples, without the weight decay that ``loss`` has."""

    name = "criterion_loss"
    long_name = "loss without weight decay"
    price = "an evaluation of the loss"
    always = True
    needs = (WEIGHT_DECAY,)

    def __call__(self, state: Snapshot) -> Tensor:
        return state.flow.criterion_loss(state.y)


class HeldOutLoss(Measure):
    """The criterion on held-out data."""

    name = "test_loss"
    long_name = "loss on held-out data"
    price = "an evaluation of the loss on held-out data"
    always = True
    needs = (HELD_OUT,)

    def __call__(self, state: Snapshot) -> Tensor:
        return state.flow.test_loss(state.y)
