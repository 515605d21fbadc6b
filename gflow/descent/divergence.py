"""When a descent diverges, and from which step on.

A member has diverged once its loss has grown by more than a million times its first size: a smaller
growth may be a catapult, from which descent comes back. The divergence begins at the step of its
least speed ‖g‖, from which on the speed grew without bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import to_numpy

_EXPLODED = 1e6  # growth of the loss that counts as divergence
_FLOOR = 1e-9  # least size that the growth is relative to, for a start at a minimum


def explosion_limit(first_loss: Tensor) -> Tensor:
    """Return the loss beyond which a descent has diverged, given the loss at its start.

    Examples
    --------
    >>> explosion_limit(torch.tensor([0.0, 1.0]))
    tensor([1.0000e-03, 1.0000e+06])
    """
    return first_loss + _EXPLODED * first_loss.abs().clamp_min(_FLOOR)


class DivergenceMonitor:
    """Track the losses and speeds of the members of a descent.

    Parameters
    ----------
    first_loss : Tensor, shape (...)
        Loss of each member at the start.

    Attributes
    ----------
    diverged_at : list of (int or None)
        For each member the step from which its speed grew without bound.
    """

    def __init__(self, first_loss: Tensor):
        first = first_loss.reshape(-1)
        self._limit = explosion_limit(first)
        self._count = 0
        self._least = np.full(len(first), np.inf)
        self._least_step = np.zeros(len(first), np.int64)
        self.diverged_at: list[int | None] = [None] * len(first)

    def update(self, speeds: Tensor, loss: Tensor) -> None:
        """Take in the speeds of further steps and the loss after them.

        Parameters
        ----------
        speeds : Tensor, shape (steps, ...)
            Norm of the gradient at each step.
        loss : Tensor, shape (...)
            Loss after the last of them.
        """
        exploded = ~(loss.reshape(-1) <= self._limit)
        rows = torch.cat([speeds.reshape(len(speeds), -1), exploded[None].to(speeds)])
        *speed_rows, is_exploded = to_numpy(rows)
        for speed in speed_rows:
            is_lower = speed < self._least
            self._least = np.where(is_lower, speed, self._least)
            self._least_step = np.where(is_lower, self._count, self._least_step)
            self._count += 1
        for i in np.flatnonzero(is_exploded):
            if self.diverged_at[i] is None:
                self.diverged_at[i] = int(self._least_step[i])

    # -- checkpoints --------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of its arrays for a checkpoint."""
        arrays = {"limit": self._limit, "least": self._least, "least_step": self._least_step}
        return {name: torch.as_tensor(value).clone() for name, value in arrays.items()}

    def meta(self) -> dict[str, Any]:
        """Return its counts for a checkpoint."""
        return {"count": self._count, "diverged_at": list(self.diverged_at)}

    @classmethod
    def from_checkpoint(
        cls, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> DivergenceMonitor:
        """Restore what `meta` and `tensors` returned."""
        monitor = cls(tensors["limit"])
        monitor._limit = tensors["limit"]
        monitor._least, monitor._least_step = (
            tensors[name].numpy().copy() for name in ("least", "least_step")
        )
        monitor._count, monitor.diverged_at = meta["count"], list(meta["diverged_at"])
        return monitor
