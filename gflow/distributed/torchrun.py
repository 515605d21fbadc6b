"""What torchrun tells a process of its place among others, by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gflow.errors import InputError

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class RankInfo:
    """A process's number and how many there are, in all and on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def rank_info() -> RankInfo | None:
    """What torchrun says in the environment; None where it did not start this process.

    Raises
    ------
    InputError
        If a part of it is missing or no number.
    """
    if not {"RANK", "WORLD_SIZE"} & set(os.environ):
        return None
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise InputError(
            f"of what torchrun puts into the environment {', '.join(missing)} is missing; start "
            "with `torchrun --nproc-per-node 2 ...`, or unset RANK and WORLD_SIZE for one process"
        )
    try:
        rank, local_rank, size, local_size = (int(os.environ[name]) for name in _VARIABLES[:4])
    except ValueError:
        shown = ", ".join(f"{name}={os.environ[name]!r}" for name in _VARIABLES[:4])
        raise InputError(f"torchrun's variables must be whole numbers, got {shown}") from None
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        raise InputError(f"process {rank} of {size} does not exist (RANK and WORLD_SIZE)")
    return RankInfo(rank, size, local_rank, local_size)
