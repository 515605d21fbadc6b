"""The loop of a sweep: hand out runs, take in what became of them, until none is left.

As many runs are handed out as there are workers, no more: a worker that dies then takes only
its own run with it, and the count of deaths by which dask gives up a run (see
`gflow.sweeping.clusters`) is that run's own. A future is let go as soon as it has ended:
dask works out again what is still held and was on a worker that died.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.errors import GflowError, Interrupted
from gflow.signals import caught
from gflow.sweeping.clusters import Where, connected
from gflow.sweeping.folder import SweepFolder, run_path, run_states
from gflow.sweeping.plan import Member, Plan
from gflow.sweeping.task import Execute, Request, carry_out, execute, stop

if TYPE_CHECKING:
    from distributed import Client, Future

_TICK = 1.0  # seconds between looks at the workers
_GRACE = 20.0  # seconds for checkpoints when the sweep is told to stop


@dataclass
class Tally:
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
Show = Callable[[Tally], None]


def run_sweep(
    plan: Plan,
    folder: Path,
    where: Where | None = None,
    *,
    checkpoint_every: float = 60.0,
    execute: Execute = execute,
    show: Show = lambda tally: None,
) -> Tally:
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
    where = where or Where()
    stopping = _Stopping(folder)
    log = SweepFolder(folder)
    with log.held(plan), caught(stopping.stop):
        states = run_states(folder, plan)
        todo = deque(m for m in plan.members if states[m.id] != "done")
        tally = Tally(len(plan.members), done=len(plan.members) - len(todo))
        tally.found = tally.done
        if todo:
            with connected(where, folder) as (client, renew):
                loop = _Loop(plan, folder, where, client, log, tally, execute, checkpoint_every)
                loop.run(todo, show, renew, stopping)
        show(tally)
        return tally


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
    where: Where
    client: Client
    log: SweepFolder
    tally: Tally
    execute: Execute
    checkpoint_every: float
    drive: str = field(default_factory=lambda: uuid.uuid4().hex)
    ended: queue.SimpleQueue[Future] = field(default_factory=queue.SimpleQueue)
    out: dict[Any, tuple[Future, Member]] = field(default_factory=dict)

    def run(
        self, todo: deque[Member], show: Show, renew: Callable[[], None], stopping: _Stopping
    ) -> None:
        """Until no run is left, or the sweep is told to stop."""
        looked = 0.0
        while todo or self.out:
            if stopping.why:
                self._wind_up()
                stopping.leave()
            if time.monotonic() - looked > _TICK:
                self.tally.workers = self._threads()
                renew()
                show(self.tally)
                looked = time.monotonic()
            while todo and len(self.out) < max(1, self.tally.workers):
                self._hand_out(todo.popleft())
            if self._take_in_next():
                show(self.tally)

    def _wind_up(self) -> None:
        """Let the runs under way write a checkpoint; those that cannot in time are killed."""
        self.client.run(stop, self.drive, on_error="ignore")
        end = time.monotonic() + _GRACE
        while self.out and time.monotonic() < end:
            self._take_in_next()

    def _threads(self) -> int:
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return sum(worker["nthreads"] for worker in workers)

    def _hand_out(self, member: Member) -> None:
        request = Request(
            member.id,
            str(run_path(self.folder, member.id).absolute()),
            member.scenario.resolved(),
            self.plan.converge,
            self.plan.modified,
            self.checkpoint_every,
            self.drive,
        )
        future = self.client.submit(
            carry_out,
            request,
            self.execute,
            key=f"gflow-{member.id}",
            pure=False,
            resources=self.where.resources,
        )
        self.out[future.key] = future, member
        self.tally.running = len(self.out)
        future.add_done_callback(self.ended.put)

    def _take_in_next(self) -> bool:
        """Take in the next run that ended; false where none has for a second."""
        try:
            future = self.ended.get(timeout=_TICK)
        except queue.Empty:
            return False
        _, member = self.out[future.key]
        try:
            record: dict[str, Any] = future.result(timeout=_TICK)
        except TimeoutError:  # its worker died with the record: it comes again from another
            future.add_done_callback(self.ended.put)
            return False
        except Exception as error:
            if future.status != "error":
                raise GflowError(
                    f"the scheduler was lost; `gflow resume {self.folder}` goes on with the sweep"
                ) from None
            record = {"id": member.id, "state": "failed", "reason": _why(error)}
        del self.out[future.key]
        future.release()
        tally = self.tally
        tally.running = len(self.out)
        if record["state"] == "done":
            tally.done += 1
        elif record["state"] == "running":
            tally.elsewhere += 1
        elif record["state"] == "failed":
            tally.failed[member.id] = record["reason"]
        self.log.add_line({**record, "at": dict(member.at), "time": round(time.time(), 3)})
        return True


def _why(error: BaseException) -> str:
    """Why a run left no record of its own."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        deaths = error.allowed_failures + 1
        return f"its worker died {deaths} times: out of memory, or a crash of the process"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
