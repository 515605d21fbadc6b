"""The trainable parameters of a module as one vector θ, the state of `NetworkFlow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from gflow.checks import require_float, require_positive
from gflow.checks.modules import require_criterion, require_deterministic, trainable_parameters
from gflow.errors import InputError
from gflow.flows.base import ParameterFlow
from gflow.flows.objective.chunks import Criterion
from gflow.flows.objective.groups import Groups, by_layer
from gflow.flows.objective.network_loss import NetworkLoss
from gflow.flows.objective.samples import require_gradients
from gflow.text import brief


class NetworkParameters(ParameterFlow):
    """A flow of the trainable parameters of a module, in the order of ``named_parameters()``.

    Parameters
    ----------
    module : nn.Module
    criterion : callable
        ``criterion(outputs, targets)`` → scalar tensor.
    """

    def __init__(self, module: nn.Module, criterion: Criterion):
        require_gradients(next(module.parameters(), torch.empty(0)).device)
        self._start = {k: p.clone() for k, p in trainable_parameters(module).items()}
        require_criterion(criterion, module)
        self._sizes = [p.numel() for p in self._start.values()]
        self._loss = NetworkLoss(module, criterion, self._start)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self._loss.module

    @property
    def criterion(self) -> Criterion:
        """The criterion, also where it was given by name."""
        return self._loss.criterion

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (sum(self._sizes),)

    @property
    def reference_tensor(self) -> Tensor:
        return next(iter(self._start.values()))

    @property
    def start(self) -> Tensor:
        """The module's parameters where the flow was made, (p,)."""
        return self.pack()

    def check_state(self, y: Tensor) -> None:
        super().check_state(y)
        require_deterministic(self.module)  # again: it may have been put in training mode
        require_gradients(y.device)
        if y.is_inference():
            raise InputError("a state must not be made in torch.inference_mode; pass its clone()")

    def pack(self, parameters: dict[str, Tensor] | None = None) -> Tensor:
        """Concatenate named parameters (by default the module's at construction) to one state."""
        if parameters is None:
            parameters = self._start
        if not isinstance(parameters, Mapping) or set(parameters) != set(self._start):
            is_mapping = isinstance(parameters, Mapping)
            got = brief(sorted(map(str, parameters))) if is_mapping else type(parameters).__name__
            raise InputError(f"parameters must be {brief(list(self._start))} by name, got {got}")
        flat = []
        for name, start in self._start.items():
            p = parameters[name]
            if p.shape[p.ndim - start.ndim :] != start.shape:
                sizes = ", ".join(["...", *map(str, start.shape)])
                raise InputError(
                    f"parameter {name!r} must have shape ({sizes}), got {tuple(p.shape)}; reshape "
                    "it"
                )
            flat.append(p.flatten(p.ndim - start.ndim) if start.ndim else p[..., None])
        return torch.cat(flat, dim=-1)

    def scaled_start(self, scales: Groups | Sequence[float]) -> Tensor:
        """Return the module's parameters at construction, scaled by layer.

        Parameters
        ----------
        scales : float, sequence of float, or mapping of str to float
            One positive number for all; one for each layer in the order of the parameters, where a
            layer is a module with parameters of its own; or numbers by the name of a parameter or
            of a module, or by a pattern of these, 1 for the others.

        Returns
        -------
        Tensor, shape (p,)

        Raises
        ------
        InputError
            If a number is not positive, there are not as many as layers, or a name fits none.

        Examples
        --------
        >>> import gflow
        >>> flow, _ = gflow.NetworkFlow.example()       # two layers
        >>> y = flow.scaled_start([2.0, 0.1])           # the first large, the second small
        >>> before, after = flow.parameters_dict(flow.start), flow.parameters_dict(y)
        >>> [round(float(after[k].norm() / before[k].norm()), 6) for k in ("0.weight", "2.weight")]
        [2.0, 0.1]
        """
        numbers = by_layer("scales", scales, self._start, require_positive)
        return self.pack({name: numbers[name] * p for name, p in self._start.items()})

    def parameters_dict(self, y: Tensor) -> dict[str, Tensor]:
        """Return the named parameters of a state, as views."""
        y = require_float("a state", y)
        if y.shape[-1:] != self.state_shape:
            raise InputError(
                f"a state of NetworkFlow has shape (..., {self.state_shape[0]}), got "
                f"{tuple(y.shape)}; make it by flow.pack()"
            )
        return self._named(y)

    def _named(self, y: Tensor) -> dict[str, Tensor]:
        """Return the named parameters of a state that is known to be one."""
        parts = y.split(self._sizes, dim=-1)
        named = zip(self._start.items(), parts, strict=True)
        return {k: part.reshape((*y.shape[:-1], *p.shape)) for (k, p), part in named}

    def _of_parameters(self, numbers: Mapping[str, float]) -> Tensor:
        """Return a number for each parameter as a vector (p,)."""
        like = self.reference_tensor
        return torch.cat([like.new_full((p.numel(),), numbers[k]) for k, p in self._start.items()])

    def neurons(self, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the rows of the first weight matrix; of the last layer the signs, if it fits."""
        matrices = [p for p in self.parameters_dict(y).values() if p.ndim == y.ndim + 1]
        if not matrices:
            return None
        first, count = matrices[0], matrices[0].shape[-2]
        last = matrices[-1][0] if y.ndim > 1 else matrices[-1]
        fits = len(matrices) == 2 and last.shape == (1, count)
        return first, last[0].sign() if fits else first.new_ones(count)
