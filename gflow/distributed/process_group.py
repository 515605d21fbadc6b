"""Start a team of the processes that torchrun started, and end it.

torchrun starts the processes and tells each its rank through the environment; gloo carries what is
on the CPU, and nccl what is on GPUs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from gflow import execution
from gflow.distributed.channel import Channel
from gflow.distributed.team import Team
from gflow.distributed.torchrun import RankInfo, rank_info
from gflow.errors import InputError

_TIMEOUT = 1800.0  # seconds
_FOREVER = timedelta(days=1000)  # other ranks wait while rank 0 plots or decomposes


def current() -> Team | None:
    """Return the team of the surrounding ``with processes()``; None in a single process."""
    team = execution.current().team
    return team if isinstance(team, Team) else None


@contextlib.contextmanager
def processes(timeout: float = _TIMEOUT) -> Iterator[Team]:
    """Join the processes that torchrun started; without torchrun, a team of this one alone.

    Parameters
    ----------
    timeout : float
        Seconds that one process waits for another within an evaluation.

    Yields
    ------
    Team

    Raises
    ------
    InputError
        If torchrun's environment is incomplete, or this torch has no gloo.
    PeerError
        Within the context, on rank 0, where another process failed, ended or did not answer.

    Examples
    --------
    >>> with processes() as team:   # started without torchrun: one process
    ...     team.size, team.rows(10), team.leads()
    (1, slice(0, 10, None), True)
    """
    info = rank_info()
    if info is None or info.size == 1:
        yield Team()
        return
    team = _join(info, timedelta(seconds=timeout))
    try:
        with execution.using(team=team):
            yield team
    except BaseException as error:
        team.channel.report_failure(error)
        raise
    finally:
        team.close()


def _join(info: RankInfo, timeout: timedelta) -> Team:
    if not (dist.is_available() and dist.is_gloo_available()):
        raise InputError("this torch has no gloo to join processes; run without torchrun")
    if dist.is_initialized():
        raise InputError("a process group is initialized already; gflow must start its own")
    with_gpus = dist.is_nccl_available() and torch.cuda.device_count() >= info.local_size
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
        backend = "cpu:gloo,cuda:nccl" if with_gpus else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        commands = dist.new_group(backend="gloo", timeout=_FOREVER)
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"the {info.size} processes did not find one another ({reason})") from None
    if with_gpus:
        torch.cuda.set_device(info.local_rank)
    channel = Channel(info.rank, info.size, store, commands)
    return Team(info.rank, info.size, channel, info.local_rank if with_gpus else None)
