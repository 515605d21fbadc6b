"""The folder of a sweep: its plan, the folders of its runs, and their states.

``sweep.toml`` is the scenario with its ``[sweep]`` table (a scenario file itself), ``runs/<id>/``
the folder of each run (`gflow.runs.folder`), ``sweep.jsonl`` has one line per run that ended, and
``sweep.nc`` is the dataset. The state of a run is read from its own folder; the lines add the
reasons of runs that failed without leaving one there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gflow.errors import InputError
from gflow.io.atomic import Folder
from gflow.io.locks import try_lock
from gflow.io.plain import as_path
from gflow.runs import reading
from gflow.sweeping.plan import Plan, make_plan
from gflow.text import plain

_MAX_LINE = 100_000
MISSING = "missing"


@dataclass(frozen=True)
class SweepStatus:
    """The states of the runs of a sweep.

    Attributes
    ----------
    path : Path
    states : mapping of str to str
        Run id -> done, running, interrupted, failed, damaged or missing.
    reasons : mapping of str to str
        Run id -> reason, of the runs that failed.
    points : mapping of str to mapping
        Run id -> its values by axis.
    """

    path: Path
    states: Mapping[str, str]
    reasons: Mapping[str, str]
    points: Mapping[str, Mapping[str, Any]]

    @property
    def counts(self) -> Counter[str]:
        """The number of runs in each state."""
        return Counter(self.states.values())


def run_path(folder: Path, id: str) -> Path:
    """Return the folder of a run.

    Parameters
    ----------
    folder : Path
        The sweep's folder.
    id : str

    Returns
    -------
    Path

    Examples
    --------
    >>> run_path(Path("sweep"), "3f").as_posix()
    'sweep/runs/3f'
    """
    return folder / "runs" / id


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is the folder of a sweep."""
    return (folder / "sweep.toml").is_file()


def read_plan(folder: str | Path) -> Plan:
    """Return the plan of the sweep in a folder.

    Raises
    ------
    InputError
        If there is no sweep, or its file is damaged.
    """
    folder = as_path(folder)
    if not is_sweep(folder):
        raise InputError(f"no sweep at {folder}: sweep.toml is missing")
    return make_plan(folder / "sweep.toml", allow_code=True)  # nothing is executed


def run_states(folder: Path, plan: Plan) -> dict[str, str]:
    """Return the state of every run of a plan.

    Parameters
    ----------
    folder : Path
        The sweep's folder.
    plan : Plan

    Returns
    -------
    dict of str to str
        Run id -> done, running, interrupted, failed, damaged or missing.

    Examples
    --------
    >>> plan = make_plan("deep-linear", seeds=2)
    >>> sorted(run_states(Path("no/such/sweep"), plan).values())
    ['missing', 'missing']
    """
    runs = folder / "runs"
    names = set(os.listdir(runs)) if runs.is_dir() else set()
    return {m.id: reading.state(runs / m.id) if m.id in names else MISSING for m in plan.members}


def status(folder: str | Path) -> SweepStatus:
    """Return the states of the runs of a sweep, and why runs failed.

    Raises
    ------
    InputError
        If there is no sweep in the folder.
    """
    folder = as_path(folder)
    plan = read_plan(folder)
    states = run_states(folder, plan)
    reasons = {}
    for id, record in _last_records(folder).items():
        if states.get(id) in ("failed", MISSING, "interrupted") and record["state"] == "failed":
            states[id], reasons[id] = "failed", str(record["reason"])
    return SweepStatus(folder, states, reasons, {m.id: m.point for m in plan.members})


def _last_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the last record of each run; truncated and malformed lines are skipped."""
    records: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError), (folder / "sweep.jsonl").open("rb") as file:
        while line := file.readline(_MAX_LINE):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                records[record["id"]] = {"state": record["state"], "reason": record.get("reason")}
    return records


class SweepFolder(Folder):
    """The folder of a sweep, for writing.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: IO[bytes] | None = None

    @contextlib.contextmanager
    def lock(self, plan: Plan) -> Iterator[None]:
        """Create the folder where there is none, and lock it while the context is open.

        Yields
        ------
        None

        Raises
        ------
        InputError
            If the folder cannot be written, is locked by another process, or has other contents.
        """
        import tomli_w

        path = self.path
        if path.is_dir() and not is_sweep(path) and any(path.iterdir()):
            raise InputError(f"{path} must be empty or a sweep's folder; choose another --output")
        try:
            (path / "runs").mkdir(parents=True, exist_ok=True)
            lines = (path / "sweep.jsonl").open("ab", buffering=0)
        except OSError as error:
            raise InputError(
                f"cannot write the sweep's folder {path}: {error.strerror}; choose another --output"
            ) from None
        with lines:
            if not try_lock(lines, exclusive=True):
                raise InputError(
                    f"the sweep at {path} is running already; see `gflow sweep status {path}`"
                )
            self.write_text("sweep.toml", tomli_w.dumps(plan.table()))
            self._lines = lines
            try:
                yield
            finally:
                self._lines = None

    def add_line(self, record: Mapping[str, Any]) -> None:
        """Append the record of a run that ended, in one write."""
        if self._lines is not None:
            line = json.dumps(plain(record), ensure_ascii=False)
            self._lines.write(line.encode() + b"\n")
