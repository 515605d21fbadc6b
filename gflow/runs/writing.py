"""Writing a run's results and progress into its folder."""

from __future__ import annotations

import contextlib
import datetime
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow.loggers.base import LoggedRun, Logger, RunLog
from gflow.runs.figures import write_figures
from gflow.runs.folder import RunFolder
from gflow.runs.job import Job
from gflow.runs.manifest import manifest
from gflow.runs.reading import MANIFEST
from gflow.text import plain
from gflow.trajectory import IntegrationError

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.base import Result

_METRICS_INTERVAL = 1.0  # seconds


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run.

    Attributes
    ----------
    path : Path
    summary : dict
    figures : tuple of str
        The names of its figures.
    """

    path: Path
    summary: dict[str, Any]
    figures: tuple[str, ...]


class RunWriter:
    """Writes the manifest, progress and results of one run.

    Parameters
    ----------
    job : Job
    folder : RunFolder
    start : mapping
        When and by which command the run was started, for the manifest.
    """

    def __init__(self, job: Job, folder: RunFolder, start: Mapping[str, Any]):
        self.folder = folder
        self._job = job
        self._start = dict(start)
        self._log: RunLog | None = None

    @contextlib.contextmanager
    def logged(self, kinds: Sequence[type[Logger]]) -> Iterator[None]:
        """Log the run in other tools, too, while the context is open.

        Yields
        ------
        None
        """
        path, scenario = self.folder.path, self._job.scenario
        run = LoggedRun(f"{self._job.name}-{path.name}", path, scenario.resolved())
        self._log = RunLog(kinds, run)
        try:
            yield
        finally:
            self._log.finish({})  # of a run that did not finish: the others are closed
            self._log = None

    def manifest(self, state: str, reason: str | None = None) -> dict[str, Any]:
        """Return the manifest of the run in a state."""
        kinds = {name: getattr(self._job, name) for name in ("study", "modified", "laws")}
        details = {**kinds, **self._start}
        if reason is not None:
            details["reason"] = reason
        return manifest(state, self._job.scenario.resolved(), details)

    def write_manifest(self, state: str, reason: str | None = None) -> None:
        """Write the manifest of the run in a state."""
        self.folder.write_json(MANIFEST, self.manifest(state, reason))

    def write_result(self, result: Result, kinds: Sequence[str]) -> RunResult:
        """Write the results of a run that is done, its figures of some kinds, then its manifest."""
        return self._write(result, kinds, "done", None)

    def write_failure(self, error: IntegrationError, kinds: Sequence[str]) -> None:
        """Write the part of a path that a solver reached before it stopped."""
        from gflow.results.stopped import StoppedResult

        self._write(StoppedResult.from_error(error), kinds, "failed", str(error))

    def _write(
        self, result: Result, kinds: Sequence[str], state: str, reason: str | None
    ) -> RunResult:
        from gflow.results.arrays import numbered

        scenario, dataset = self._job.scenario, numbered(result.dataset)
        dataset.attrs |= {"scenario": scenario.name, "title": scenario.title, "data": scenario.data}
        self.folder.write_dataset("result.nc", dataset)
        self.folder.write_json("summary.json", result.summary)
        figures: list[str] = []
        failed: list[str] = []
        if kinds:
            title = f"{scenario.name} on {scenario.data}"
            figures, failed = write_figures(self.folder, dataset, title, kinds)
        if self._log is not None:
            self._log.finish(result.numbers(plain(result.summary)))
        self.write_manifest(state, reason)  # last: it says that the other files are complete
        for line in failed:
            warnings.warn(f"{line}; the results are complete", stacklevel=2)
        return RunResult(self.folder.path, result.summary, tuple(figures))

    def recorded(self, stages: Stages) -> Stages:
        """Return stages whose progress is also appended to metrics.jsonl, once a second."""
        last = start = time.monotonic()

        def stage(name: str, t_end: float) -> Callable[[float, float], None]:
            display = stages(name, t_end)

            def update(t: float, loss: float) -> None:
                nonlocal last
                now = time.monotonic()
                if now - last >= _METRICS_INTERVAL:
                    last = now
                    clock = {"written": utc_now(), "seconds": round(now - start, 3)}
                    values = {"stage": name, "t": t, "t_end": t_end, "loss": loss}
                    self.folder.add_metrics({**clock, **values})
                    if self._log is not None:
                        self._log.log(name, t, loss)
                if display is not None:
                    display(t, loss)

            return update

        return stage


def utc_now() -> str:
    """Return the time in UTC, to the second, as ISO 8601 text."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
