"""A full batch in chunks: L = Σ_c w_c·criterion(module_θ(X_c), Y_c) over chunks c of the samples.

w_c is n_c/n where the criterion is a mean over samples and 1 where it is a sum. Which of the
two it is, is measured on the data, since a criterion does not say; what is neither
(a class-weighted mean, the root of a mean) has no such form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gflow.errors import InputError

#: criterion(outputs, targets) → scalar
Criterion = Callable[[Tensor, Tensor], Tensor]

_FEW = 4  # samples on which it is seen whether they are independent


@dataclass(eq=False)
class Chunk:
    """Some samples and the weight of their criterion in the loss."""

    inputs: Tensor
    targets: Tensor
    weight: float


def whole(inputs: Tensor, targets: Tensor) -> list[Chunk]:
    """All samples as one chunk."""
    return [Chunk(inputs, targets, 1.0)]


def in_chunks(
    module: nn.Module, criterion: Criterion, inputs: Tensor, targets: Tensor, size: int
) -> list[Chunk]:
    """The samples in chunks of a size (the last may be smaller), as views.

    One forward of all samples, two chunks in memory at a time.

    Raises
    ------
    InputError
        If size is not a positive whole number, inputs and targets differ in number, the
        outputs of samples depend on one another, or the criterion is neither a mean nor a sum.

    Examples
    --------
    >>> import torch
    >>> X, Y = torch.zeros(5, 1), torch.ones(5, 1)
    >>> parts = in_chunks(torch.nn.Linear(1, 1), torch.nn.functional.mse_loss, X, Y, 2)
    >>> [c.weight for c in parts]
    [0.4, 0.4, 0.2]
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InputError(f"chunk must be a positive whole number of samples, got {size!r}")
    n = len(inputs)
    if len(targets) != n:
        raise InputError(
            f"inputs and targets must have one row a sample, got {n} and {len(targets)} rows"
        )
    if size >= n:
        return whole(inputs, targets)
    pairs = list(zip(inputs.split(size), targets.split(size), strict=True))
    with torch.no_grad():
        _require_independent(module, inputs[:_FEW])
        mean = _is_mean(module, criterion, pairs)
    return [Chunk(x, y, len(x) / n if mean else 1.0) for x, y in pairs]


def _require_independent(module: nn.Module, inputs: Tensor) -> None:
    together = module(inputs)
    alone = torch.cat([module(part) for part in inputs.tensor_split(2)])
    if together.shape != alone.shape or not _close(together, alone):
        raise InputError(
            "chunk needs outputs that depend on their own sample alone, but a few samples "
            "give others in two parts than together (statistics of the batch?); leave chunk out"
        )


def _is_mean(module: nn.Module, criterion: Criterion, pairs: list[tuple[Tensor, Tensor]]) -> bool:
    """Whether the criterion of neighbouring chunks is their mean; else it is their sum."""
    could_be = {"mean": True, "sum": True}
    x, targets = pairs[0]
    outputs = module(x)
    value = criterion(outputs, targets)
    require_number(value)
    for x, more_targets in pairs[1:]:
        more = module(x)
        more_value = criterion(more, more_targets)
        both = criterion(torch.cat([outputs, more]), torch.cat([targets, more_targets]))
        a, b = len(targets), len(more_targets)
        could_be["mean"] &= _close(both, (a * value + b * more_value) / (a + b))
        could_be["sum"] &= _close(both, value + more_value)
        outputs, targets, value = more, more_targets, more_value
    if could_be["mean"] == could_be["sum"]:
        why = "vanishes at the start" if could_be["mean"] else "is neither on this data"
        raise InputError(
            "chunk needs a criterion that is a mean or a sum over samples, but this one "
            f"{why}; leave chunk out, or write it as a plain sum"
        )
    return could_be["mean"]


def require_number(value: Tensor) -> None:
    """Raise InputError unless a criterion's value is a scalar."""
    if value.ndim:
        raise InputError(
            f"criterion must return one number, got shape {tuple(value.shape)}; reduce it to "
            "a mean or a sum over samples"
        )


def _close(a: Tensor, b: Tensor) -> bool:
    scale = torch.maximum(a.abs().max(), b.abs().max())
    return bool((a - b).abs().max() <= torch.finfo(a.dtype).eps ** 0.5 * scale)
