"""What a worker does for one run of a sweep: begin it, go on with it, or find it done.

The folder says which: done is left alone, interrupted is gone on with, failed or damaged is
begun anew, and running (another process holds its lock) is somebody else's. So a run that the
engine hands out twice is still done once.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gflow import store
from gflow.errors import GflowError
from gflow.sweeping.folder import MISSING

_PATIENCE = 5.0  # seconds for the lock of a process that was just killed
_TABLES = {"descent": "step_size", "widths": "width", "networks": "network"}


@dataclass(frozen=True)
class Request:
    """A run to be done: its scenario's keys, its folder, and how.

    A failure of the machine (no memory, disk full) and of the run (bad input, the solver
    stopped) come back alike, as a record with its reason; only a worker that dies does not.
    """

    id: str
    path: str
    keys: Mapping[str, Any]
    converge: bool = False
    modified: bool = False
    checkpoint_every: float = 60.0


#: Do the work of a request in its folder, which is in the given state; returns the summary.
Execute = Callable[[Request, str], Mapping[str, Any]]


def execute(request: Request, state: str) -> Mapping[str, Any]:
    """Begin a run, or go on with one that was interrupted."""
    from gflow import running
    from gflow.scenario import validate

    path = Path(request.path)
    every = request.checkpoint_every
    if state == "interrupted":
        return running.resume(path, checkpoint_every=every, draw=False).summary
    job = running.Job(validate(request.keys, request.id), request.converge, request.modified)
    return running.run(job, path, checkpoint_every=every, draw=False).summary


def carry_out(request: Request, execute: Execute = execute) -> dict[str, Any]:
    """One run, whatever state it is in; what became of it as a small record."""
    began = time.perf_counter()
    path = Path(request.path)
    record: dict[str, Any] = {"id": request.id, "state": "done", "reason": None}
    try:
        state = _settled(path)
        if state == "running":
            return {**record, "state": state}
        if state == "done":
            return record
        if state in ("failed", "damaged"):
            shutil.rmtree(path)
        summary = execute(request, state)
        record["numbers"] = numbers(summary)
    except Exception as error:  # whatever it is, the sweep goes on and says it at the end
        line = " ".join(str(error).split()) or "no message"
        kind = "" if isinstance(error, GflowError) else f"{type(error).__name__}: "
        record |= {"state": "failed", "reason": f"{kind}{line:.500}"}
    record["seconds"] = round(time.perf_counter() - began, 3)
    return record


def _settled(path: Path) -> str:
    """The state of a run; one whose lock is held is waited for a little."""
    if not path.exists():
        return MISSING
    end = time.monotonic() + _PATIENCE
    while (state := store.state(path)) == "running" and time.monotonic() < end:
        time.sleep(0.2)
    return state


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary's first level, and those of a table of one row.

    A row's number whose name is taken gets the table's before it.

    Examples
    --------
    >>> numbers({"final_loss": 0.5, "descent": [{"step_size": 0.1, "final_loss": 0.4}]})
    {'final_loss': 0.5, 'step_size': 0.1, 'descent_final_loss': 0.4}
    """
    found = _plain_numbers(summary)
    if isinstance(summary.get("certificate"), Mapping):
        found["certificate_holds"] = float(bool(summary["certificate"].get("holds")))
    for name, value in _plain_numbers(summary.get("cost", {})).items():
        found.setdefault(name, value)
    for table in _TABLES:
        rows = summary.get(table)
        if isinstance(rows, list) and len(rows) == 1:
            for name, value in _plain_numbers(rows[0]).items():
                taken = table == "descent" and name in found  # of the flow; elsewhere the same
                found.setdefault(f"descent_{name}" if taken else name, value)
    return found


def _plain_numbers(values: Any) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    infinite = {"inf": math.inf, "-inf": -math.inf}
    return {
        key: float(infinite.get(value, value) if isinstance(value, str) else value)
        for key, value in values.items()
        if isinstance(value, int | float) or (isinstance(value, str) and value in infinite)
    }
