"""Run a scenario into a folder, and resume a run that was interrupted.

A run that is stopped by a signal or by its time limit finishes its step, writes a checkpoint and
raises `Interrupted`. `resume` continues from there, or from the last checkpoint of a run that was
killed, and ends with the same numbers to the last bit on the same machine.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gflow._version import __version__
from gflow.errors import GflowError, InputError, Interrupted, OutputError, PeerError
from gflow.execution import current, using
from gflow.execution.checkpointing import Checkpointer
from gflow.io.plain import as_path
from gflow.loggers.base import find_loggers
from gflow.runs.checkpoints import FolderCheckpointStore
from gflow.runs.folder import RunFolder
from gflow.runs.job import Job, job_to_resume
from gflow.runs.manifest import default_folder
from gflow.runs.reading import read_manifest, state
from gflow.runs.signals import stop_on_signals
from gflow.runs.writing import RunResult, RunWriter, utc_now
from gflow.text import one_line
from gflow.trajectory import IntegrationError

if TYPE_CHECKING:
    from gflow.callbacks import Stages


@dataclass(frozen=True)
class RunOptions:
    """How a run is executed; none of these change its numbers.

    Attributes
    ----------
    stages : callable
        ``stages(name, t_end)`` returns the progress callback of one part of the work, or None.
    draw : bool
        Whether to draw figures.
    pdf : bool
        Whether to write them as PDF, too.
    checkpoint_every : float
        Seconds between two checkpoints; more where writing one takes long.
    max_walltime : float, optional
        Seconds after which the run is interrupted.
    log : tuple of str
        Names of loggers, such as ``tensorboard``; see `gflow.loggers`.
    """

    stages: Stages = lambda name, t_end: None
    draw: bool = True
    pdf: bool = False
    checkpoint_every: float = 60.0
    max_walltime: float | None = None
    log: tuple[str, ...] = ()

    @property
    def figure_kinds(self) -> tuple[str, ...]:
        """The file formats of figures."""
        return (("png", "pdf") if self.pdf else ("png",)) if self.draw else ()


def run(job: Job, path: str | Path | None = None, options: RunOptions = RunOptions()) -> RunResult:
    """Run a job into a new or empty folder.

    Parameters
    ----------
    job : Job
    path : str or Path, optional
        The folder, by default ``outputs/<scenario>/<time>-<hash>``.
    options : RunOptions, optional

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        For bad input; no folder remains then.
    IntegrationError
        If a solver stopped early; the folder holds the part of the path that it reached, and its
        state is ``failed``.
    OutputError
        If the folder cannot be written any more.
    Interrupted
        If the run was stopped; its ``folder`` can be resumed.

    Examples
    --------
    >>> import tempfile
    >>> from gflow.scenario import load_scenario
    >>> keys = {"data": "synthetic", "samples": 6, "inputs": 2, "points": 3, "t_end": 1.0}
    >>> job = Job(load_scenario("deep-linear", keys))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run(job, Path(folder) / "run", RunOptions(draw=False))
    >>> result.summary["certificate"]["holds"]
    True
    """
    if not isinstance(job, Job):
        raise InputError(
            f"job must be a Job, got {type(job).__name__}; write Job(load_scenario(name, keys))"
        )
    find_loggers(options.log)
    job.scenario.torch_options()  # refuse a missing device before a folder is made
    default = default_folder(job.name, job.scenario.resolved())
    folder = RunFolder(default if path is None else as_path(path))
    with contextlib.closing(folder), _torch_threads(job.scenario.threads):
        writer = RunWriter(job, folder, {"started": utc_now(), "command": sys.argv})
        folder.begin(writer.manifest("running"), job.scenario.toml())
        return _execute(job, writer, options, new=True)


def resume(
    path: str | Path, options: RunOptions = RunOptions(), *, model: str | None = None
) -> RunResult:
    """Resume a run that was interrupted or killed.

    Parameters
    ----------
    path : str or Path
        The run's folder.
    options : RunOptions, optional
    model : str, optional
        The user's own model in the scenario, repeated here: a folder alone runs no code.

    Returns
    -------
    RunResult

    Raises
    ------
    InputError
        If there is no such run, its state is not ``interrupted``, or its checkpoints cannot be
        resumed.
    IntegrationError, OutputError, Interrupted
        As `run`.

    Examples
    --------
    >>> resume(Path("nowhere"))
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at nowhere: manifest.json is missing; `gflow runs` lists runs
    """
    path = as_path(path)
    find_loggers(options.log)
    job = job_to_resume(path, model)
    _require_interrupted(path)
    manifest = read_manifest(path)
    version = manifest.get("gflow")
    if version != __version__:  # its numbers could differ
        raise InputError(
            f"the run at {path} was started by gflow {version!r:.40}, this is {__version__}; "
            "resume it with that version, or run it again"
        )
    with (
        contextlib.closing(RunFolder.reopen(path)) as folder,
        _torch_threads(job.scenario.threads),
    ):
        writer = RunWriter(job, folder, {key: manifest.get(key) for key in ("started", "command")})
        writer.write_manifest("running")
        folder.write_text("scenario.toml", job.scenario.toml())
        try:
            return _execute(job, writer, options, new=False)
        except (GflowError, MemoryError):
            raise
        except Exception as error:  # anybody may have made the checkpoints, with any content
            raise InputError(
                f"the checkpoints in {path} cannot be resumed ({one_line(error)}); run it again"
            ) from error


def _require_interrupted(path: Path) -> None:
    run_state = state(path)
    if run_state == "interrupted":
        return
    mend = {"done": "there is nothing to resume", "running": "wait for it"}
    if run_state == "failed":
        mend["failed"] = f"{read_manifest(path).get('reason')}; run it again"
    raise InputError(f"the run at {path} is {run_state}: {mend.get(run_state, 'run it again')}")


def _execute(job: Job, writer: RunWriter, options: RunOptions, *, new: bool) -> RunResult:
    folder = writer.folder
    store = FolderCheckpointStore(folder)
    batch = current().checkpointer  # of all runs of a batch, where this is one of them
    checkpointer = batch or Checkpointer(store, options.checkpoint_every, options.max_walltime)
    try:
        with (
            using(checkpointer=checkpointer),
            stop_on_signals(checkpointer, options.max_walltime),
            writer.logged(find_loggers(options.log)),
        ):
            result = job.work(writer.recorded(options.stages))
            if batch is not None:  # once one run is done, the others must not need it
                batch.flush()
            written = writer.write_result(result, options.figure_kinds)
    except Interrupted as stop:
        checkpointer.flush()
        writer.write_manifest("interrupted")
        raise Interrupted(stop.why, folder.path) from None
    except IntegrationError as error:
        writer.write_failure(error, options.figure_kinds)
        error.folder = folder.path
        raise
    except OutputError as error:
        mend = f"once it can be written, resume by: gflow resume {folder.path}"
        raise OutputError(f"{error}; {mend}") from None
    except PeerError as error:
        checkpointer.flush()
        if new and not checkpointer.has_stored:
            folder.discard()
            raise
        writer.write_manifest("interrupted")
        raise PeerError(f"{error}; resume by: gflow resume {folder.path}") from None
    except Exception as error:
        if new and (batch is not None or not checkpointer.has_stored):
            folder.discard()
        else:
            with contextlib.suppress(OutputError):
                writer.write_manifest("failed", one_line(error))
        raise
    store.clear()
    return written


@contextlib.contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch's threads within the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
