"""What a worker does for a run of a sweep: begin it, go on with it, or find it done.

The folder says which: done is left alone, interrupted is gone on with, failed or damaged is
begun anew, and running (another process holds its lock) is somebody else's. So a run that the
engine hands out twice is still done once. A group of runs is done side by side (grouping.py).
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import GflowError, Interrupted
from gflow.runs import reading
from gflow.sweeping.dataset import numbers
from gflow.sweeping.folder import MISSING
from gflow.sweeping.grouping import GroupFolder

if TYPE_CHECKING:
    from gflow.runs import Job

_PATIENCE = 5.0  # seconds for the lock of a process that was just killed
_ONE_AT_A_TIME = threading.Lock()  # in a process: of torch's forward derivatives there is one level


@dataclass(frozen=True)
class Request:
    """A run to be done: its scenario's keys, its folder, and how; ``sweep_id`` names who asks.

    A failure of the machine (no memory, disk full) and of the run (bad input, the solver
    stopped) come back alike, as a record with its reason; only a worker that dies does not.
    """

    id: str
    path: str
    keys: Mapping[str, Any]
    converge: bool = False
    modified: bool = False
    checkpoint_every: float = 60.0
    sweep_id: str = ""


#: Do the work of a request in its folder, which is in the given state; returns the summary.
Execute = Callable[[Request, str], Mapping[str, Any]]


def execute(request: Request, state: str) -> Mapping[str, Any]:
    """Begin a run, or go on with one that was interrupted; no figures are drawn."""
    from gflow.runs import RunOptions, resume, run

    path = Path(request.path)
    options = RunOptions(_stages(request), draw=False, checkpoint_every=request.checkpoint_every)
    if state == "interrupted":
        return resume(path, options, model=request.keys.get("model")).summary
    return run(_job(request), path, options).summary


def _job(request: Request) -> Job:
    from gflow.runs import Job
    from gflow.scenario import validate

    return Job(validate(request.keys, request.id), request.converge, request.modified)


def _stages(request: Request) -> Callable[[str, float], Callable[[float, float], None]]:
    """Progress of a run, which looks whether to stop."""
    return lambda name, t_end: lambda t, loss: _look(request.sweep_id)


_STOPPED: set[str] = set()


def stop(sweep_id: str) -> None:
    """Let the runs of one drive on this worker write a checkpoint and end; the sweep calls it."""
    _STOPPED.add(sweep_id)


def _look(sweep_id: str) -> None:
    """Whether to stop: looked at where a run reports its progress, between two steps."""
    if sweep_id in _STOPPED:
        from gflow.execution import current

        checkpointer = current().checkpointer
        if checkpointer is not None:
            checkpointer.stop("the sweep was stopped")


def carry_out(request: Request, execute: Execute = execute) -> dict[str, Any]:
    """One run, whatever state it is in; what became of it as a small record."""
    began = time.perf_counter()
    path = Path(request.path)
    record: dict[str, Any] = {"id": request.id, "state": "done", "reason": None}
    try:
        state = _settled(request)
        if state == "running":
            return {**record, "state": state}
        if state == "done":
            return record
        if state in ("failed", "damaged"):
            shutil.rmtree(path)
        summary = execute(request, state)
        record["numbers"] = numbers(summary)
    except Interrupted:
        record["state"] = "interrupted"
    except Exception as error:  # whatever it is, the sweep goes on and says it at the end
        line = " ".join(str(error).split()) or "no message"
        kind = "" if isinstance(error, GflowError) else f"{type(error).__name__}: "
        record |= {"state": "failed", "reason": f"{kind}{line:.500}"}
    record["seconds"] = round(time.perf_counter() - began, 3)
    return record


def carry_out_unit(
    requests: Sequence[Request], execute: Execute = execute, kept: str | None = None
) -> list[dict[str, Any]]:
    """One run, or a group of them side by side whose work on the way is kept in a folder.

    Returns
    -------
    list of dict
        The records of `carry_out`, in the order of the requests.
    """
    with _ONE_AT_A_TIME:
        if kept is None or not Path(kept).is_dir():  # it was done, and word of it lost
            return [carry_out(request, execute) for request in requests]
        return _carry_out_group(requests, execute, GroupFolder(Path(kept)))


def _carry_out_group(
    requests: Sequence[Request], execute: Execute, folder: GroupFolder
) -> list[dict[str, Any]]:
    import torch

    from gflow.execution import using
    from gflow.execution.batching import run_batched
    from gflow.execution.checkpointing import Checkpointer
    from gflow.runs.checkpoints import FolderCheckpointStore
    from gflow.sweeping.ensembles import Ensembles, can_batch

    began, first = time.perf_counter(), requests[0]
    with folder.held(_PATIENCE) as ours:
        if not ours:  # another worker does it
            return [
                {"id": r.id, "state": "done" if _state(r) == "done" else "running", "reason": None}
                for r in requests
            ]
        torch.set_num_threads(int(first.keys["threads"]))
        checkpointer = Checkpointer(
            FolderCheckpointStore(folder), first.checkpoint_every, discard_mismatch=True
        )
        jobs = [functools.partial(_take_part, request, execute) for request in requests]
        ensembles = Ensembles(_stages(first)("together", 0.0))
        with using(checkpointer=checkpointer):
            records = run_batched(jobs, ensembles.serve, can_batch)
        if not any(_state(request) == "interrupted" for request in requests):
            folder.remove()  # else there is what to go on with: it was stopped, or the disk is full
    share = round((time.perf_counter() - began) / len(records), 3)
    return [record | ({"seconds": share} if "seconds" in record else {}) for record in records]


def _take_part(request: Request, execute: Execute) -> dict[str, Any]:
    """A run of a group. One that was done before the group was stopped does its work once more:
    what is kept of the group, and its ensembles that are not, are of all its runs."""
    record = carry_out(request, execute)
    if record["state"] == "done" and "numbers" not in record:
        with contextlib.suppress(Exception):  # it is done: the others say what there is to be said
            _job(request).work(_stages(request))
    return record


def _state(request: Request) -> str:
    path = Path(request.path)
    return reading.state(path) if path.exists() else MISSING


def _settled(request: Request) -> str:
    """The state of a run; one whose lock is held is waited for a little."""
    end = time.monotonic() + _PATIENCE
    while (state := _state(request)) == "running" and time.monotonic() < end:
        time.sleep(0.2)
    return state
