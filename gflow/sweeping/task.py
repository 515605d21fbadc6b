"""The task of a worker: execute one run of a sweep, or a group of runs.

The state of the run's folder decides: a done run is left alone, an interrupted one is resumed, a
failed or damaged one is restarted, and a running one is left to the process that holds its lock. So
a run submitted twice is executed once. The runs of a group are executed in lockstep
(`gflow.sweeping.grouping`).
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
from gflow.sweeping.folder import MISSING
from gflow.sweeping.grouping import GroupFolder

if TYPE_CHECKING:
    from gflow.runs import Job

_LOCK_TIMEOUT = 5.0  # seconds for the lock of a process that was just killed
#: One task at a time in a process: torch's forward-mode derivatives have one level per process.
_PROCESS_LOCK = threading.Lock()


@dataclass(frozen=True)
class RunRequest:
    """A run to be executed.

    Attributes
    ----------
    id : str
    path : str
        The run's folder.
    keys : mapping
        The resolved scenario.
    converge, modified : bool
        Execute a step-size study; with the modified flow.
    checkpoint_every : float
        Seconds between two checkpoints.
    sweep_id : str
        Identifies the sweep process that made the request, which may stop its runs.
    """

    id: str
    path: str
    keys: Mapping[str, Any]
    converge: bool = False
    modified: bool = False
    checkpoint_every: float = 60.0
    sweep_id: str = ""


#: ``execute(request, state)`` executes a run whose folder is in that state; returns the summary.
Execute = Callable[[RunRequest, str], Mapping[str, Any]]


def start_or_resume(request: RunRequest, state: str) -> Mapping[str, Any]:
    """Start a run, or resume it if it was interrupted; no figures are drawn.

    Parameters
    ----------
    request : RunRequest
    state : str
        The state of the run's folder.

    Returns
    -------
    mapping
        The summary of the run.

    Examples
    --------
    >>> import tempfile
    >>> from gflow.sweeping.plan import make_plan
    >>> (member,) = make_plan("kernel", [("samples", "8"), ("test_samples", "4")]).members
    >>> with tempfile.TemporaryDirectory() as root:
    ...     request = RunRequest(member.id, f"{root}/run", member.scenario.resolved())
    ...     summary = start_or_resume(request, "missing")
    >>> summary["final_loss"] < summary["initial_loss"]
    True
    """
    from gflow.runs import RunOptions, resume, run

    path = Path(request.path)
    options = RunOptions(_stages(request), draw=False, checkpoint_every=request.checkpoint_every)
    if state == "interrupted":
        return resume(path, options, model=request.keys.get("model")).summary
    return run(_job(request), path, options).summary


def _job(request: RunRequest) -> Job:
    from gflow.runs import Job
    from gflow.scenario import validate

    return Job(validate(request.keys, request.id), request.converge, request.modified)


def _stages(request: RunRequest) -> Callable[[str, float], Callable[[float, float], None]]:
    """Return progress callbacks that check whether the sweep was stopped."""
    return lambda name, t_end: lambda t, loss: _check_stop(request.sweep_id)


_STOPPED_SWEEPS: set[str] = set()


def stop_sweep(sweep_id: str) -> None:
    """Let the runs of a sweep on this worker write a checkpoint and end."""
    _STOPPED_SWEEPS.add(sweep_id)


def _check_stop(sweep_id: str) -> None:
    """Stop the run if its sweep was stopped; called between two steps."""
    if sweep_id in _STOPPED_SWEEPS:
        from gflow.execution import current

        checkpointer = current().checkpointer
        if checkpointer is not None:
            checkpointer.stop("the sweep was stopped")


def execute_run(request: RunRequest, execute: Execute = start_or_resume) -> dict[str, Any]:
    """Execute one run as the state of its folder requires.

    Parameters
    ----------
    request : RunRequest
    execute : callable

    Returns
    -------
    dict
        ``id``, ``state``, ``reason``, ``seconds``, and the ``numbers`` of the summary. Every error
        is a record of a failed run, whatever its kind (bad input, the solver, memory, the disk):
        the sweep continues, and reports it at the end.

    Examples
    --------
    >>> request = RunRequest("a1", "no/such/folder", {})
    >>> summary = {"kind": "width", "widths": [], "final_loss": 0.5}
    >>> record = execute_run(request, lambda request, state: summary)
    >>> record["state"], record["numbers"]
    ('done', {'final_loss': 0.5})
    """
    from gflow.results.registry import find_kind

    began = time.perf_counter()
    path = Path(request.path)
    record: dict[str, Any] = {"id": request.id, "state": "done", "reason": None}
    try:
        state = _state_when_unlocked(request)
        if state == "running":
            return {**record, "state": state}
        if state == "done":
            return record
        if state in ("failed", "damaged"):
            shutil.rmtree(path)
        summary = execute(request, state)
        record["numbers"] = find_kind(summary).numbers(summary)
    except Interrupted:
        record["state"] = "interrupted"
    except Exception as error:
        line = " ".join(str(error).split()) or "no message"
        kind = "" if isinstance(error, GflowError) else f"{type(error).__name__}: "
        record |= {"state": "failed", "reason": f"{kind}{line:.500}"}
    record["seconds"] = round(time.perf_counter() - began, 3)
    return record


def execute_unit(
    requests: Sequence[RunRequest], execute: Execute = start_or_resume, folder: str | None = None
) -> list[dict[str, Any]]:
    """Execute one run, or the runs of a group in lockstep.

    Parameters
    ----------
    requests : sequence of RunRequest
    execute : callable
    folder : str, optional
        The folder of the group; None for a single run.

    Returns
    -------
    list of dict
        The records of `execute_run`, in the order of the requests.

    Examples
    --------
    >>> requests = [RunRequest(id, "no/such/folder", {}) for id in ("a1", "b2")]
    >>> [record["id"] for record in execute_unit(requests, lambda request, state: {})]
    ['a1', 'b2']
    """
    with _PROCESS_LOCK:
        # A group without its folder was done by a worker that died before it could say so.
        if folder is None or not Path(folder).is_dir():
            return [execute_run(request, execute) for request in requests]
        return _execute_group(requests, execute, GroupFolder(Path(folder)))


def _execute_group(
    requests: Sequence[RunRequest], execute: Execute, folder: GroupFolder
) -> list[dict[str, Any]]:
    import torch

    from gflow.execution import using
    from gflow.execution.batching import run_batched
    from gflow.execution.checkpointing import Checkpointer
    from gflow.runs.checkpoints import FolderCheckpointStore
    from gflow.sweeping.ensembles import Ensembles, can_batch

    began, first = time.perf_counter(), requests[0]
    with folder.lock(_LOCK_TIMEOUT) as acquired:
        if not acquired:
            return [
                {"id": r.id, "state": "done" if _state(r) == "done" else "running", "reason": None}
                for r in requests
            ]
        torch.set_num_threads(int(first.keys["threads"]))
        checkpointer = Checkpointer(
            FolderCheckpointStore(folder), first.checkpoint_every, discard_mismatch=True
        )
        jobs = [functools.partial(_execute_member, request, execute) for request in requests]
        ensembles = Ensembles(_stages(first)("ensemble", 0.0))
        with using(checkpointer=checkpointer):
            records = run_batched(jobs, ensembles.serve, can_batch)
        # Interrupted runs (the sweep was stopped, or the disk is full) need the checkpoints.
        if not any(_state(request) == "interrupted" for request in requests):
            folder.remove()
    share = round((time.perf_counter() - began) / len(records), 3)
    return [record | ({"seconds": share} if "seconds" in record else {}) for record in records]


def _execute_member(request: RunRequest, execute: Execute) -> dict[str, Any]:
    """Execute a run of a group.

    A run that was done before the group was interrupted repeats its computations: the group's
    checkpoints, and the ensembles that are still to be solved, include its members.
    """
    record = execute_run(request, execute)
    if record["state"] == "done" and "numbers" not in record:
        with contextlib.suppress(Exception):  # it is done; errors are those of the other runs
            _job(request).work(_stages(request))
    return record


def _state(request: RunRequest) -> str:
    path = Path(request.path)
    return reading.state(path) if path.exists() else MISSING


def _state_when_unlocked(request: RunRequest) -> str:
    """Return the state of a run, after waiting a little for a lock to be released."""
    end = time.monotonic() + _LOCK_TIMEOUT
    while (state := _state(request)) == "running" and time.monotonic() < end:
        time.sleep(0.2)
    return state
