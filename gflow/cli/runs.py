"""The commands resume, runs and inspect; and what a finished run prints."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gflow.cli.options import FolderPath, json_option, quiet_option, run_option_flags
from gflow.cli.process import loading, owns_process, skip_dask
from gflow.cli.sweeps import resume_sweep
from gflow.distributed.torchrun import rank_info
from gflow.errors import InputError, Interrupted
from gflow.text import CONTROL, printable, printable_values

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.runs import Job, RunOptions, RunResult

#: Exit status by verdict (`gflow.results.base.Verdict`).
STATUSES = {"holds": 0, "stopped": 3, "uncertified": 4, "diverged": 5}


def run_options(
    max_walltime: float | None,
    checkpoint_every: float,
    pdf: bool,
    no_figures: bool = False,
    log: tuple[str, ...] = (),
) -> Callable[[Stages], RunOptions]:
    """Return a function from progress stages to `RunOptions` with these options.

    Parameters
    ----------
    max_walltime : float, optional
        Seconds.
    checkpoint_every : float
        Seconds.
    pdf : bool
        Whether to write figures as PDF, too.
    no_figures : bool
        Whether to draw none.
    log : tuple of str
        Names of loggers.

    Returns
    -------
    callable

    Raises
    ------
    InputError
        If both are asked for.

    Examples
    --------
    >>> run_options(None, 30.0, False)(lambda name, t_end: None).checkpoint_every
    30.0
    """
    from gflow.runs import RunOptions

    if pdf and no_figures:
        raise InputError("--pdf and --no-figures exclude each other; pass one")
    return lambda stages: RunOptions(
        stages,
        draw=not no_figures,
        pdf=pdf,
        checkpoint_every=checkpoint_every,
        max_walltime=max_walltime,
        log=log,
    )


def finish(do: Callable[[Stages], RunResult], job: Job, as_json: bool, quiet: bool = False) -> None:
    """Execute a run, print its result and exit with the status of its verdict.

    Of several processes rank 0 does this; the others do their share of the work.

    Parameters
    ----------
    do : callable
        ``do(stages)`` executes the run.
    job : Job
        The run.
    as_json : bool
        Whether to print the summary as JSON instead of a table.
    quiet : bool
        Whether to print the folder alone instead, and no progress.

    Raises
    ------
    click.exceptions.Exit
        With the status of the verdict, unless the result holds.

    Examples
    --------
    >>> from gflow.runs import Job, RunResult
    >>> from gflow.scenario import load_scenario
    >>> job = Job(load_scenario("kernel"))
    >>> summary = {"kind": "width", "widths": [], "certificate": {"holds": True}}
    >>> finish(lambda stages: RunResult(Path("run"), summary, ()), job, as_json=True)
    {"scenario": "kernel", ... "kind": "width", ... "folder": "run"}
    """
    if owns_process():
        with loading():
            skip_dask()
    if rank_info() is None:
        _finish(do, job, as_json, quiet)
        return
    import torch

    from gflow.distributed import processes

    with processes() as team:
        if team.size > 1 and not job.scenario.can_be_split:
            raise InputError(f"{job.name} runs in one process; start it without torchrun")
        if team.rank == 0:
            _finish(do, job, as_json, quiet)
            return
        torch.set_num_threads(job.scenario.threads)
        job.scenario.build_flow()
        team.leads()


def _finish(do: Callable[[Stages], RunResult], job: Job, as_json: bool, quiet: bool) -> None:
    with loading():
        from gflow.cli.progress import Bar, counting
        from gflow.execution import using
        from gflow.results.registry import find_kind
        from gflow.text import plain
        from gflow.trajectory import IntegrationError

    try:
        counted = contextlib.nullcontext() if quiet else using(counter=counting)
        with Bar(silent=quiet) as bar, counted:
            result = do(bar.stage)
    except IntegrationError as error:
        if error.folder is not None:
            click.echo(f"gflow: the part that was solved is in {error.folder}", err=True)
        raise
    scenario = job.scenario
    summary = {"scenario": scenario.name, "data": scenario.data, **result.summary}
    summary["folder"] = str(result.path)
    if as_json:
        click.echo(to_json(plain(summary)))
    elif quiet:
        click.echo(CONTROL.sub("?", str(result.path)))
    else:
        _print(summary, result.path, result.figures)
    status = STATUSES[find_kind(summary).verdict(summary)]
    if status:
        raise click.exceptions.Exit(status)


def _print(summary: Mapping[str, Any], path: Path, figures: tuple[str, ...]) -> None:
    from gflow.cli.table import print_table
    from gflow.results.registry import find_kind

    summary = printable_values(summary)  # a resumed run may take texts from its folder
    table = find_kind(summary).table(summary)
    folder = CONTROL.sub("?", str(path))
    names = printable(", ".join(sorted(figures)))  # the order in which `inspect` finds the files
    place = [("folder", folder)]
    if names:
        place.append(("figures", f"{folder}/figures: {names}"))
    lines = (*table.lines, *place)
    print_table(f"{summary['scenario']} on {summary['data']}", replace(table, lines=lines))


def interruption_message(stop: Interrupted) -> str:
    """Return one line on a run that was interrupted, and how to resume it."""
    why = "the time limit was reached" if stop.why == "time" else stop.why
    if stop.folder is None:
        return f"interrupted ({why})"
    return f"interrupted ({why}); resume it by: gflow resume {stop.folder}"


@click.command("resume", params=[*run_option_flags(), quiet_option(), json_option()])
@click.argument("run", type=FolderPath())
@click.option("--model", help="your own model that the run names: a folder alone runs no code")
def _resume(run: Path, as_json: bool, quiet: bool, model: str | None, **limits: Any) -> None:
    """Resume RUN, the folder of a run or a sweep that was interrupted or killed."""
    from gflow.sweeping.folder import is_sweep

    if is_sweep(run):
        resume_sweep(run, limits["checkpoint_every"], as_json, model)
        return
    from gflow.runs import resume
    from gflow.runs.job import job_to_resume

    job = job_to_resume(run, model)  # of several processes each makes the model
    make_options = run_options(**limits)
    finish(lambda stages: resume(run, make_options(stages), model=model), job, as_json, quiet)


@click.command("runs")
@click.argument("folder", type=FolderPath(), required=False)
@click.option("--json", "as_json", is_flag=True, help="print a list as JSON")
def _runs(folder: Path | None, as_json: bool) -> None:
    """List the runs in FOLDER, by default outputs/, with their states."""
    from gflow.runs.reading import find_runs

    is_new_place = folder is None and not Path("outputs").exists()  # nothing was run here yet
    folder = folder or Path("outputs")
    if not folder.is_dir() and not is_new_place:
        raise InputError(
            f"FOLDER must be a folder that exists, got {folder}; runs are in outputs/ by default"
        )
    rows = [_row(path) for path in find_runs(folder)]
    if as_json:
        click.echo(to_json(rows))
        return
    for row in map(printable_values, rows):
        click.echo(f"{row['state']:<11} {row['written'] or '-':<19.19}  {row['folder']}")
    if not rows:
        click.echo(f"no runs in {printable(os.path.join(folder, ''))}", err=True)


def to_json(value: Any) -> str:
    """Return one line of JSON with control characters, as a name may have, escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _row(path: Path) -> dict[str, Any]:
    from gflow.runs import reading

    try:
        written = str(reading.read_manifest(path).get("written", ""))
    except InputError:
        written = ""
    return {"state": reading.state(path), "written": written, "folder": str(path)}


