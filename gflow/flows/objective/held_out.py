"""Held-out data of a network: its loss and outputs, which no velocity contains."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from gflow.checks import shown
from gflow.errors import InputError
from gflow.flows.objective.chunks import in_chunks
from gflow.flows.objective.criteria import TailCriterion, named_criterion
from gflow.flows.objective.differentiation import map_over_ensemble, value
from gflow.flows.objective.network_loss import NetworkLoss
from gflow.flows.objective.samples import (
    call_criterion,
    call_module,
    plain_tensor,
    require_samples,
)


class HeldOut:
    """The criterion and the outputs of a module on held-out data.

    Parameters
    ----------
    loss : NetworkLoss
        The module and the criterion, on the route that was chosen for the samples.
    test : tuple of two Tensor
        Inputs and targets.
    chunk : int or None
        Samples at a time.

    Attributes
    ----------
    targets : Tensor

    Raises
    ------
    InputError
        If ``test`` is no such pair, or module and criterion cannot be evaluated on it.
    """

    def __init__(self, loss: NetworkLoss, test: object, chunk: int | None):
        if not isinstance(test, tuple | list) or len(test) != 2:
            raise InputError(
                f"test must be a pair of held-out inputs and targets, got {shown(test)}; write "
                "test=(inputs, targets)"
            )
        inputs, targets = test
        self._loss, like = loss, loss.own[0]
        require_samples(inputs, targets, like, "test ")
        inputs, self.targets = plain_tensor(inputs).detach(), plain_tensor(targets).detach()
        try:
            if isinstance(loss.criterion, TailCriterion):
                named_criterion(loss.criterion.name, self.targets)
            with torch.enable_grad(), loss.settings():
                few = slice(0, chunk)
                outputs = call_module(loss.module, inputs[few], like)
                call_criterion(loss.criterion, outputs, self.targets[few], inputs[few])
            self._chunks = in_chunks(loss.module, loss.criterion, inputs, self.targets, chunk)
        except InputError as error:
            raise InputError(f"of the held-out data: {error}") from None

    def loss(self, y: Tensor) -> Tensor:
        """Compute the criterion at states (..., p)."""
        parts = [value(self._loss.objective(chunk), y)[0] for chunk in self._chunks]
        return torch.stack(parts).sum(0).detach()

    def outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs at states (..., p), (..., n, …)."""
        parts = [
            map_over_ensemble(partial(self._loss.outputs, chunk.inputs), y)
            for chunk in self._chunks
        ]
        return torch.cat(parts, dim=y.ndim - 1).detach()
