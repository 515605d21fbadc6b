"""Which class outputs say that a sample is in, and how far they are from another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Classes:
    """How outputs and targets say which class a sample is in.

    Attributes
    ----------
    kind : {"index", "one-hot", "binary", "sign"}
        ``index``: whole numbers (n, ...), and outputs (n, k, ...). ``one-hot``: rows with one 1,
        and outputs of their shape, of which the largest counts. ``binary``: labels 0 and 1, and
        ``sign``: ±1, each with one output, of which the sign counts.
    """

    kind: Literal["index", "one-hot", "binary", "sign"]

    def _signs(self, targets: Tensor, outputs: Tensor) -> Tensor:
        labels = targets.to(outputs).reshape(outputs.shape)
        return 2 * labels - 1 if self.kind == "binary" else labels

    def _index(self, targets: Tensor) -> Tensor:
        return targets if self.kind == "index" else targets.argmax(1)

    def accuracy(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the share of the samples whose class the outputs say.

        Parameters
        ----------
        outputs, targets : Tensor, shape (n, ...)

        Returns
        -------
        Tensor, shape ()
        """
        if self.kind in ("binary", "sign"):
            correct = outputs * self._signs(targets, outputs) > 0
        else:
            correct = outputs.argmax(1) == self._index(targets)
        return correct.to(outputs.dtype).mean()

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the least margin of a sample: how far its own class is above the next.

        Parameters
        ----------
        outputs, targets : Tensor, shape (n, ...)

        Returns
        -------
        Tensor, shape ()
            Negative where a sample is in another class.
        """
        if self.kind in ("binary", "sign"):
            return (outputs * self._signs(targets, outputs)).amin()
        index = self._index(targets).unsqueeze(1)
        own = outputs.gather(1, index)
        others = outputs.scatter(1, index, -math.inf).amax(1, keepdim=True)
        return (own - others).amin()


def classes_of(outputs: Tensor, targets: Tensor, *, binary: bool = False) -> Classes | None:
    """Return how outputs say which class a sample is in; None of a regression.

    Parameters
    ----------
    outputs, targets : Tensor, shape (n, ...)
    binary : bool
        Whether the criterion takes labels of 0 and 1.

    Returns
    -------
    Classes or None

    Examples
    --------
    >>> classes_of(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
    Classes(kind='index')
    >>> classes_of(torch.zeros(3, 1), torch.tensor([[0.1], [0.2], [0.3]])) is None
    True
    """
    if not (outputs.ndim and targets.ndim) or len(outputs) != len(targets):
        return None
    n, of_one = len(outputs), outputs.numel() == len(outputs)
    if binary:
        return Classes("binary") if of_one and targets.numel() == n else None
    if not targets.is_floating_point():
        fits = outputs.ndim == targets.ndim + 1 and outputs.shape[2:] == targets.shape[1:]
        if not (fits and outputs.shape[1] > 1 and targets.dtype == torch.int64):
            return None
        # Others, as -100, stand for samples that a criterion leaves out.
        is_class = (targets >= 0) & (targets < outputs.shape[1])
        return Classes("index") if bool(is_class.all()) else None
    if targets.shape != outputs.shape:
        return None
    if of_one:
        return Classes("sign") if bool((targets.abs() == 1).all()) else None
    if outputs.ndim != 2:
        return None
    is_one_hot = ((targets == 0) | (targets == 1)).all() & (targets.sum(1) == 1).all()
    return Classes("one-hot") if bool(is_one_hot) else None
