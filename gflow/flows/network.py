r"""Gradient flow of any torch network: θ̇ = −∇L(θ), L(θ) = criterion(module_θ(X), Y).

Full batch, all trainable parameters in one vector; gradients and Hessian products by
reverse-mode differentiation, in chunks of the samples where they do not fit at once, or split
across processes. Time unit: t = k·step_size of full-batch descent on the same L. Whether L is
a mean or a sum over samples is the criterion's choice, and it sets the unit: with a mean, one
unit of time is one step of size 1 on the mean loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gflow.errors import InputError
from gflow.flows.base import ParameterFlow, split_ensemble
from gflow.flows.objective.chunks import Chunk, Criterion, in_chunks, require_scalar
from gflow.flows.objective.differentiation import (
    Objective,
    gradient_and_product,
    gradient_by_torch_func,
    hessian,
    map_over_ensemble,
    value,
    value_and_gradient,
)
from gflow.flows.objective.split_by_rows import SampleSums, Summand

if TYPE_CHECKING:
    from gflow.distributed import Team


def gradient_rhs(objective: Objective, theta: Tensor) -> Tensor:
    """Compute θ̇ = −∇L(θ) of a scalar objective.

    Parameters
    ----------
    objective : callable
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.

    Returns
    -------
    Tensor, shape (..., p)
        The velocity θ̇.

    Examples
    --------
    >>> import torch
    >>> gradient_rhs(lambda x: x @ x, torch.tensor([3.0, 4.0]))
    tensor([-6., -8.])
    """
    return -value_and_gradient(objective, theta)[1]


def trainable_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters with ``requires_grad``, detached, by name; tied ones once.

    Raises
    ------
    InputError
        If there are none, they have several dtypes, or a layer makes the outputs random or
        dependent on call order (dropout or batch norm in training mode).

    Examples
    --------
    >>> import torch
    >>> list(trainable_parameters(torch.nn.Linear(2, 1)))
    ['weight', 'bias']
    """
    parameters = {k: p.detach() for k, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        raise InputError("the module has no trainable parameter; set requires_grad of one")
    dtypes = sorted({str(p.dtype) for p in parameters.values()})
    if len(dtypes) > 1:
        raise InputError(
            f"the module's parameters must share one dtype, got {', '.join(dtypes)}; "
            "convert it, for example with module.double()"
        )
    _require_deterministic(module)
    return parameters


class NetworkFlow(ParameterFlow):
    """Gradient flow of the trainable parameters of a ``torch.nn.Module``.

    Parameters
    ----------
    module : nn.Module
        Called as ``module(inputs)``; it is neither changed nor copied. Buffers and
        parameters with ``requires_grad=False`` stay as they are; tied ones count once.
    criterion : callable
        ``criterion(outputs, targets)`` → scalar tensor.
    inputs, targets : Tensor
        The full batch.
    chunk : int, optional
        Number of samples evaluated at a time: memory is bounded by one chunk of one member, at
        the same results to round-off. Costs one forward pass of all samples at construction,
        which determines whether the criterion is a mean or a sum over samples.
    team : Team, optional
        Split the samples across these processes, each of which builds the flow with all of
        them and stores its own rows, on the device of its module: see `gflow.distributed`.

    Raises
    ------
    InputError
        If nothing is trainable, the parameters have several dtypes, a layer makes the
        objective random or dependent on call order (dropout or batch norm in training
        mode), ``chunk`` or ``team`` is given where the loss is no mean or sum over samples, or
        module or data differ between the processes.

    Notes
    -----
    The state is θ, (..., p), in the order of ``module.named_parameters()``;
    ``flow.pack()`` reads it off the module, ``flow.parameters_dict(theta)`` gives it back.
    Results can be differentiated by the caller, as the certificate of a `ModifiedFlow` does;
    then the graph of all chunks stays in memory.

    Examples
    --------
    >>> import torch, gflow
    >>> module = torch.nn.Linear(1, 1, bias=False).double()
    >>> X = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> flow = gflow.NetworkFlow(module, torch.nn.functional.mse_loss, X, 3 * X)
    >>> flow(0.0, torch.zeros(1, dtype=torch.float64)).tolist()   # −d/dw mean((w − 3)²x²)
    [15.0]
    """

    def __init__(
        self,
        module: nn.Module,
        criterion: Criterion,
        inputs: Tensor,
        targets: Tensor,
        *,
        chunk: int | None = None,
        team: Team | None = None,
    ):
        self._module = module
        self._criterion = criterion
        self._start = {k: p.clone() for k, p in trainable_parameters(module).items()}
        self._sizes = [p.numel() for p in self._start.values()]
        self._shared = None
        if team is None or team.size == 1:
            self._chunks = in_chunks(module, criterion, inputs, targets, chunk)
            return
        with team.collective():
            team.require_equal("the module", [*module.parameters(), *module.buffers()])
            team.require_equal("inputs and targets", [inputs, targets])
            self._chunks = in_chunks(module, criterion, inputs, targets, chunk, team)
        self._shared = SampleSums(
            team, self._local_sum, self._local_outputs, len(inputs), self.reference_tensor
        )

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (sum(self._sizes),)

    @property
    def reference_tensor(self) -> Tensor:
        return next(iter(self._start.values()))

    def pack(self, parameters: dict[str, Tensor] | None = None) -> Tensor:
        """Concatenate named parameters (by default the module's at construction) to one state."""
        if parameters is None:
            parameters = self._start
        if set(parameters) != set(self._start):
            raise InputError(f"parameters must be {sorted(self._start)}, got {sorted(parameters)}")
        flat = []
        for name, start in self._start.items():
            p = parameters[name]
            flat.append(p.flatten(p.ndim - start.ndim) if start.ndim else p[..., None])
        return torch.cat(flat, dim=-1)

    def parameters_dict(self, y: Tensor) -> dict[str, Tensor]:
        """Return the named parameters of a state, as views."""
        parts = y.split(self._sizes, dim=-1)
        named = zip(self._start.items(), parts, strict=True)
        return {k: part.reshape((*y.shape[:-1], *p.shape)) for (k, p), part in named}

    def _outputs(self, inputs: Tensor, theta: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._module, self.parameters_dict(theta), (inputs,))
        return outputs

    def _chunk_loss(self, chunk: Chunk, theta: Tensor) -> Tensor:
        """The weighted criterion of a chunk, its summand in the loss of one vector."""
        criterion = self._criterion(self._outputs(chunk.inputs, theta), chunk.targets)
        require_scalar(criterion)
        return criterion if chunk.weight == 1.0 else chunk.weight * criterion

    @property
    def _is_split(self) -> bool:
        """Whether the loss is a sum over several chunks or processes."""
        return len(self._chunks) > 1 or self._shared is not None

    def _sum(self, function: Summand, *ys: Tensor) -> Sequence[Tensor]:
        """Sum ``function(objective, *ys)`` over all samples."""
        if self._shared is None:
            return self._local_sum(function, *ys)
        return self._shared.sum(function, *ys)

    def _local_sum(self, function: Summand, *ys: Tensor) -> list[Tensor]:
        """Sum over the chunks of this process.

        Several chunks are summed member by member, so that one chunk of one member is in memory
        at a time.
        """
        if len(self._chunks) > 1 and ys[0].ndim > 1:
            flat, batch = zip(*(split_ensemble(y, 1) for y in ys), strict=True)
            rows = [self._local_sum(function, *row) for row in zip(*flat, strict=True)]
            stacked = (torch.stack(column) for column in zip(*rows, strict=True))
            return [x.reshape(*batch[0], *x.shape[1:]) for x in stacked]
        total = list(function(partial(self._chunk_loss, self._chunks[0]), *ys))
        for chunk in self._chunks[1:]:
            summand = function(partial(self._chunk_loss, chunk), *ys)
            total = [a + b for a, b in zip(total, summand, strict=True)]
        return total

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self.loss_and_velocity(y)[1]

    def loss(self, y: Tensor) -> Tensor:
        return self._sum(value, y)[0]

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = self._sum(value_and_gradient, y)
        return loss, -gradient

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        return -self._sum(gradient_and_product, y, v)[1]

    def linearised(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        if self._is_split or y.ndim > 1:  # the graph of all parts would stay in memory
            return super().linearised(y)
        product = hessian(partial(self._chunk_loss, self._chunks[0]), y)
        return lambda v: -product(v)

    def velocity_and_acceleration(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if self._is_split:  # the product needs the gradient of all samples first
            return super().velocity_and_acceleration(y)
        gradient, product = self._sum(gradient_and_product, y)
        return -gradient, product

    def reference(self, y: Tensor) -> Tensor:
        # By torch.func, which the flow itself does not use; chunk by chunk as well.
        return -self._sum(gradient_by_torch_func, y)[0]

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute the network's outputs on its inputs, the argument of the criterion."""
        return self._local_outputs(y) if self._shared is None else self._shared.outputs(y)

    def _local_outputs(self, y: Tensor) -> Tensor:
        """Compute the outputs on this process's inputs."""
        if len(self._chunks) > 1 and y.ndim > 1:
            flat, batch = split_ensemble(y, 1)
            rows = torch.stack([self._local_outputs(row) for row in flat])
            return rows.reshape(*batch, *rows.shape[1:])
        parts = [
            map_over_ensemble(partial(self._outputs, chunk.inputs), y) for chunk in self._chunks
        ]
        outputs: Tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        return outputs

    @classmethod
    def example(cls) -> tuple[NetworkFlow, Tensor]:
        i = torch.arange(6, dtype=torch.float64)
        module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        X = torch.stack([torch.cos(i), torch.sin(2 * i)], dim=-1)
        flow = cls(module, nn.functional.mse_loss, X, torch.sin(i)[:, None])
        size = flow.state_shape[0]
        return flow, torch.cos(torch.arange(size, dtype=torch.float64) * 1.7)


def _require_deterministic(module: nn.Module) -> None:
    """Raise InputError where a layer is random or depends on the order of calls."""
    varying = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    with_dropout = (nn.MultiheadAttention, nn.RNNBase)
    for name, child in module.named_modules():
        is_random = isinstance(child, with_dropout) and child.dropout > 0
        if child.training and (is_random or isinstance(child, varying)):
            raise InputError(
                "the loss must be a function of the parameters alone, but "
                f"{type(child).__name__} '{name}' in training mode is random or depends on the "
                "order of calls; call module.eval() first"
            )
