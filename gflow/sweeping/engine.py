"""The loop of a sweep: hand out runs, take in what became of them, until none is left.

As many units (a run, or a group that is solved as one ensemble) are handed out as there are
workers, no more: a worker that dies then takes only its own with it, and the count of deaths by
which dask gives up a unit (see `gflow.sweeping.clusters`) is that unit's own. The runs of a group
that was given up are handed out one by one. A future is let go as soon as it has ended: dask works
out again what is still held and was on a worker that died.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import GflowError, Interrupted
from gflow.runs.signals import catch_signals
from gflow.sweeping.clusters import connected
from gflow.sweeping.folder import SweepFolder, run_path, run_states
from gflow.sweeping.grouping import GroupFolder, Unit, clear, units
from gflow.sweeping.plan import Member, Plan
from gflow.sweeping.task import Execute, Request, carry_out_unit, execute, stop
from gflow.sweeping.workers import WorkerConfig

if TYPE_CHECKING:
    from distributed import Client, Future

_TICK = 1.0  # seconds between looks at the workers
_GRACE = 20.0  # seconds for checkpoints when the sweep is told to stop


@dataclass
class SweepProgress:
    """How far a sweep is: ``done`` counts runs found done too, ``failed`` says why by id."""

    total: int
    done: int = 0
    found: int = 0
    running: int = 0
    workers: int = 0
    elsewhere: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> int:
        """How many runs have not ended."""
        return self.total - self.done - self.elsewhere - len(self.failed)

    def seconds_left(self) -> float | None:
        """A guess, from the runs that ended so far."""
        ended = self.done - self.found + len(self.failed)
        return (time.monotonic() - self.began) / ended * self.left if ended else None


#: Shows how far a sweep is; called whenever a run ended, and every second.
Show = Callable[[SweepProgress], None]


def run_sweep(
    plan: Plan,
    folder: Path,
    where: WorkerConfig | None = None,
    *,
    checkpoint_every: float = 60.0,
    execute: Execute = execute,
    show: Show = lambda progress: None,
) -> SweepProgress:
    """Do the runs of a plan that are not done, each in its own folder.

    Parameters
    ----------
    plan : Plan
    folder : Path
        The sweep's; it may hold runs of before.
    where : Where, optional
        By default a worker for each core here.
    checkpoint_every : float
        Seconds between a run's checkpoints.
    execute : callable
        What a worker does for a run.
    show : callable

    Returns
    -------
    Tally

    Raises
    ------
    InputError
        If the folder or the workers cannot be used, or the scheduler is lost on the way.
    """
    where = where or WorkerConfig()
    stopping = _Stopping(folder)
    log = SweepFolder(folder)
    with log.held(plan), catch_signals(stopping.stop):
        states = run_states(folder, plan)
        found = frozenset(id for id, state in states.items() if state == "done")
        progress = SweepProgress(len(plan.members), done=len(found), found=len(found))
        if progress.left:
            with connected(where, folder) as (client, renew):
                todo = units(plan, folder, states, where.count or _threads(client))
                for unit in todo:
                    if unit.kept is not None:
                        GroupFolder(unit.kept).begin(unit.members)
                loop = _Loop(
                    plan, folder, where, client, log, progress, found, execute, checkpoint_every
                )
                loop.run(deque(todo), show, renew, stopping)
        if not progress.left and not progress.elsewhere:
            clear(folder)
        show(progress)
        return progress


class _Stopping:
    """Whether the sweep was told to stop; told twice, it does so at once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.why = ""

    def stop(self, why: str) -> None:
        again, self.why = bool(self.why), why
        if again:
            self.leave()

    def leave(self) -> None:
        raise Interrupted(self.why, self._folder)


