"""Groups of runs that one worker executes in lockstep, so that their solves become ensembles.

A group holds runs that differ only in their start, times and descents (`Scenario.start_keys`).
Groups are formed when a sweep begins, and recorded in ``together/<id>/`` of its folder, beside the
group's checkpoints. An interrupted group is resumed with the same runs, and ends with the same
bits as without the interruption.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gflow.errors import InputError
from gflow.io.atomic import Folder, cannot_write
from gflow.io.locks import try_lock
from gflow.io.plain import read_text
from gflow.settings.base import ENSEMBLE_METHODS
from gflow.sweeping.plan import Plan, SweepRun

MAX_GROUP_SIZE = 32  # the gain grows little beyond, but more is lost with a worker
_FOLDER, _FILE, _MAX_BYTES = "together", "runs.json", 10_000
#: Keys in which the runs of a group may differ, besides those of the start.
_FREE_KEYS = frozenset({"step_sizes", "points", "time", "t_end"})


@dataclass(frozen=True)
class Unit:
    """The unit of work of a worker: one run, or a group of runs.

    Attributes
    ----------
    members : tuple of SweepRun
    folder : Path or None
        The folder of a group; None for a single run.
    """

    members: tuple[SweepRun, ...]
    folder: Path | None = None


class GroupFolder(Folder):
    """The folder of a group: the ids of its runs, and its checkpoints.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = path

    def create(self, members: Iterable[SweepRun]) -> None:
        """Create the folder and record the runs of the group.

        Raises
        ------
        InputError, OutputError
            If the folder cannot be written, or is a symbolic link.
        """
        for path in (self.path.parent, self.path, self.path / "parts"):
            if path.is_symlink():
                raise InputError(
                    f"{path} must not be a link, which may lead outside the sweep; remove it"
                )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(cannot_write(self.path, error)) from None
        self.write_text(_FILE, json.dumps([member.id for member in members]))

    def run_ids(self) -> list[str]:
        """Return the ids of the group's runs; an empty list where the record is damaged."""
        try:
            ids = json.loads(read_text(self.path / _FILE, _MAX_BYTES))
        except (OSError, ValueError):
            return []
        return ids if isinstance(ids, list) and all(isinstance(id, str) for id in ids) else []

    @contextlib.contextmanager
    def lock(self, timeout: float) -> Iterator[bool]:
        """Lock the group while the context is open.

        Yields
        ------
        bool
            False where another worker held the lock throughout ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        with (self.path / _FILE).open("rb") as file:
            while not (acquired := try_lock(file, exclusive=True)) and time.monotonic() < end:
                time.sleep(0.2)
            yield acquired

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: there are other groups
            self.path.parent.rmdir()


def units_of_work(plan: Plan, folder: Path, states: Mapping[str, str], workers: int) -> list[Unit]:
    """Divide the runs of a plan that are not done into single runs and groups.

    Groups that were begun come first, with all their runs, those that are done included. A run
    that was begun alone is resumed alone.

    Parameters
    ----------
    plan : Plan
    folder : Path
        The sweep's folder.
    states : mapping of str to str
        The state of every run, by id.
    workers : int
        The number of workers: groups are small enough to occupy all of them.

    Returns
    -------
    list of Unit
        Every run that is not done is in exactly one of them.

    Examples
    --------
    >>> from gflow.sweeping.plan import make_plan
    >>> plan = make_plan("deep-linear", seeds=3)
    >>> states = {member.id: "missing" for member in plan.members}
    >>> [len(unit.members) for unit in units_of_work(plan, Path("sweep"), states, workers=1)]
    [3]
    """
    pending = [member for member in plan.members if states[member.id] != "done"]
    if plan.apart:
        return [Unit((member,)) for member in pending]
    units = list(_groups_begun(plan, folder, states))
    grouped = {member.id for unit in units for member in unit.members}
    pending = [member for member in pending if member.id not in grouped]
    max_size = min(MAX_GROUP_SIZE, max(1, math.ceil(len(pending) / max(1, workers))))
    fresh = [member for member in pending if states[member.id] not in ("interrupted", "running")]
    for members in _with_equal_flows(fresh):
        count = math.ceil(len(members) / max_size)
        for group in (tuple(members[i::count]) for i in range(count)):
            if len(group) > 1:
                units.append(Unit(group, folder / _FOLDER / _group_id(group)))
                grouped.update(member.id for member in group)
    return units + [Unit((member,)) for member in pending if member.id not in grouped]


def _groups_begun(plan: Plan, folder: Path, states: Mapping[str, str]) -> Iterator[Unit]:
    """Yield the recorded groups of which some run is not done."""
    by_id = {member.id: member for member in plan.members}
    grouped: set[str] = set()
    for path in sorted((folder / _FOLDER).glob("*")):
        ids = GroupFolder(path).run_ids()
        valid = len(ids) > 1 and grouped.isdisjoint(ids) and by_id.keys() >= set(ids)
        if valid and any(states[id] != "done" for id in ids):
            grouped.update(ids)
            yield Unit(tuple(by_id[id] for id in ids), path)


def _with_equal_flows(members: Iterable[SweepRun]) -> list[list[SweepRun]]:
    """Return the members by the keys that determine their flow and its solver."""
    groups: dict[str, list[SweepRun]] = {}
    for member in members:
        scenario = member.scenario
        start = scenario.start_keys() if scenario.method in ENSEMBLE_METHODS else frozenset()
        values = {k: v for k, v in scenario.resolved().items() if k not in start | _FREE_KEYS}
        key = json.dumps(values, sort_keys=True) if start else member.id
        groups.setdefault(key, []).append(member)
    return list(groups.values())


def remove_groups(folder: Path) -> None:
    """Remove the folders of all groups of a sweep whose runs have all ended."""
    for path in (folder / _FOLDER).glob("*"):
        GroupFolder(path).remove()


def _group_id(members: Iterable[SweepRun]) -> str:
    return hashlib.sha256("".join(m.id for m in members).encode()).hexdigest()[:16]
