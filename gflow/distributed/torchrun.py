"""The rank of a process and the number of processes, from torchrun's environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass

from gflow.errors import InputError

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class RankInfo:
    """The number of a process and how many there are, in all and on its machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def rank_info() -> RankInfo | None:
    """Return this process's rank; None where torchrun did not start it.

    Raises
    ------
    InputError
        If one of torchrun's variables is missing or not a number.
    """
    if not {"RANK", "WORLD_SIZE"} & set(os.environ):
        return None
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise InputError(
            f"of torchrun's environment variables {', '.join(missing)} is missing; start with "
            "`torchrun --nproc-per-node 2 ...`, or unset RANK and WORLD_SIZE for one process"
        )
    try:
        rank, local_rank, size, local_size = (int(os.environ[name]) for name in _VARIABLES[:4])
    except ValueError:
        values = ", ".join(f"{name}={os.environ[name]!r}" for name in _VARIABLES[:4])
        raise InputError(
            f"torchrun's variables must be whole numbers, got {values}; start with torchrun"
        ) from None
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        raise InputError(
            f"RANK must be below WORLD_SIZE, and LOCAL_RANK below LOCAL_WORLD_SIZE, got process "
            f"{rank} of {size} and {local_rank} of {local_size} here; start with torchrun"
        )
    return RankInfo(rank, size, local_rank, local_size)
