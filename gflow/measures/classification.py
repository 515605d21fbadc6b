"""Accuracy and margin of a classification."""

from __future__ import annotations

from torch import Tensor

from gflow.measures.base import CLASSES, HELD_OUT, Measure, Snapshot


class Accuracy(Measure):
    """The share of the samples whose own class has the largest output."""

    name = "accuracy"
    long_name = "share of the samples classified correctly"
    price = "the outputs"
    always = True
    needs = (CLASSES,)

    def __call__(self, state: Snapshot) -> Tensor:
        return state.classes.accuracy(state.outputs, state.flow.targets)


class Margin(Measure):
    """The least distance of the output of a sample's own class above the next one."""

    name = "margin"
    long_name = "least margin of a sample"
    price = "the outputs"
    always = True
    needs = (CLASSES,)

    def __call__(self, state: Snapshot) -> Tensor:
        return state.classes.margin(state.outputs, state.flow.targets)


class HeldOutAccuracy(Measure):
    """The share of held-out samples whose own class has the largest output."""

    name = "test_accuracy"
    long_name = "share of held-out samples classified correctly"
    price = "the outputs on held-out data"
    always = True
    needs = (HELD_OUT, CLASSES)

    def __call__(self, state: Snapshot) -> Tensor:
        return state.classes.accuracy(state.test_outputs, state.test_targets)
