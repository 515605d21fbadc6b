"""A network's loss and outputs on all samples: sums over chunks, and over processes of a team."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gflow.checks import require_count
from gflow.flows.base import split_ensemble
from gflow.flows.objective.chunks import Chunk, in_chunks
from gflow.flows.objective.construction import choose_route, nearby
from gflow.flows.objective.differentiation import (
    gradient_and_product,
    gradient_by_torch_func,
    hessian,
    map_over_ensemble,
    value,
    value_and_gradient,
)
from gflow.flows.objective.layer_products import LayeredHessian
from gflow.flows.objective.layers import LayeredLoss
from gflow.flows.objective.network_loss import NetworkLoss, reference_gradient
from gflow.flows.objective.penalty import Regulariser
from gflow.flows.objective.samples import require_rows
from gflow.flows.objective.split_by_rows import SampleSums, Summand

if TYPE_CHECKING:
    from gflow.distributed import Team

_LARGE = 2**13  # numbers in a layer of one member


def full_batch(
    loss: NetworkLoss,
    samples: tuple[Tensor, Tensor],
    regulariser: Regulariser | None,
    chunk: int | None,
    team: Team | None = None,
) -> FullBatch:
    """Check a network's loss on the first samples, and split all samples.

    Parameters
    ----------
    loss : NetworkLoss
        Its route of evaluation is chosen.
    samples : tuple of two Tensor
        Inputs and targets.
    regulariser : Regulariser or None
        What is added to the criterion.
    chunk : int or None
        Number of samples evaluated at a time.
    team : Team, optional
        The processes that share the samples.

    Returns
    -------
    FullBatch

    Raises
    ------
    InputError
        As `choose_route`, `in_chunks` and `Regulariser.check_penalty` do.

    Examples
    --------
    >>> from torch import nn
    >>> module, x = nn.Linear(1, 1), torch.ones(5, 1)
    >>> start = {name: p.detach() for name, p in module.named_parameters()}
    >>> loss = NetworkLoss(module, nn.functional.mse_loss, start)
    >>> len(full_batch(loss, (x, x), None, 2).chunks)
    3
    """
    inputs, targets = samples
    n = len(inputs)
    rows = n if team is None else -(-n // team.size)
    size = rows if chunk is None else chunk if team is None else min(rows, chunk)
    require_count("chunk", size)
    first = Chunk(inputs, targets, 1.0)
    if size < n:
        require_rows(inputs, targets)
        device = loss.own[0].device
        first = Chunk(inputs[:size].to(device), targets[:size].to(device), 1.0)
    choose_route(loss, first)
    if regulariser is not None and regulariser.penalty is not None:
        theta = torch.cat([p.detach().flatten() for p in loss.own])
        loss.route.has_products &= regulariser.check_penalty([theta, nearby(theta, loss)])
    chunks = in_chunks(loss.module, loss.criterion, inputs, targets, chunk, team)
    if team is None or team.rank == 0:  # the sum over processes has it once
        chunks[0].regulariser = regulariser
    return FullBatch(loss, chunks, team, n)


class FullBatch:
    """Sums over all samples, one chunk in memory at a time.

    Parameters
    ----------
    loss : NetworkLoss
        The module and the criterion.
    chunks : list of Chunk
        The samples of this process.
    team : Team, optional
        The processes that share the samples.
    n : int
        Number of samples in all.
    """

    def __init__(
        self, loss: NetworkLoss, chunks: list[Chunk], team: Team | None = None, n: int = 0
    ):
        self._loss, self.chunks, self._shared = loss, chunks, None
        if team is not None and team.size > 1:
            like = loss.own[0].detach()
            self._shared = SampleSums(team, self._local_sum, self._local_outputs, n, like)

    @property
    def is_shared(self) -> bool:
        """Whether other processes have samples as well."""
        return self._shared is not None

    @property
    def is_split(self) -> bool:
        """Whether the loss is a sum over several chunks or processes."""
        return len(self.chunks) > 1 or self.is_shared

    @property
    def samples(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets of this process, joined where they are in chunks."""
        if len(self.chunks) == 1:
            return self.chunks[0].inputs, self.chunks[0].targets
        pairs = [(chunk.inputs, chunk.targets) for chunk in self.chunks]
        inputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        return inputs, targets

    def sum(self, function: Summand, *ys: Tensor) -> Sequence[Tensor]:
        """Sum ``function(objective, *ys)`` over all samples.

        Parameters
        ----------
        function : callable
            Of the summand of one chunk, and of ``ys``.
        *ys : Tensor, shape (..., p)
            The state, and directions.

        Returns
        -------
        sequence of Tensor
        """
        if self._shared is None:
            return self._local_sum(function, *ys)
        return self._shared.sum(function, *ys)

    def outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs on all samples at states (..., p), (..., n, …)."""
        return self._local_outputs(y) if self._shared is None else self._shared.outputs(y)

    def _local_sum(self, function: Summand, *ys: Tensor) -> list[Tensor]:
        """Sum over the chunks of this process."""
        if self._one_by_one(*ys):
            flat, batch = zip(*(split_ensemble(y, 1) for y in ys), strict=True)
            rows = [self._local_sum(function, *row) for row in zip(*flat, strict=True)]
            stacked = (torch.stack(column) for column in zip(*rows, strict=True))
            return [x.reshape(*batch[0], *x.shape[1:]) for x in stacked]
        if function is gradient_by_torch_func:
            function = reference_gradient
        total: list[Tensor] = []
        for chunk in self.chunks:
            summand = self._by_layers(function, chunk, *ys)
            if summand is None:
                summand = function(self._loss.objective(chunk), *ys)
            total = [a + b for a, b in zip(total, summand, strict=True)] if total else [*summand]
        return total

    def hessian(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        """Return v ↦ ∇²L(θ)·v at one state (p,), of one chunk in one process."""
        (chunk,) = self.chunks
        layers = self._layers_at(chunk, y)
        if layers is None:
            return hessian(self._loss.objective(chunk), y)
        return LayeredHessian(layers, chunk, self._loss.split(y.detach())).product

    def _by_layers(self, function: Summand, chunk: Chunk, *ys: Tensor) -> Sequence[Tensor] | None:
        """Return ``function`` of a chunk without a graph; None where that is not possible."""
        is_known = function in (value, value_and_gradient, gradient_and_product)
        layers = self._layers_at(chunk, *ys) if is_known and ys[0].ndim == 1 else None
        if layers is None:
            return None
        parameters = self._loss.split(ys[0].detach())
        if function is value:
            return (layers.value(chunk, parameters),)
        if function is value_and_gradient:
            return layers.value_and_gradient(chunk, parameters)
        at = LayeredHessian(layers, chunk, parameters)
        gradient = at.gradient()
        return gradient, at.product(ys[1] if len(ys) > 1 else gradient)

    def _layers_at(self, chunk: Chunk, *ys: Tensor) -> LayeredLoss | None:
        """Return the loss by its layers where it can be taken at states, along directions."""
        return None if chunk.regulariser is not None else self._loss.layers_at(*ys)

    def _one_by_one(self, *ys: Tensor) -> bool:
        """Whether the members of an ensemble are evaluated one after another.

        One chunk of one member is in memory at a time, where there are several. On a processor one
        large member after another by its layers is faster than all at once by vmap.
        """
        if ys[0].ndim == 1 or len(self.chunks) > 1:
            return ys[0].ndim > 1
        (chunk,) = self.chunks
        layers = self._layers_at(chunk, *ys)
        is_large = layers is not None and layers.width * len(chunk.inputs) >= _LARGE
        return is_large and ys[0].device.type == "cpu"

    def _local_outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs on this process's inputs."""
        if self._one_by_one(y):
            flat, batch = split_ensemble(y, 1)
            rows = torch.stack([self._local_outputs(row) for row in flat])
            return rows.reshape(*batch, *rows.shape[1:])
        layers = self._loss.layers_at(y) if y.ndim == 1 else None
        if layers is not None:
            parameters = self._loss.split(y.detach())
            parts = [layers.outputs(chunk.inputs, parameters) for chunk in self.chunks]
        else:
            parts = [
                map_over_ensemble(partial(self._loss.outputs, chunk.inputs), y)
                for chunk in self.chunks
            ]
        outputs: Tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        return outputs