@dataclass
class _Loop:
    plan: Plan
    folder: Path
    where: WorkerConfig
    client: Client
    log: SweepFolder
    progress: SweepProgress
    found: frozenset[str]  # the runs that were done before
    execute: Execute
    checkpoint_every: float
    sweep_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    ended: queue.SimpleQueue[Future] = field(default_factory=queue.SimpleQueue)
    out: dict[Any, tuple[Future, Unit]] = field(default_factory=dict)
    todo: deque[Unit] = field(default_factory=deque)

    def run(
        self, todo: deque[Unit], show: Show, renew: Callable[[], None], stopping: _Stopping
    ) -> None:
        """Until no run is left, or the sweep is told to stop."""
        looked, self.todo = 0.0, todo
        while todo or self.out:
            if stopping.why:
                self._wind_up()
                stopping.leave()
            if time.monotonic() - looked > _TICK:
                self.progress.workers = _threads(self.client)
                renew()
                show(self.progress)
                looked = time.monotonic()
            while todo and len(self.out) < max(1, self.progress.workers):
                self._hand_out(todo.popleft())
            if self._take_in_next():
                show(self.progress)

    def _wind_up(self) -> None:
        """Let the runs under way write a checkpoint; those that cannot in time are killed."""
        self.client.run(stop, self.sweep_id, on_error="ignore")
        end = time.monotonic() + _GRACE
        while self.out and time.monotonic() < end:
            self._take_in_next()

    def _hand_out(self, unit: Unit) -> None:
        future = self.client.submit(
            carry_out_unit,
            [self._request(member) for member in unit.members],
            self.execute,
            None if unit.kept is None else str(unit.kept.absolute()),
            key=f"gflow-{unit.members[0].id if unit.kept is None else unit.kept.name}",
            pure=False,
            resources=self.where.resources,
        )
        self.out[future.key] = future, unit
        self._count()
        future.add_done_callback(self.ended.put)

    def _request(self, member: Member) -> Request:
        return Request(
            member.id,
            str(run_path(self.folder, member.id).absolute()),
            member.scenario.resolved(),
            self.plan.converge,
            self.plan.modified,
            self.checkpoint_every,
            self.sweep_id,
        )

    def _count(self) -> None:
        self.progress.running = sum(len(self._new(unit)) for _, unit in self.out.values())

    def _new(self, unit: Unit) -> list[Member]:
        """The runs of a unit that were not done before."""
        return [member for member in unit.members if member.id not in self.found]

    def _take_in_next(self) -> bool:
        """Take in the next unit that ended; false where none has for a second."""
        try:
            future = self.ended.get(timeout=_TICK)
        except queue.Empty:
            return False
        _, unit = self.out[future.key]
        records: list[dict[str, Any]] = []
        try:
            records = future.result(timeout=_TICK)
        except TimeoutError:  # its worker died with the record: it comes again from another
            future.add_done_callback(self.ended.put)
            return False
        except Exception as error:
            if future.status != "error":
                raise GflowError(
                    f"the scheduler was lost; `gflow resume {self.folder}` goes on with the sweep"
                ) from None
            if unit.kept is None:
                records = [{"id": unit.members[0].id, "state": "failed", "reason": _why(error)}]
            else:  # whichever run it was, the others are innocent
                GroupFolder(unit.kept).remove()
                self.todo.extendleft(Unit((member,)) for member in self._new(unit))
        del self.out[future.key]
        future.release()
        self._count()
        for member, record in zip(unit.members, records, strict=False):
            if member.id not in self.found:
                self._note(member, record)
        return True

    def _note(self, member: Member, record: Mapping[str, Any]) -> None:
        """What became of a run."""
        progress = self.progress
        if record["state"] == "done":
            progress.done += 1
        elif record["state"] == "running":
            progress.elsewhere += 1
        elif record["state"] == "failed":
            progress.failed[member.id] = record["reason"]
        self.log.add_line({**record, "at": dict(member.at), "time": round(time.time(), 3)})


def _threads(client: Client) -> int:
    """How many runs the workers that there are do at a time."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(worker["nthreads"] for worker in workers)


def _why(error: BaseException) -> str:
    """Why a run left no record of its own."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        deaths = error.allowed_failures + 1
        return f"its worker died {deaths} times: out of memory, or a crash of the process"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
