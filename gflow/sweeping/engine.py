"""The engine of a sweep: submit runs to workers and record their results, until all have ended.

No more units (a run, or a group solved as ensembles) are submitted than there are workers. A worker
that dies then loses only its own unit, and the count of deaths after which dask gives up a unit
(`gflow.sweeping.clusters`) is that unit's own. The runs of a group that was given up are submitted
one by one. Each future is released when it ends: dask would recompute held results of a worker that
died.
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
from gflow.sweeping.clusters import connect
from gflow.sweeping.folder import SweepFolder, run_path, run_states
from gflow.sweeping.grouping import GroupFolder, Unit, remove_groups, units_of_work
from gflow.sweeping.plan import Plan, SweepRun
from gflow.sweeping.progress import SweepProgress
from gflow.sweeping.task import Execute, RunRequest, execute_unit, start_or_resume, stop_sweep
from gflow.sweeping.workers import WorkerConfig

if TYPE_CHECKING:
    from distributed import Client, Future

_TICK = 1.0  # seconds between two checks of the workers
_GRACE = 20.0  # seconds for the runs to write a checkpoint when the sweep is stopped

#: ``show(progress)`` is called whenever a run has ended, and every second.
Show = Callable[[SweepProgress], None]


def run_sweep(
    plan: Plan,
    folder: Path,
    workers: WorkerConfig | None = None,
    *,
    checkpoint_every: float = 60.0,
    execute: Execute = start_or_resume,
    show: Show = lambda progress: None,
) -> SweepProgress:
    """Execute the runs of a plan that are not done, each in its own folder.

    Parameters
    ----------
    plan : Plan
    folder : Path
        The sweep's folder; an existing sweep is resumed.
    workers : WorkerConfig, optional
        By default one worker per core of this machine.
    checkpoint_every : float
        Seconds between two checkpoints of a run.
    execute : callable
        Executes one run on a worker; returns its summary.
    show : callable
        Displays the progress.

    Returns
    -------
    SweepProgress
        The progress at the end.

    Raises
    ------
    InputError
        If the folder or the workers cannot be used.
    GflowError
        If the connection to the scheduler is lost.
    Interrupted
        If a signal stopped the sweep.

    Examples
    --------
    >>> from pathlib import Path
    >>> from gflow.sweeping.plan import make_plan
    >>> plan = make_plan("deep-linear", seeds=4)
    >>> progress = run_sweep(plan, Path("outputs/seeds"), WorkerConfig(workers=2))  # doctest: +SKIP
    """
    workers = workers or WorkerConfig()
    stop_request = _StopRequest(folder)
    log = SweepFolder(folder)
    with log.lock(plan), catch_signals(stop_request.set):
        states = run_states(folder, plan)
        done = frozenset(id for id, state in states.items() if state == "done")
        progress = SweepProgress(len(plan.members), done=len(done), done_before=len(done))
        if progress.remaining:
            with connect(workers, folder) as (client, replace_workers):
                units = units_of_work(plan, folder, states, workers.count or _capacity(client))
                for unit in units:
                    if unit.folder is not None:
                        GroupFolder(unit.folder).create(unit.members)
                loop = _Loop(
                    client,
                    _Submission(plan, folder, execute, checkpoint_every, workers.resources),
                    log,
                    progress,
                    done,
                    deque(units),
                )
                loop.run(show, replace_workers, stop_request)
        if not progress.remaining and not progress.elsewhere:
            remove_groups(folder)
        show(progress)
        return progress


class _StopRequest:
    """Whether a signal asked the sweep to stop; a second signal stops it at once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.reason = ""

    def set(self, reason: str) -> None:
        repeated, self.reason = bool(self.reason), reason
        if repeated:
            self.raise_interrupted()

    def raise_interrupted(self) -> None:
        raise Interrupted(self.reason, self._folder)


@dataclass(frozen=True)
class _Submission:
    """How units are submitted."""

    plan: Plan
    folder: Path
    execute: Execute
    checkpoint_every: float
    resources: Mapping[str, float]
    sweep_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def submit(self, client: Client, unit: Unit) -> Future:
        return client.submit(
            execute_unit,
            [self._request(member) for member in unit.members],
            self.execute,
            None if unit.folder is None else str(unit.folder.absolute()),
            key=f"gflow-{unit.members[0].id if unit.folder is None else unit.folder.name}",
            pure=False,
            resources=self.resources,
        )

    def _request(self, member: SweepRun) -> RunRequest:
        return RunRequest(
            member.id,
            str(run_path(self.folder, member.id).absolute()),
            member.scenario.resolved(),
            self.plan.converge,
            self.plan.modified,
            self.checkpoint_every,
            self.sweep_id,
        )


