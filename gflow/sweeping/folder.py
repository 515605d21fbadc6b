"""A sweep on disk: what it is of, the folders of its runs, and what has become of each.

``sweep.toml`` (the scenario with its ``[sweep]`` table: a scenario file again),
``runs/<id>/`` (a run's own folder each, see `gflow.runs.folder`), ``sweep.jsonl`` (one line for
every run that ended) and ``sweep.nc``. What has become of a run its own folder says; the
lines add the reasons of those that left none.
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
from gflow.runs import reading
from gflow.sweeping.plan import Plan, make_plan
from gflow.text import plain

_MAX_LINE = 100_000
MISSING = "missing"


@dataclass(frozen=True)
class Status:
    """How far a sweep is.

    Attributes
    ----------
    path : Path
    states : mapping of str to str
        Run id -> done, running, interrupted, failed, damaged or missing.
    reasons : mapping of str to str
        Run id -> why, of those that failed.
    points : mapping of str to mapping
        Run id -> its values by axis.
    """

    path: Path
    states: Mapping[str, str]
    reasons: Mapping[str, str]
    points: Mapping[str, Mapping[str, Any]]

    @property
    def counts(self) -> Counter[str]:
        """How many runs are in each state."""
        return Counter(self.states.values())


def run_path(folder: Path, id: str) -> Path:
    """The folder of one run."""
    return folder / "runs" / id


def is_sweep(folder: Path) -> bool:
    """Whether a folder is a sweep's."""
    return (folder / "sweep.toml").is_file()


def read_plan(folder: str | Path) -> Plan:
    """What a sweep's folder is of.

    Raises
    ------
    InputError
        If there is no sweep, or its file is damaged.
    """
    if not is_sweep(Path(folder)):
        raise InputError(f"no sweep at {folder}: sweep.toml is missing")
    return make_plan(str(Path(folder) / "sweep.toml"), code=True)  # it is read, not run


def run_states(folder: Path, plan: Plan) -> dict[str, str]:
    """What has become of every run of a plan, by id."""
    runs = folder / "runs"
    there = set(os.listdir(runs)) if runs.is_dir() else set()
    return {m.id: reading.state(runs / m.id) if m.id in there else MISSING for m in plan.members}


def status(folder: str | Path) -> Status:
    """How far a sweep is, and why runs failed.

    Raises
    ------
    InputError
        If there is no sweep there.
    """
    folder = Path(folder)
    plan = read_plan(folder)
    states = run_states(folder, plan)
    reasons = {}
    for id, record in _last_records(folder).items():
        if states.get(id) in ("failed", MISSING, "interrupted") and record["state"] == "failed":
            states[id], reasons[id] = "failed", str(record["reason"])
    return Status(folder, states, reasons, {m.id: m.at for m in plan.members})


def _last_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The last line about each run; a line cut off or strange is passed over."""
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(FileNotFoundError), (folder / "sweep.jsonl").open("rb") as file:
        while line := file.readline(_MAX_LINE):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                found[record["id"]] = {"state": record["state"], "reason": record.get("reason")}
    return found


class SweepFolder(Folder):
    """A sweep's folder, to write to.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = path
        self._lines: IO[bytes] | None = None

    @contextlib.contextmanager
    def held(self, plan: Plan) -> Iterator[None]:
        """While the sweep goes on in it; made where there is none.

        Raises
        ------
        InputError
            If it cannot be written, another sweep goes on in it, or it is no sweep's.
        """
        import tomli_w

        path = self.path
        if path.is_dir() and not is_sweep(path) and any(path.iterdir()):
            raise InputError(f"{path} is not empty and no sweep's; choose another --output")
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
                    f"the sweep at {path} is going on already; `gflow sweep status {path}` shows it"
                )
            self.write_text("sweep.toml", tomli_w.dumps(plan.table()))
            self._lines = lines
            try:
                yield
            finally:
                self._lines = None

    def add_line(self, record: Mapping[str, Any]) -> None:
        """One line on a run that ended, in one write."""
        if self._lines is not None:
            line = json.dumps(plain(record), ensure_ascii=False)
            self._lines.write(line.encode() + b"\n")
