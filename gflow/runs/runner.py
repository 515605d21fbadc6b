"""A scenario -> its folder: the work, what is kept of it on the way, and how it goes on.

A run that is told to stop by a signal or by its time limit finishes the step it is in, writes a
checkpoint and raises `Interrupted`. `resume` goes on from there, or from the last checkpoint of
one that was killed, and ends with the same numbers to the last bit on the same machine.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gflow._version import __version__
from gflow.errors import GflowError, InputError, Interrupted, OutputError, PeerError
from gflow.execution import current, using
from gflow.execution.checkpointing import Checkpointer
from gflow.runs import folder as store
from gflow.runs import manifest, reading
from gflow.runs.checkpoints import FolderCheckpointStore
from gflow.runs.signals import caught
from gflow.text import one_line
from gflow.trajectory import IntegrationError

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.paths import Outcome
    from gflow.settings.base import Scenario

_METRICS_EVERY = 1.0  # seconds


@dataclass(frozen=True)
class Job:
    """What a run does.

    Attributes
    ----------
    scenario : Scenario
    study : bool
        The step-size study of it instead.
    modified : bool
        Whether the study measures the gap to the modified flow, too.
    """

    scenario: Scenario
    study: bool = False
    modified: bool = False

    @property
    def name(self) -> str:
        """The folder of such runs."""
        return f"{self.scenario.name}-converge" if self.study else self.scenario.name

    def work(self, stages: Stages) -> Outcome:
        """Do it; nothing is written."""
        if not self.study:
            return self.scenario.run(stages)
        from gflow.results.step_size import step_size_outcome
        from gflow.studies import step_size_study
        from gflow.studies.flow_and_descent import default_step_sizes

        scenario = self.scenario
        setup = scenario.setup()
        if scenario.t_end is None:
            raise InputError(f"converge {scenario.name} needs the length of the path: pass --t-end")
        sizes = scenario.step_sizes or default_step_sizes(
            setup.flow, setup.y0, scenario.t_end, count=6, max_evals=scenario.max_evals
        )
        result = step_size_study(
            setup.flow,
            setup.y0,
            scenario.t_end,
            sizes,
            modified=self.modified,
            options=scenario.solve_options(),
            progress=stages("step-size study", scenario.t_end),
        )
        return step_size_outcome(result)


@dataclass(frozen=True)
class RunResult:
    """A run that is done.

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


@dataclass(frozen=True)
class RunOptions:
    """How a run is looked after while it goes on.

    Attributes
    ----------
    stages : callable
        ``stages(name, t_end)`` gives the progress callback of one part of the work, or None.
    draw : bool
        Whether to draw figures.
    checkpoint_every : float
        Seconds between two checkpoints; more where one takes long.
    max_walltime : float, optional
        Seconds after which the run is interrupted.
    """

    stages: Stages = lambda name, t_end: None
    draw: bool = True
    checkpoint_every: float = 60.0
    max_walltime: float | None = None


def run(job: Job, path: Path | None = None, options: RunOptions = RunOptions()) -> RunResult:
    """Run a scenario into a new or empty folder.

    Parameters
    ----------
    job : Job
    path : Path, optional
        By default ``outputs/<scenario>/<time>-<hash>``.
    care : Care

    Raises
    ------
    InputError
        For bad input; nothing is left then.
    IntegrationError
        If a solver stopped early; what it reached is in the folder, which ``failed``.
    OutputError
        If the folder cannot be written any more.
    Interrupted
        If the run was told to stop; its ``folder`` can be resumed.
    """
    job.scenario.torch_options()  # a device that does not exist is said before anything is made
    resolved = job.scenario.resolved()
    folder = store.RunFolder(path or manifest.default_folder(job.name, resolved))
    with contextlib.closing(folder):
        begun = {"started": _now(), "command": sys.argv}
        folder.begin(_manifest(job, "running", begun), job.scenario.toml())
        return _work(job, folder, options, begun, new=True)


def resume(
    path: Path, options: RunOptions = RunOptions(), *, model: str | None = None
) -> RunResult:
    """Go on with a run that was interrupted or killed.

    Parameters
    ----------
    path : Path
    care : Care
    model : str, optional
        The user's own model that the run names, said again: a folder alone runs no code.

    Raises
    ------
    InputError
        If there is no such run, or it is done, failed, damaged or running, or what was kept of it
        makes no sense.
    IntegrationError, OutputError, Interrupted
        As `run`.
    """
    job = job_to_resume(path, model)
    found = reading.state(path)
    if found != "interrupted":
        why = {"done": "there is nothing to go on with", "running": "wait for it"}
        why["failed"] = f"{reading.read_manifest(path).get('reason')}; run it anew"
        raise InputError(f"the run at {path} is {found}: {why.get(found, 'run it anew')}")
    before = reading.read_manifest(path)
    if before.get("gflow") != __version__:  # its numbers could be others
        raise InputError(
            f"the run at {path} was begun by gflow {before.get('gflow')!r:.40}, this is "
            f"{__version__}; go on with it by that version, or run it anew"
        )
    with contextlib.closing(store.RunFolder.again(path)) as folder:
        begun = {key: before.get(key) for key in ("started", "command")}
        folder.write_json("manifest.json", _manifest(job, "running", begun))
        folder.write_text("scenario.toml", job.scenario.toml())
        try:
            return _work(job, folder, options, begun, new=False)
        except (GflowError, MemoryError):
            raise
        except Exception as error:  # somebody else may have made what was kept, to any end
            raise InputError(
                f"what is kept in {path} cannot be gone on with ({one_line(error)}); run it anew"
            ) from error


