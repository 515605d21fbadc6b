"""A full batch in chunks: L = Σ_c w_c·criterion(module_θ(X_c), Y_c) over chunks c of the samples.

w_c is n_c/n where the criterion is a mean over samples and 1 where it is a sum. Which of the
two it is, is measured on the data, since a criterion does not say; what is neither
(a class-weighted mean, the root of a mean) has no such form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gflow.checks import require_count
from gflow.errors import InputError

if TYPE_CHECKING:
    from gflow.distributed import Team

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
    module: nn.Module,
    criterion: Criterion,
    inputs: Tensor,
    targets: Tensor,
    size: int | None,
    team: Team | None = None,
) -> list[Chunk]:
    """The samples in chunks of a size (the last may be smaller), as views; of a team, copies of
    this process's own samples.

    One forward of all samples, two chunks in memory at a time.

    Parameters
    ----------
    module, criterion, inputs, targets
        As of `NetworkFlow`.
    size : int or None
        None takes all samples, or all of this process's, as one chunk.
    team : Team, optional
        The processes that share the samples.

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
        require_count("chunk", size)
    n = len(inputs)
    if (size is None or size >= n) and team is None:
        return whole(inputs, targets)
    if len(targets) != n:
        raise InputError(
            f"inputs and targets must have one row a sample, got {n} and {len(targets)} rows"
        )
    device = next(module.parameters()).device
    pairs, tested = _pairs(inputs, targets, size, team, device)
    what = "chunk" if team is None else "team"
    with torch.no_grad():
        _require_independent(module, inputs[:_FEW].to(device), what)
        could_be = _could_be(module, criterion, tested)
    mean = _is_mean(could_be if team is None else team.least(could_be), what)
    return [Chunk(x, y, len(x) / n if mean else 1.0) for x, y in pairs]


_Pairs = list[tuple[Tensor, Tensor]]


def _pairs(
    inputs: Tensor, targets: Tensor, size: int | None, team: Team | None, device: torch.device
) -> tuple[_Pairs, _Pairs]:
    """This process's chunks, and those on which it sees what the criterion is: the first of the
    next process too, so that together they see every two that are neighbours."""
    n = len(inputs)
    rows = slice(0, n) if team is None else team.rows(n)
    step = size or rows.stop - rows.start
    own = inputs, targets
    if team is not None:  # not views, which would keep the rows of others
        own = inputs[rows].to(device, copy=True), targets[rows].to(device, copy=True)
    pairs = list(zip(*(x.split(step) for x in own), strict=True))
    after = slice(rows.stop, rows.stop + step)
    more = [(inputs[after].to(device), targets[after].to(device))] if rows.stop < n else []
    return pairs, pairs + more


def _require_independent(module: nn.Module, inputs: Tensor, what: str) -> None:
    together = module(inputs)
    alone = torch.cat([module(part) for part in inputs.tensor_split(2) if len(part)])
    if together.shape != alone.shape or not _close(together, alone):
        raise InputError(
            f"{what} needs outputs that depend on their own sample alone, but a few samples "
            f"give others in two parts than together (statistics of the batch?); leave {what} out"
        )


def _could_be(module: nn.Module, criterion: Criterion, pairs: _Pairs) -> Tensor:
    """Whether the criterion of neighbouring chunks can be their mean, and their sum: 0 or 1."""
    mean = total = True
    x, targets = pairs[0]
    outputs = module(x)
    value = criterion(outputs, targets)
    require_number(value)
    for x, more_targets in pairs[1:]:
        more = module(x)
        more_value = criterion(more, more_targets)
        both = criterion(torch.cat([outputs, more]), torch.cat([targets, more_targets]))
        a, b = len(targets), len(more_targets)
        mean &= _close(both, (a * value + b * more_value) / (a + b))
        total &= _close(both, value + more_value)
        outputs, targets, value = more, more_targets, more_value
    return torch.tensor([mean, total], dtype=torch.int64)


def _is_mean(could_be: Tensor, what: str) -> bool:
    """Whether the criterion is a mean over samples; else it is their sum."""
    mean, total = could_be.tolist()
    if mean == total:
        why = "vanishes at the start" if mean else "is neither on this data"
        raise InputError(
            f"{what} needs a criterion that is a mean or a sum over samples, but this one "
            f"{why}; leave {what} out, or write it as a plain sum"
        )
    return bool(mean)


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
