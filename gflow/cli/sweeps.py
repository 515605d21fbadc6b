"""The commands of sweeps: `gflow sweep SCENARIO`, `gflow sweep status FOLDER`, `gflow plot`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gflow.cli.options import FolderPath, sweep_options
from gflow.distributed.torchrun import rank_info
from gflow.errors import InputError

if TYPE_CHECKING:
    from gflow.sweeping.folder import SweepStatus
    from gflow.sweeping.plan import Plan
    from gflow.sweeping.workers import WorkerConfig

_PARTIAL = 6


class _Sweeps(click.Group):
    """The command `status`, and one for every scenario, by name or file."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or _sweep_command(name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h"):
            raise InputError(f"the scenario must come first: gflow sweep SCENARIO, got {args[0]}")
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (
                        "SCENARIO",
                        "Sweep over a scenario, by its name or file; "
                        "gflow sweep SCENARIO --help lists the options.",
                    ),
                    ("status FOLDER", "Show the progress of a sweep."),
                ]
            )


@click.command(
    "sweep",
    cls=_Sweeps,
    subcommand_metavar="SCENARIO|status ...",
    short_help="Run a scenario at many points.",
)
def sweep() -> None:
    """Run a scenario at many points in parallel; an existing sweep is resumed."""


class _SweepCommand(click.Command):
    """The sweep over a scenario."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        arguments = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            _refuse_key_as_option(str(self.name), error.option_name, arguments)
            raise


def _refuse_key_as_option(source: str, option: str, arguments: list[str]) -> None:
    """Raise InputError if an unknown option is a key of the scenario: --data for --set data=..."""
    from gflow.scenario import field_kind, read_scenario, setting_model

    fields = setting_model(read_scenario(source).get("setting"), source).model_fields
    key = option.removeprefix("--").replace("-", "_")
    plural = fields.get(f"{key}s")
    if key not in fields and (plural is None or not field_kind(plural.annotation)[1]):
        return
    value = "VALUE"
    for argument, following in itertools.pairwise([*arguments, "--"]):
        name, equals, assigned = argument.partition("=")
        if name == option and (equals or not following.startswith("--")):
            value = assigned if equals else following
    raise InputError(f"a sweep has no option {option}; set it with --set {key}={value:.80}")


def _sweep_command(source: str) -> click.Command:
    def callback(**options: Any) -> None:
        _sweep(source, options)

    return _SweepCommand(
        source,
        callback=callback,
        params=sweep_options(),
        help=f"Run {source} at every point of --set, --zip and --seeds; see docs/sweeps.md.",
    )


def _sweep(source: str, options: dict[str, Any]) -> None:
    from gflow.sweeping.plan import make_plan

    sets = []
    for setting in options["set"]:
        key, equals, spec = setting.partition("=")
        if not equals:
            raise InputError(
                f"--set must read KEY=SPEC, got '{setting}'; for example --set depth=2,3"
            )
        sets.append((key.strip(), spec.strip()))
    plan = make_plan(
        source,
        sets,
        [[key.strip() for key in names.split(",")] for names in options["zip"]],
        seeds=options["seeds"],
        converge=options["converge"],
        modified=options["modified"],
        apart=options["apart"],
    )
    folder = options["output"] or plan.default_folder()
    config = _worker_config(plan, options)
    if options["dry_run"]:
        _dry_run(plan, folder, config)
        return
    _run(plan, folder, config, options["checkpoint_every"], options["json"])


def _worker_config(plan: Plan, options: dict[str, Any]) -> WorkerConfig:
    from gflow.sweeping.workers import WorkerConfig

    prefix = "slurm_"
    slurm = {k.removeprefix(prefix): v for k, v in options.items() if k.startswith(prefix) and v}
    if slurm and not options["slurm"]:
        raise InputError(f"--slurm-{next(iter(slurm))} needs --slurm; pass that too")
    if options["slurm"] and options["scheduler"]:
        raise InputError("--scheduler and --slurm exclude each other; pass one")
    return WorkerConfig(
        workers=options["workers"],
        scheduler=options["scheduler"],
        slurm=slurm if options["slurm"] else None,
        no_worker_timeout=options["wait_for_workers"],
        threads=plan.threads,
        gpus=plan.gpus,
    )


def _dry_run(plan: Plan, folder: Path, config: WorkerConfig) -> None:
    from gflow.sweeping.slurm import job_script

    if config.slurm is not None:
        click.echo(job_script(config, folder.absolute()))
        return
    for member in plan.members:
        click.echo(f"{member.id}  {_describe(member.point)}")


def _describe(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v}" for k, v in point.items()) or "the scenario unchanged"


def _run(
    plan: Plan, folder: Path, config: WorkerConfig, checkpoint_every: float, as_json: bool
) -> None:
    """Run the remaining members of a sweep, and print its status; exit with 6 if runs failed."""
    info = rank_info()
    if info is not None and info.size > 1:
        raise InputError("a sweep starts its own workers; start it without torchrun")
    from gflow.sweeping.dataset import write_sweep
    from gflow.sweeping.display import progress_display
    from gflow.sweeping.engine import run_sweep
    from gflow.sweeping.folder import status

    with progress_display() as show:
        progress = run_sweep(plan, folder, config, checkpoint_every=checkpoint_every, show=show)
    dataset = write_sweep(folder)
    _print(status(folder), as_json)
    if not as_json:
        click.echo(f"dataset   {dataset}")
    if progress.failed or progress.elsewhere:
        raise click.exceptions.Exit(_PARTIAL)


def resume_sweep(folder: Path, checkpoint_every: float, as_json: bool, model: str | None) -> None:
    """Resume the sweep in a folder, with workers on this machine.

    Parameters
    ----------
    folder : Path
    checkpoint_every : float
        Seconds between two checkpoints of a run.
    as_json : bool
        Whether to print the states of the runs as JSON.
    model : str or None
        The user's own model in the scenario, repeated by the user.

    Raises
    ------
    click.exceptions.Exit
        With status 6 if runs failed.

    Examples
    --------
    >>> resume_sweep(Path("nowhere"), 60.0, as_json=False, model=None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: cannot read the scenario file nowhere/sweep.toml: No such file ...
    """
    from gflow.sweeping.plan import make_plan
    from gflow.sweeping.workers import WorkerConfig

    sets = [] if model is None else [("model", model)]
    plan = make_plan(str(folder / "sweep.toml"), sets)
    config = WorkerConfig(threads=plan.threads, gpus=plan.gpus)
    _run(plan, folder, config, checkpoint_every, as_json)


def _print(status: SweepStatus, as_json: bool) -> None:
    if as_json:
        runs = [
            {"id": id, "state": state, "reason": status.reasons.get(id), "at": status.points[id]}
            for id, state in status.states.items()
        ]
        values = {"folder": str(status.path), "counts": status.counts, "runs": runs}
        click.echo(json.dumps(values, ensure_ascii=False))
        return
    counts = status.counts
    parts = [
        f"{counts[s]} {s}"
        for s in ("done", "running", "interrupted", "failed", "damaged", "missing")
        if counts[s]
    ]
    click.echo(f"runs      {', '.join(parts)}, of {len(status.states)}")
    for id, reason in status.reasons.items():
        click.echo(f"failed    {id} ({_describe(status.points[id])}): {reason}")
    click.echo(f"folder    {status.path}")


@sweep.command("status")
@click.argument("folder", type=FolderPath())
@click.option("--json", "as_json", is_flag=True, help="print it as JSON")
def _status(folder: Path, as_json: bool) -> None:
    """Show the progress of the sweep in FOLDER, and why runs failed."""
    from gflow.sweeping.folder import status

    _print(status(folder), as_json)


@click.command("plot", short_help="Draw a quantity of a sweep against a swept key.")
@click.argument("sweep", type=FolderPath())
@click.option("--x", required=True, metavar="KEY", help="a swept key")
@click.option(
    "--y", required=True, metavar="NAME", help="a quantity of the runs, such as final_loss"
)
@click.option("--hue", metavar="KEY", help="a swept key with a curve for each value")
def plot(sweep: Path, x: str, y: str, hue: str | None) -> None:
    """Draw Y against X from the finished runs of SWEEP, the folder of a sweep.

    Curves are medians over all other keys, bands contain the middle half of the runs.
    """
    from gflow.plots.sweeps import sweep_figure
    from gflow.sweeping.dataset import load_sweep
    from gflow.sweeping.folder import SweepFolder

    figure = sweep_figure(load_sweep(sweep), x, y, hue)
    name = f"{y}-{x}" if hue is None else f"{y}-{x}-{hue}"
    kinds = ("png", "pdf")
    SweepFolder(sweep).write_figure(name, figure, kinds)
    for kind in kinds:
        click.echo(sweep / "figures" / f"{name}.{kind}")


COMMANDS = (sweep, plot)