def read_job(path: Path) -> Job:
    """What the run in a folder does, from its manifest.

    Raises
    ------
    InputError
        If that is missing or damaged.
    """
    from gflow.scenario import validate

    manifest = reading.read_manifest(path)
    keys = manifest.get("scenario")
    if not isinstance(keys, dict):
        raise InputError(f"damaged run at {path}: manifest.json holds no scenario")
    scenario = validate(keys, str(path))
    return Job(scenario, manifest.get("study") is True, manifest.get("modified") is True)


def job_to_resume(path: Path, model: str | None = None) -> Job:
    """As `read_job`, of a run to go on with; InputError where it names code that is not said."""
    from gflow.scenario import refuse_code

    job = read_job(path)
    refuse_code(job.scenario, {} if model is None else {"model": model}, str(path))
    return job


def _manifest(job: Job, state: str, begun: Mapping[str, Any]) -> dict[str, Any]:
    of_job = {"study": job.study, "modified": job.modified}
    return manifest.manifest(state, job.scenario.resolved(), {**of_job, **begun})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _work(
    job: Job, folder: store.RunFolder, options: RunOptions, begun: Mapping[str, Any], *, new: bool
) -> RunResult:
    import torch

    torch.set_num_threads(job.scenario.threads)
    stored = FolderCheckpointStore(folder)
    common = current().checkpointer  # of all runs of a batch
    checkpointer = common or Checkpointer(stored, options.checkpoint_every, options.max_walltime)
    try:
        with using(checkpointer=checkpointer), _signals(checkpointer, options.max_walltime):
            outcome = job.work(_recorded(options.stages, folder))
            if common is not None:  # once one run is done, the others must not need it
                common.flush()
            finished = _save(job, folder, outcome, options.draw, "done", begun)
    except Interrupted as stop:
        checkpointer.flush()
        folder.write_json("manifest.json", _manifest(job, "interrupted", begun))
        raise Interrupted(stop.why, folder.path) from None
    except IntegrationError as error:
        _save(job, folder, _reached(error), options.draw, "failed", {**begun, "reason": str(error)})
        error.folder = folder.path
        raise
    except OutputError as error:
        how = f"once it can be written, go on by: gflow resume {folder.path}"
        raise OutputError(f"{error}; {how}") from None
    except PeerError as error:
        checkpointer.flush()
        if new and not checkpointer.has_stored:
            folder.discard()
            raise
        folder.write_json("manifest.json", _manifest(job, "interrupted", begun))
        raise PeerError(f"{error}; go on with it by: gflow resume {folder.path}") from None
    except Exception as error:
        if new and (common is not None or not checkpointer.has_stored):
            folder.discard()
        else:
            with contextlib.suppress(OutputError):
                why = {**begun, "reason": one_line(error)}
                folder.write_json("manifest.json", _manifest(job, "failed", why))
        raise
    stored.clear()
    return finished


def _reached(error: IntegrationError) -> Outcome:
    """What a solver reached before it stopped."""
    from gflow.results.base import certificate_summary, cost_summary, path_dataset
    from gflow.results.paths import Outcome

    path = error.trajectory
    summary = {
        "stopped": error.reason,
        "t": error.t,
        "certificate": certificate_summary(path),
        "cost": cost_summary(path),
    }
    return Outcome(path_dataset(path), summary)


def _save(
    job: Job,
    folder: store.RunFolder,
    outcome: Outcome,
    draw: bool,
    state: str,
    begun: Mapping[str, Any],
) -> RunResult:
    """Write a run's results, and then that they are whole."""
    from gflow.results.base import numbered

    scenario, dataset = job.scenario, numbered(outcome.dataset)
    dataset.attrs |= {"scenario": scenario.name, "title": scenario.title, "data": scenario.data}
    folder.write_dataset("result.nc", dataset)
    folder.write_json("summary.json", outcome.summary)
    drawn = {}
    if draw:
        from gflow import plots

        drawn = plots.figures(dataset, f"{scenario.name} on {scenario.data}")
    for name, figure in drawn.items():
        folder.write_figure(name, figure)
    folder.write_json("manifest.json", _manifest(job, state, begun))
    return RunResult(folder.path, outcome.summary, tuple(drawn))


def _recorded(stages: Stages, folder: store.RunFolder) -> Stages:
    """Stages whose progress is recorded in metrics.jsonl, once a second."""
    last = began = time.monotonic()

    def stage(name: str, t_end: float) -> Callable[[float, float], None]:
        show = stages(name, t_end)

        def update(t: float, loss: float) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _METRICS_EVERY:
                last = now
                at = {"written": _now(), "seconds": round(now - began, 3)}
                folder.add_metrics({**at, "stage": name, "t": t, "t_end": t_end, "loss": loss})
            if show is not None:
                show(t, loss)

        return update

    return stage


def _signals(
    checkpointer: Checkpointer, seconds: float | None
) -> contextlib.AbstractContextManager[None]:
    """Let signals, and an alarm after so many seconds, stop the work.

    In a thread that is not the main one, work is stopped by its time limit between two steps, or
    killed.
    """
    told: set[str] = set()
    team = current().team

    def stop(why: str) -> None:
        # torchrun sends SIGTERM after a Ctrl-C that all have seen, and where one process failed.
        if team is not None and (team.broken or told - {why}):
            return
        told.add(why)
        checkpointer.stop(why)

    # Where the team is broken this process is about to say why it ends.
    return caught(stop, seconds, deaf=lambda: team is not None and team.broken)
