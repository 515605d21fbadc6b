"""The criterion on the samples and on held-out data, and the penalty."""

from __future__ import annotations

from torch import Tensor

from gflow.measures.base import HELD_OUT, PENALTY, REGULARISED, Measure, Snapshot


class CriterionLoss(Measure):
    """The criterion on all samples, without weight decay and penalty."""

    name = "criterion_loss"
    long_name = "loss without weight decay and penalty"
    price = "an evaluation of the loss"
    always = True
    needs = (REGULARISED,)

    def __call__(self, state: Snapshot) -> Tensor:
        return state.flow.criterion_loss(state.y)


class Penalty(Measure):
    """The penalty that ``loss`` has beside criterion and weight decay."""

    name = "penalty"
    long_name = "penalty on the parameters"
    price = "an evaluation of the penalty"
    always = True
    needs = (PENALTY,)

    def __call__(self, state: Snapshot) -> Tensor:
        return state.flow.penalty(state.y)


class HeldOutLoss(Measure):
    """The criterion on held-out data."""

    name = "test_loss"
    long_name = "loss on held-out data"
    price = "an evaluation of the loss on held-out data"
    always = True
    needs = (HELD_OUT,)

    def __call__(self, state: Snapshot) -> Tensor:
        return state.flow.test_loss(state.y)
