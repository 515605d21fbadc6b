r"""Gradient flow of any torch network: θ̇ = −∇L(θ), L(θ) = criterion(module_θ(X), Y).

Full batch, all trainable parameters in one vector; gradient and Jacobian-vector
products by torch.func. Time unit: t = k·step_size of full-batch descent on the same
L. Whether L is a mean or a sum over samples is the criterion's choice, and it sets
the unit: with a mean, one unit of time is one step of size 1 on the mean loss.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap

from gflow.errors import InputError
from gflow.flows.base import ParameterFlow, split_ensemble

Criterion = Callable[[Tensor, Tensor], Tensor]


def gradient_rhs(objective: Callable[[Tensor], Tensor], theta: Tensor) -> Tensor:
    """θ̇ = −∇L(θ) of a scalar objective, for one vector or an ensemble (..., p)."""
    slope = grad(objective)
    flat, batch = split_ensemble(theta, 1)
    rate = vmap(slope)(flat) if batch else slope(theta)[None]
    return -rate.reshape(theta.shape)


def trainable_parameters(module: nn.Module) -> dict[str, Tensor]:
    """The parameters with ``requires_grad``, detached, by name; tied ones once.

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
    found = {k: p.detach() for k, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise InputError("the module has no trainable parameter: nothing would flow")
    dtypes = sorted({str(p.dtype) for p in found.values()})
    if len(dtypes) > 1:
        raise InputError(
            f"the module's parameters must share one dtype, got {', '.join(dtypes)}; "
            "convert it, for example with module.double()"
        )
    unsteady = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    for name, child in module.named_modules():
        if isinstance(child, unsteady) and child.training:
            raise InputError(
                f"{type(child).__name__} '{name}' in training mode makes the loss no function "
                "of the parameters; call module.eval() first"
            )
    return found


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

    Raises
    ------
    InputError
        If nothing is trainable, the parameters have several dtypes, or a layer makes the
        objective random or dependent on call order (dropout or batch norm in training
        mode).

    Notes
    -----
    The state is θ, (..., p), in the order of ``module.named_parameters()``;
    ``flow.pack()`` reads it off the module, ``flow.parameters_dict(theta)`` gives it back.

    Examples
    --------
    >>> import torch, gflow
    >>> module = torch.nn.Linear(1, 1, bias=False).double()
    >>> X = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> flow = gflow.NetworkFlow(module, torch.nn.functional.mse_loss, X, 3 * X)
    >>> flow(0.0, torch.zeros(1, dtype=torch.float64)).tolist()   # −d/dw mean((w − 3)²x²)
    [15.0]
    """

    def __init__(self, module: nn.Module, criterion: Criterion, inputs: Tensor, targets: Tensor):
        self._module = module
        self._criterion = criterion
        self._inputs = inputs
        self._targets = targets
        self._start = {k: p.clone() for k, p in trainable_parameters(module).items()}
        self._sizes = [p.numel() for p in self._start.values()]

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (sum(self._sizes),)

    @property
    def like(self) -> Tensor:
        return next(iter(self._start.values()))

    def pack(self, parameters: dict[str, Tensor] | None = None) -> Tensor:
        """One state of the named parameters; of the module's own at construction by default."""
        found = self._start if parameters is None else parameters
        if set(found) != set(self._start):
            raise InputError(f"parameters must be {sorted(self._start)}, got {sorted(found)}")
        ndims = {k: p.ndim for k, p in self._start.items()}
        flat = [
            found[k].flatten(found[k].ndim - n) if n else found[k][..., None]
            for k, n in ndims.items()
        ]
        return torch.cat(flat, dim=-1)

    def parameters_dict(self, y: Tensor) -> dict[str, Tensor]:
        """The named parameters of a state, as views."""
        parts = y.split(self._sizes, dim=-1)
        named = zip(self._start.items(), parts, strict=True)
        return {k: part.reshape((*y.shape[:-1], *p.shape)) for (k, p), part in named}

    def _output(self, theta: Tensor) -> Tensor:
        outputs: Tensor = functional_call(
            self._module, self.parameters_dict(theta), (self._inputs,)
        )
        return outputs

    def _objective(self, theta: Tensor) -> Tensor:
        return self._criterion(self._output(theta), self._targets)

    def _each(self, function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        if y.ndim == 1:
            return function(y)
        flat, batch = split_ensemble(y, 1)
        values = vmap(function)(flat)
        return values.reshape(*batch, *values.shape[1:])

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return gradient_rhs(self._objective, y)

    def loss(self, y: Tensor) -> Tensor:
        return self._each(self._objective, y)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        # Reverse over reverse: the Jacobian is symmetric, and forward mode fails in some
        # of torch's functions (mse_loss: "ZeroTensors are immutable").
        product: Tensor = vjp(lambda state: self(0.0, state), y)[1](v)[0]
        return product

    def end_to_end(self, y: Tensor) -> Tensor:
        """The network's outputs on its inputs, the object the criterion sees."""
        return self._each(self._output, y)

    @classmethod
    def example(cls) -> tuple[NetworkFlow, Tensor]:
        i = torch.arange(6, dtype=torch.float64)
        module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
        X = torch.stack([torch.cos(i), torch.sin(2 * i)], dim=-1)
        flow = cls(module, nn.functional.mse_loss, X, torch.sin(i)[:, None])
        size = flow.state_shape[0]
        return flow, torch.cos(torch.arange(size, dtype=torch.float64) * 1.7)