@click.command("inspect", params=[json_option()])
@click.argument("run", type=FolderPath())
def _inspect(run: Path, as_json: bool) -> None:
    """Show the state, scenario and result of RUN, a run's folder."""
    try:
        _inspect_run(run, as_json)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        from gflow.text import one_line

        raise InputError(
            f"damaged run at {run}: unexpected contents ({one_line(error)}); run it again"
        ) from error


def _inspect_run(run: Path, as_json: bool) -> None:
    from gflow.runs import reading
    from gflow.runs.job import read_job
    from gflow.text import plain

    job, manifest, state = read_job(run), reading.read_manifest(run), reading.state(run)
    facts: dict[str, Any] = {
        "state": state,
        "scenario": job.name,
        "data": job.scenario.data,
        "gflow": manifest.get("gflow"),
        "written": manifest.get("written"),
        "command": manifest.get("command"),
        "folder": str(run),
    }
    if state == "failed":
        facts["reason"] = manifest.get("reason")
    if state in ("running", "interrupted"):
        facts["progress"] = reading.last_metrics(run)
    summary = reading.load_run(run).summary if _has_result(run, state) else None
    if as_json:
        click.echo(to_json(plain({**facts, "summary": summary})))
        return
    _print_facts(printable_values(facts))
    if state == "interrupted":
        click.echo(f"resume    gflow resume {run}")
    if summary is not None:
        figures = tuple(f.stem for f in (run / "figures").glob("*.png"))
        titled = {"scenario": job.scenario.name, "data": job.scenario.data, **summary}
        try:
            _print(titled, run, figures)
        except InputError as error:
            raise InputError(f"damaged run at {run}: summary.json: {error}") from None


def _has_result(run: Path, state: str) -> bool:
    """Return whether a run is done, or failed with the part that its solver reached."""
    return state == "done" or (state == "failed" and (run / "summary.json").is_file())


def _print_facts(facts: dict[str, Any]) -> None:
    progress = facts.pop("progress", None)
    if progress:
        keys = ("stage", "t", "t_end", "loss")
        facts["progress"] = ", ".join(f"{key} {progress.get(key)}" for key in keys)
    command = facts["command"]
    facts["command"] = " ".join(map(str, command)) if isinstance(command, list) else None
    for name, value in facts.items():
        click.echo(f"{name:<10}{'-' if value in (None, '') else value}")


COMMANDS = (_resume, _runs, _inspect)
