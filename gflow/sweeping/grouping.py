"""Which runs of a sweep a worker does side by side, so that their solves are ensembles.

Runs go together that differ in their start, their times and their descents alone
(`Scenario.start_keys`). Which ones is settled when a sweep begins, in ``together/<id>/`` of its
folder, where what a group works out on the way is kept as a run's own work is in its folder: a
group that was stopped or killed goes on with the runs that it had, and ends as it would have
without that, to the last bit.
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
from gflow.sweeping.plan import Member, Plan

MOST_RUNS = 32  # of a group: the gain grows little beyond, what is lost with a worker does
_FOLDER, _FILE, _MOST = "together", "runs.json", 10_000  # bytes
_COMMON = frozenset({"step_sizes", "points", "time", "t_end"})


@dataclass(frozen=True)
class Unit:
    """What a worker is handed at once: a run, or several that it does side by side.

    ``kept``: the folder of the group's work on the way; None for a run on its own.
    """

    members: tuple[Member, ...]
    kept: Path | None = None


class GroupFolder(Folder):
    """The folder of a group's work on its way.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path):
        self.path = path

    def begin(self, members: Iterable[Member]) -> None:
        """Settle which runs the group is of.

        Raises
        ------
        InputError, OutputError
            If the folder cannot be written, or leads elsewhere.
        """
        for place in (self.path.parent, self.path, self.path / "parts"):
            if place.is_symlink():
                raise InputError(f"{place} must not be a link: it may lead anywhere; remove it")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(cannot_write(self.path, error)) from None
        self.write_text(_FILE, json.dumps([member.id for member in members]))

    def ids(self) -> list[str]:
        """The runs that it is of; none where it is not whole."""
        try:
            ids = json.loads(read_text(self.path / _FILE, _MOST))
        except (OSError, ValueError):
            return []
        return ids if isinstance(ids, list) and all(isinstance(id, str) for id in ids) else []

    @contextlib.contextmanager
    def held(self, patience: float) -> Iterator[bool]:
        """While a worker does the group; false where another one does, for so many seconds."""
        end = time.monotonic() + patience
        with (self.path / _FILE).open("rb") as file:
            while not (ours := try_lock(file, exclusive=True)) and time.monotonic() < end:
                time.sleep(0.2)
            yield ours

    def remove(self) -> None:
        """The group is done, or done with."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: there are other groups
            self.path.parent.rmdir()


def units(plan: Plan, folder: Path, states: Mapping[str, str], workers: int) -> list[Unit]:
    """What is to be done of a plan, in groups where runs go together.

    Parameters
    ----------
    plan : Plan
    folder : Path
        The sweep's.
    states : mapping of str to str
        What has become of every run, by id.
    workers : int
        How many there are: none is to be idle while another does a group that could be two.

    Returns
    -------
    list of Unit
        Every run that is not done is in one of them. Groups that were begun come first, and
        are of the runs that they were of, those that are done included. A run that was begun
        on its own goes on on its own.
    """
    left = [m for m in plan.members if states[m.id] != "done"]
    if plan.apart:
        return [Unit((m,)) for m in left]
    by_id = {member.id: member for member in plan.members}
    found: list[Unit] = []
    taken: set[str] = set()
    for path in sorted((folder / _FOLDER).glob("*")):
        ids = GroupFolder(path).ids()
        whole = len(ids) > 1 and taken.isdisjoint(ids) and by_id.keys() >= set(ids)
        if whole and any(states[id] != "done" for id in ids):
            found.append(Unit(tuple(by_id[id] for id in ids), path))
            taken.update(ids)
    left = [m for m in left if m.id not in taken]
    most = min(MOST_RUNS, max(1, math.ceil(len(left) / max(1, workers))))
    for members in _alike([m for m in left if states[m.id] not in ("interrupted", "running")]):
        count = math.ceil(len(members) / most)
        for part in (members[i::count] for i in range(count)):
            if len(part) > 1:
                found.append(Unit(tuple(part), folder / _FOLDER / _name(part)))
                taken.update(m.id for m in part)
    return found + [Unit((m,)) for m in left if m.id not in taken]


def _alike(members: Iterable[Member]) -> list[list[Member]]:
    """Members by what sets their flow and how it is solved."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        scenario = member.scenario
        own = scenario.start_keys() if scenario.method in ENSEMBLE_METHODS else frozenset()
        keys = {k: v for k, v in scenario.resolved().items() if k not in own | _COMMON}
        key = json.dumps(keys, sort_keys=True) if own else member.id
        groups.setdefault(key, []).append(member)
    return list(groups.values())


def clear(folder: Path) -> None:
    """Remove what groups have left in a sweep's folder: every run has ended."""
    for path in (folder / _FOLDER).glob("*"):
        GroupFolder(path).remove()


def _name(members: Iterable[Member]) -> str:
    return hashlib.sha256("".join(m.id for m in members).encode()).hexdigest()[:16]