@dataclass
class _Loop:
    client: Client
    submission: _Submission
    log: SweepFolder
    progress: SweepProgress
    done_before: frozenset[str]  # run ids
    waiting: deque[Unit]
    submitted: dict[Any, tuple[Future, Unit]] = field(default_factory=dict)  # by the future's key
    ended: queue.SimpleQueue[Future] = field(default_factory=queue.SimpleQueue)

    def run(
        self, show: Show, replace_workers: Callable[[], None], stop_request: _StopRequest
    ) -> None:
        """Submit units until none is left, or the sweep is stopped."""
        checked = 0.0
        while self.waiting or self.submitted:
            if stop_request.reason:
                self._stop_runs()
                stop_request.raise_interrupted()
            if time.monotonic() - checked > _TICK:
                self.progress.workers = _capacity(self.client)
                replace_workers()
                show(self.progress)
                checked = time.monotonic()
            while self.waiting and len(self.submitted) < max(1, self.progress.workers):
                self._submit(self.waiting.popleft())
            if self._collect():
                show(self.progress)

    def _stop_runs(self) -> None:
        """Let the running runs write a checkpoint; those that take too long are killed."""
        self.client.run(stop_sweep, self.submission.sweep_id, on_error="ignore")
        end = time.monotonic() + _GRACE
        while self.submitted and time.monotonic() < end:
            self._collect()

    def _submit(self, unit: Unit) -> None:
        future = self.submission.submit(self.client, unit)
        self.submitted[future.key] = future, unit
        self._count_running()
        future.add_done_callback(self.ended.put)

    def _count_running(self) -> None:
        units = (unit for _, unit in self.submitted.values())
        self.progress.running = sum(len(self._pending(unit)) for unit in units)

    def _pending(self, unit: Unit) -> list[SweepRun]:
        """Return the runs of a unit that were not done before the sweep."""
        return [member for member in unit.members if member.id not in self.done_before]

    def _collect(self) -> bool:
        """Record the next unit that ends; return False where none ends within a second."""
        try:
            future = self.ended.get(timeout=_TICK)
        except queue.Empty:
            return False
        _, unit = self.submitted[future.key]
        records: list[dict[str, Any]] = []
        try:
            records = future.result(timeout=_TICK)
        except TimeoutError:  # its worker died with the result: another one repeats the unit
            future.add_done_callback(self.ended.put)
            return False
        except Exception as error:
            if future.status != "error":
                raise GflowError(
                    "the connection to the scheduler was lost; resume the sweep with "
                    f"`gflow resume {self.submission.folder}`"
                ) from None
            if unit.folder is None:
                reason = _failure_reason(error)
                records = [{"id": unit.members[0].id, "state": "failed", "reason": reason}]
            else:  # one run of the group may be the cause: find it by submitting each alone
                GroupFolder(unit.folder).remove()
                self.waiting.extendleft(Unit((member,)) for member in self._pending(unit))
        del self.submitted[future.key]
        future.release()
        self._count_running()
        for member, record in zip(unit.members, records, strict=False):
            if member.id not in self.done_before:
                self._record(member, record)
        return True

    def _record(self, member: SweepRun, record: Mapping[str, Any]) -> None:
        progress = self.progress
        if record["state"] == "done":
            progress.done += 1
        elif record["state"] == "running":
            progress.elsewhere += 1
        elif record["state"] == "failed":
            progress.failed[member.id] = record["reason"]
        self.log.add_line({**record, "at": dict(member.point), "time": round(time.time(), 3)})


def _capacity(client: Client) -> int:
    """Return the number of runs that the connected workers execute at a time."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(worker["nthreads"] for worker in workers)


def _failure_reason(error: BaseException) -> str:
    """Return why a run has left no record."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        deaths = error.allowed_failures + 1
        return f"its worker died {deaths} times: out of memory, or a crash of the process"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
