"""A full batch in chunks: L = Σ_c w_c·criterion(module_θ(X_c), Y_c) over chunks c of the samples.

w_c is n_c/n where the criterion is a mean over samples and 1 where it is a sum. A criterion does
not declare which of the two it is, so that is measured on the data; a criterion that is neither
(a class-weighted mean, the root of a mean) cannot be split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gflow.checks import require_count
from gflow.errors import InputError
from gflow.flows.objective.penalty import Regulariser

if TYPE_CHECKING:
    from gflow.distributed import Team

#: criterion(outputs, targets) → scalar
Criterion = Callable[[Tensor, Tensor], Tensor]

_PROBE_SIZE = 4  # samples on which the independence of outputs is tested


@dataclass(eq=False)
class Chunk:
    """Samples and the weight of their criterion in the loss.

    Attributes
    ----------
    inputs, targets : Tensor, shape (n_c, ...)
        The samples.
    weight : float
        w_c.
    regulariser : Regulariser or None
        Weight decay and penalty, which one chunk adds to its summand; None of the others.
    """

    inputs: Tensor
    targets: Tensor
    weight: float
    regulariser: Regulariser | None = None


def in_chunks(
    module: nn.Module,
    criterion: Criterion,
    inputs: Tensor,
    targets: Tensor,
    size: int | None,
    team: Team | None = None,
) -> list[Chunk]:
    """Split the samples into chunks of a size; the last may be smaller.

    This takes one forward pass of all samples, with two chunks in memory at a time. Chunks are
    views, and with a team copies of this process's samples.

    Parameters
    ----------
    module : nn.Module
        The network, called as ``module(inputs)``.
    criterion : callable
        ``criterion(outputs, targets)`` → scalar tensor.
    inputs, targets : Tensor, shape (n, ...)
        The full batch.
    size : int or None
        Samples in a chunk; None takes all, or all of this process's, as one chunk.
    team : Team, optional
        The processes that share the samples.

    Returns
    -------
    list of Chunk
        The chunks in the order of the samples.

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
    if size is not None:
        size = require_count("chunk", size)
    n = len(inputs)
    if (size is None or size >= n) and team is None:
        return [Chunk(inputs, targets, 1.0)]
    if len(targets) != n:
        raise InputError(
            f"inputs and targets must have one row a sample, got {n} and {len(targets)} "
            "rows; remove samples without a partner"
        )
    device = next(module.parameters()).device
    pairs, tested = _pairs(inputs, targets, size, team, device)
    option = "chunk" if team is None else "team"

    def measure() -> Tensor:
        _require_independent(module, inputs[:_PROBE_SIZE].to(device), option)
        return _is_consistent(module, criterion, tested)

    try:
        with torch.no_grad():
            consistent = measure()
    except RuntimeError:  # module or criterion differentiates
        with torch.enable_grad():
            consistent = measure()
    is_mean = _is_mean(consistent if team is None else team.minimum(consistent), option)
    return [Chunk(x, y, len(x) / n if is_mean else 1.0) for x, y in pairs]


_Pairs = list[tuple[Tensor, Tensor]]


def _pairs(
    inputs: Tensor, targets: Tensor, size: int | None, team: Team | None, device: torch.device
) -> tuple[_Pairs, _Pairs]:
    """This process's chunks, and those on which it tests the criterion.

    The tested ones include the first of the next process, so that together the processes test
    every two neighbours.
    """
    n = len(inputs)
    rows = slice(0, n) if team is None else team.rows(n)
    step = size or rows.stop - rows.start
    batch = inputs, targets
    if team is not None:  # copies: views would keep the rows of other processes in memory
        batch = inputs[rows].to(device, copy=True), targets[rows].to(device, copy=True)
    pairs = list(zip(*(x.split(step) for x in batch), strict=True))
    after = slice(rows.stop, rows.stop + step)
    following = [(inputs[after].to(device), targets[after].to(device))] if rows.stop < n else []
    return pairs, pairs + following


def _require_independent(module: nn.Module, inputs: Tensor, option: str) -> None:
    together = module(inputs)
    apart = torch.cat([module(part) for part in inputs.tensor_split(2) if len(part)])
    if together.shape != apart.shape or not _close(together, apart):
        raise InputError(
            f"{option} needs outputs that depend on their own sample alone, but the outputs of "
            f"{len(inputs)} samples change when they are split in two (statistics of the batch?); "
            f"leave {option} out"
        )


def _is_consistent(module: nn.Module, criterion: Criterion, pairs: _Pairs) -> Tensor:
    """Whether neighbouring chunks allow that the criterion is a mean, and a sum: (2,) of 0 or 1."""
    mean = total = True
    x, targets = pairs[0]
    outputs = module(x)
    value = criterion(outputs, targets)
    require_scalar(value)
    for x, next_targets in pairs[1:]:
        next_outputs = module(x)
        next_value = criterion(next_outputs, next_targets)
        both = criterion(torch.cat([outputs, next_outputs]), torch.cat([targets, next_targets]))
        a, b = len(targets), len(next_targets)
        mean &= _close(both, (a * value + b * next_value) / (a + b))
        total &= _close(both, value + next_value)
        outputs, targets, value = next_outputs, next_targets, next_value
    return torch.tensor([mean, total], dtype=torch.int64)


def _is_mean(consistent: Tensor, option: str) -> bool:
    """Whether the criterion is a mean over samples; else it is a sum."""
    mean, total = consistent.tolist()
    if mean == total:
        reason = "vanishes at the start" if mean else "is neither on this data"
        raise InputError(
            f"{option} needs a criterion that is a mean or a sum over samples, but this one "
            f"{reason}; leave {option} out, or write it as a plain sum"
        )
    return bool(mean)


def require_scalar(value: Tensor) -> None:
    """Raise InputError unless a criterion's value is a scalar."""
    if value.ndim:
        raise InputError(
            f"criterion must return one number, got shape {tuple(value.shape)}; reduce it to "
            "a mean or a sum over samples"
        )


def _close(a: Tensor, b: Tensor) -> bool:
    scale = torch.maximum(a.abs().max(), b.abs().max())
    return bool((a - b).abs().max() <= torch.finfo(a.dtype).eps ** 0.5 * scale)
