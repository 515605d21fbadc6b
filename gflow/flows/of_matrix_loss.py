"""The base of flows whose loss is one of the end-to-end matrix W."""

from __future__ import annotations

import copy
import functools
from typing import Self

from torch import Tensor

from gflow.flows.arguments import require_loss
from gflow.flows.base import Flow
from gflow.losses import Loss


class MatrixLossFlow(Flow):
    """A flow on a loss ℓ(W), whose data may differ from member to member of an ensemble.

    Parameters
    ----------
    loss : Loss
        The loss of the end-to-end matrix.

    Raises
    ------
    InputError
        If it is no loss of a matrix.
    """

    def __init__(self, loss: Loss):
        require_loss(loss)
        self._loss = loss

    @property
    def reference_tensor(self) -> Tensor:
        return self._loss.reference_tensor

    @property
    def members(self) -> tuple[int, ...]:
        return self._loss.members

    def for_members(self, index: Tensor) -> Self:
        """Return this flow with the loss of some members."""
        if not self.members:
            return self
        chosen = copy.copy(self)
        chosen._loss = self._loss.for_members(index)
        for name in vars(self):
            if isinstance(getattr(type(self), name, None), functools.cached_property):
                delattr(chosen, name)  # parameter flows have the loss, too
        return chosen
