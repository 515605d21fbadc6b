"""The commands on runs: go on with one, list them, tell of one; and what a run prints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gflow.cli import sweeps as cli_sweep
from gflow.cli.options import json_option, run_option_flags
from gflow.distributed.torchrun import rank_info
from gflow.errors import InputError, Interrupted
from gflow.text import CONTROL, printable, printable_values

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.runs import Job, RunOptions, RunResult

_UNCERTIFIED, _DIVERGED = 4, 5


def care(max_walltime: float | None, checkpoint_every: float) -> Callable[[Stages], RunOptions]:
    """How a run is looked after, as the options say."""
    from gflow.runs import RunOptions

    return lambda stages: RunOptions(
        stages, checkpoint_every=checkpoint_every, max_walltime=max_walltime
    )


def finish(do: Callable[[Stages], RunResult], job: Job, as_json: bool) -> None:
    """Do a run and print what came of it; of a team of processes the first does, and the others
    do their share of its work.

    Raises
    ------
    click.exceptions.Exit
        With the status of a run whose result is not to be trusted.
    """
    if rank_info() is None:
        _finish(do, job, as_json)
        return
    import torch

    from gflow.distributed import processes

    with processes() as team:
        if team.size > 1 and not job.scenario.splits:
            raise InputError(f"{job.name} runs in one process; start it without torchrun")
        if team.rank == 0:
            _finish(do, job, as_json)
            return
        torch.set_num_threads(job.scenario.threads)
        job.scenario.share()
        team.leads()


def _finish(do: Callable[[Stages], RunResult], job: Job, as_json: bool) -> None:
    from gflow.cli.progress import Bar, counting
    from gflow.execution import using
    from gflow.text import plain
    from gflow.trajectory import IntegrationError

    try:
        with Bar() as bar, using(counter=counting):
            done = do(bar.stage)
    except IntegrationError as error:
        if error.folder is not None:
            click.echo(f"gflow: what was reached is in {error.folder}", err=True)
        raise
    scenario = job.scenario
    summary = {"scenario": scenario.name, "data": scenario.data, **done.summary}
    summary["folder"] = str(done.path)
    if as_json:
        click.echo(_json(plain(summary)))
    else:
        _print(summary, done.path, done.figures)
    status = _status(summary)
    if status:
        raise click.exceptions.Exit(status)


def _print(summary: Mapping[str, Any], path: Path, figures: tuple[str, ...]) -> None:
    from gflow.cli.table import print_table

    print_table(summary)
    rank_info = CONTROL.sub("?", str(path))
    click.echo(f"folder    {rank_info}")
    click.echo(f"figures   {rank_info}/figures: {printable(', '.join(figures))}")


def _status(summary: Mapping[str, Any]) -> int:
    certificates = [summary["certificate"], summary.get("parameter_certificate", {"holds": True})]
    if not all(c["holds"] for c in certificates):
        return _UNCERTIFIED
    rows = [row for key in ("descent", "widths", "networks") for row in summary.get(key, [])]
    if any(row["diverged_at"] is not None for row in rows):
        return _DIVERGED
    return 0


def interruption(stop: Interrupted) -> str:
    """One line on a run that was told to stop."""
    why = "its time was used up" if stop.why == "time" else stop.why
    if stop.folder is None:
        return f"interrupted ({why})"
    return f"interrupted ({why}); go on with it by: gflow resume {stop.folder}"


@click.command("resume", params=[*run_option_flags(), json_option()])
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--model", help="the run's model where it is your own: a folder alone runs no code")
def _resume(
    run: Path,
    max_walltime: float | None,
    checkpoint_every: float,
    as_json: bool,
    model: str | None,
) -> None:
    """Go on with RUN, the folder of a run or a sweep that was interrupted or killed."""
    from gflow.sweeping.folder import is_sweep

    if is_sweep(run):
        cli_sweep.resume(run, checkpoint_every, as_json, model)
        return
    from gflow.runs import resume
    from gflow.runs.job import job_to_resume

    job = job_to_resume(run, model)  # of several processes each makes the model
    cared = care(max_walltime, checkpoint_every)
    finish(lambda stages: resume(run, cared(stages), model=model), job, as_json)


@click.command("runs")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("outputs"))
@click.option("--json", "as_json", is_flag=True, help="print a list as JSON")
def _runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER, by default outputs/, and how they stand."""
    from gflow.runs.reading import find_runs

    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} to list runs of")
    rows = [_row(path) for path in find_runs(folder)]
    if as_json:
        click.echo(_json(rows))
        return
    for row in map(printable_values, rows):
        click.echo(f"{row['state']:<11} {row['written'] or '-':<19.19}  {row['folder']}")
    if not rows:
        click.echo(f"there are no runs in {folder}", err=True)


def _json(value: Any) -> str:
    """One line of JSON in which control characters, of a name perhaps, are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _row(path: Path) -> dict[str, Any]:
    from gflow.runs import reading

    try:
        written = str(reading.read_manifest(path).get("written", ""))
    except InputError:
        written = ""
    return {"state": reading.state(path), "written": written, "folder": str(path)}


@click.command("inspect", params=[json_option()])
@click.argument("run", type=click.Path(path_type=Path))
def _inspect(run: Path, as_json: bool) -> None:
    """Tell of RUN, a run's folder: how it stands, from what it was made, what came of it."""
    try:
        _tell(run, as_json)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        from gflow.text import one_line

        raise InputError(f"damaged run at {run}: it holds {one_line(error)}") from error


def _tell(run: Path, as_json: bool) -> None:
    from gflow.runs import reading
    from gflow.runs.job import read_job
    from gflow.text import plain

    job, found, state = read_job(run), reading.read_manifest(run), reading.state(run)
    facts: dict[str, Any] = {
        "state": state,
        "scenario": job.name,
        "data": job.scenario.data,
        "gflow": found.get("gflow"),
        "written": found.get("written"),
        "command": found.get("command"),
        "folder": str(run),
    }
    if state == "failed":
        facts["reason"] = found.get("reason")
    if state in ("running", "interrupted"):
        facts["progress"] = reading.last_metrics(run)
    summary = reading.load_run(run).summary if state == "done" else None
    if as_json:
        click.echo(_json(plain({**facts, "summary": summary})))
        return
    facts = printable_values(facts)
    progress = facts.pop("progress", None)
    if progress:
        keys = ("stage", "t", "t_end", "loss")
        facts["progress"] = ", ".join(f"{key} {progress.get(key)}" for key in keys)
    command = facts["command"]
    facts["command"] = " ".join(map(str, command)) if isinstance(command, list) else None
    for name, value in facts.items():
        click.echo(f"{name:<10}{'-' if value in (None, '') else value}")
    if state == "interrupted":
        click.echo(f"go on     gflow resume {run}")
    if summary is not None:
        figures = tuple(sorted(f.stem for f in (run / "figures").glob("*.png")))
        _print({"scenario": job.scenario.name, "data": job.scenario.data, **summary}, run, figures)


COMMANDS = (_resume, _runs, _inspect)
