"""What an evaluation of a module's loss must leave as it was."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gflow.flows.objective.chunks import Chunk, Criterion


class Guard:
    """What an evaluation must leave as it was: copies, to compare and to restore.

    Parameters
    ----------
    module : nn.Module
    criterion : callable
    chunk : Chunk
        The samples.
    """

    def __init__(self, module: nn.Module, criterion: Criterion, chunk: Chunk):
        owners = {"": module, " of the criterion": criterion}
        modules = {of: m for of, m in owners.items() if isinstance(m, nn.Module)}
        named: dict[str, Tensor] = {"the inputs": chunk.inputs, "the targets": chunk.targets}
        for of, m in modules.items():
            named |= {f"buffer {k!r}{of}": b for k, b in m.named_buffers() if b is not None}
            named |= {f"parameter {k!r}{of}": p for k, p in m.named_parameters()}
        self._pairs = [(name, x, x.detach().clone()) for name, x in named.items()]
        self._modes = [(child, child.training) for m in modules.values() for child in m.modules()]
        self._module = module
        self._parameters = dict(module.named_parameters())
        self._gradients = [
            (k, p, p.grad, torch.empty(0) if p.grad is None else p.grad.clone())
            for k, p in self._parameters.items()
        ]
        self._device = chunk.inputs.device
        self._random = self.random_states()

    def random_states(self) -> tuple[Any, ...]:
        """The states of the global generators."""
        states: list[Any] = [torch.get_rng_state(), random.getstate(), np.random.get_state()]  # noqa: NPY002
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return tuple(states)

    def restore(self) -> list[str]:
        """Restore what has changed, and return the names of the tensors among it."""
        changed = []
        for name, x, before in self._pairs:
            if not _same(x, before):
                changed.append(name)
                with torch.no_grad():
                    x.copy_(before)
        for name, p, grad, values in self._gradients:
            if p.grad is not grad or (grad is not None and not _same(grad, values)):
                changed.append(f"the .grad of parameter {name!r}")
                p.grad = None if grad is None else grad.copy_(values)
        added = set(dict(self._module.named_parameters())) - set(self._parameters)
        changed += [f"the list of parameters, by {name!r}" for name in sorted(added)]
        for child, training in self._modes:
            child.training = training
        torch.set_rng_state(self._random[0])
        random.setstate(self._random[1])
        np.random.set_state(self._random[2])  # noqa: NPY002
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._random[3], self._device)
        return changed


def _same(a: Tensor, b: Tensor) -> bool:
    a = a.detach()
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())


def equal_states(a: Sequence[Any], b: Sequence[Any]) -> bool:
    """Return whether two states of the global generators are equal.

    Parameters
    ----------
    a, b : sequence
        As `Guard.random_states` returns them.

    Returns
    -------
    bool

    Examples
    --------
    >>> x = torch.ones(1)
    >>> guard = Guard(nn.Identity(), nn.Identity(), Chunk(x, x, 1.0))
    >>> equal_states(guard.random_states(), guard.random_states())
    True
    """
    return _comparable(a) == _comparable(b)


def _comparable(states: Sequence[Any]) -> list[Any]:
    of_torch, of_python, of_numpy, *rest = states
    tensors = [x.numpy().tobytes() for x in (of_torch, *rest)]
    return [tensors, of_python, of_numpy[1].tobytes(), of_numpy[2:]]
