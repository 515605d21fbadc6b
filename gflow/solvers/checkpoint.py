"""The whole state of a solve between two steps, to be saved and resumed from.

A resumed solve goes on as if it had never stopped: step sizes, controllers, spectral
vectors and counters are all here, so that it agrees with an uninterrupted one to the last
bit on the same machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A solve between two steps.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        States and vectors, on the solve's device, and per-member numbers, on the host.
        Safe to keep: the solve does not write to them again.
    meta : mapping
        Plain numbers and strings (JSON holds them to the bit): what is solved and the counters.
    """

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]
