"""The commands of sweeps: `gflow sweep SCENARIO`, `gflow sweep status FOLDER`, `gflow plot`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gflow.cli.options import Duration
from gflow.distributed.torchrun import rank_info
from gflow.errors import InputError

if TYPE_CHECKING:
    from gflow.sweeping.folder import SweepStatus
    from gflow.sweeping.plan import Plan
    from gflow.sweeping.workers import WorkerConfig

PARTIAL = 6


class _Sweeps(click.Group):
    """`status`, and a command for every scenario, by name or file."""

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return super().get_command(ctx, name) or _sweep_command(name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] != "--help":
            raise InputError(f"the scenario comes first: gflow sweep SCENARIO, got {args[0]}")
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (
                        "SCENARIO",
                        "Sweep over a scenario, by its name or file; see SCENARIO --help.",
                    ),
                    ("status FOLDER", "Tell how far a sweep is."),
                ]
            )


@click.command(
    "sweep",
    cls=_Sweeps,
    subcommand_metavar="SCENARIO|status ...",
    short_help="Run a scenario at many points.",
)
def sweep() -> None:
    """Run a scenario at many points, in parallel, and go on where a sweep was left."""


def _options() -> list[click.Parameter]:
    """What varies, where it runs, and where it goes."""
    texts: list[tuple[str, dict[str, Any]]] = [
        (
            "--set",
            {
                "multiple": True,
                "metavar": "KEY=SPEC",
                "help": "a value, or several to sweep "
                "over: 128,512,2048 or lin:0:1:5 or log:1e-3:1:7 or, of whole numbers, 2:10:2",
            },
        ),
        ("--zip", {"multiple": True, "metavar": "KEY,KEY", "help": "let these go together"}),
        ("--seeds", {"type": int, "metavar": "COUNT", "help": "sweep over so many seeds"}),
        ("--converge", {"is_flag": True, "help": "step-size studies instead of runs"}),
        ("--modified", {"is_flag": True, "help": "of studies: with the modified flow"}),
        (
            "--output",
            {
                "type": click.Path(path_type=Path),
                "help": "the sweep's folder; one that "
                "was left is gone on with  [default: outputs/SCENARIO-sweep/HASH]",
            },
        ),
        (
            "--workers",
            {
                "type": click.IntRange(1, 100_000),
                "metavar": "COUNT",
                "help": "so many "
                "at a time  [default: a worker for each core or GPU; with --slurm 4 jobs]",
            },
        ),
        (
            "--scheduler",
            {
                "metavar": "ADDRESS",
                "help": "of a dask scheduler that exists: tcp:// on this machine, else tls://",
            },
        ),
        ("--slurm", {"is_flag": True, "help": "workers as jobs of SLURM, by dask-jobqueue"}),
        ("--dry-run", {"is_flag": True, "help": "print the runs, or the job's script, and stop"}),
        ("--slurm-queue", {"metavar": "NAME", "help": "partition of a job"}),
        ("--slurm-account", {"metavar": "NAME", "help": "account of a job"}),
        ("--slurm-walltime", {"metavar": "TIME", "help": "time of a job"}),
        ("--slurm-memory", {"metavar": "SIZE", "help": "memory of a job  [default: 4GB]"}),
        (
            "--slurm-interface",
            {
                "metavar": "NAME",
                "help": "network interface on which jobs find this process, such as ib0",
            },
        ),
        (
            "--slurm-directive",
            {"multiple": True, "metavar": "TEXT", "help": "one more #SBATCH line"},
        ),
        (
            "--wait-for-workers",
            {
                "type": Duration(),
                "metavar": "TIME",
                "help": "time without any "
                "worker after which runs fail; longer than a queue  [default: 5m; with --slurm 7d]",
            },
        ),
        (
            "--checkpoint-every",
            {
                "type": Duration(),
                "default": 60.0,
                "metavar": "TIME",
                "help": "time between two checkpoints of a run  [default: 1m]",
            },
        ),
        (
            "--apart",
            {
                "is_flag": True,
                "help": "solve every run on its own, also those that would be faster as an "
                "ensemble: bit for bit what single runs give",
            },
        ),
        ("--json", {"is_flag": True, "help": "print what became of the runs as JSON"}),
    ]
    return [click.Option([name], **settings) for name, settings in texts]


def _sweep_command(source: str) -> click.Command:
    def callback(**given: Any) -> None:
        _sweep(source, given)

    return click.Command(
        source,
        callback=callback,
        params=_options(),
        help=f"Run {source} at every point of --set, --zip and --seeds; see docs/sweeps.md.",
    )


def _sweep(source: str, given: dict[str, Any]) -> None:
    from gflow.sweeping.plan import make_plan

    sets = []
    for one in given["set"]:
        key, equals, spec = one.partition("=")
        if not equals:
            raise InputError(f"--set must read KEY=SPEC, got '{one}'")
        sets.append((key.strip(), spec.strip()))
    plan = make_plan(
        source,
        sets,
        [[key.strip() for key in names.split(",")] for names in given["zip"]],
        seeds=given["seeds"],
        converge=given["converge"],
        modified=given["modified"],
        apart=given["apart"],
    )
    folder = given["output"] or plan.default_folder()
    where = _where(plan, given)
    if given["dry_run"]:
        _dry_run(plan, folder, where)
        return
    carry_on(plan, folder, where, given["checkpoint_every"], given["json"])


def _where(plan: Plan, given: dict[str, Any]) -> WorkerConfig:
    from gflow.sweeping.workers import WorkerConfig

    prefix = "slurm_"
    slurm = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix) and v}
    if slurm and not given["slurm"]:
        raise InputError(f"--slurm-{next(iter(slurm))} is for --slurm; say that too")
    if given["slurm"] and given["scheduler"]:
        raise InputError("--scheduler and --slurm are two places to run; say one")
    return WorkerConfig(
        workers=given["workers"],
        scheduler=given["scheduler"],
        slurm=slurm if given["slurm"] else None,
        no_worker_timeout=given["wait_for_workers"],
        threads=plan.threads,
        gpus=plan.gpus,
    )


def _dry_run(plan: Plan, folder: Path, where: WorkerConfig) -> None:
    from gflow.sweeping.slurm import job_script

    if where.slurm is not None:
        click.echo(job_script(where, folder.absolute()))
        return
    for member in plan.members:
        click.echo(f"{member.id}  {_point(member.point)}")


def _point(at: Any) -> str:
    return ", ".join(f"{k} = {v}" for k, v in at.items()) or "the scenario as it is"


def carry_on(
    plan: Plan,
    folder: Path,
    where: WorkerConfig,
    checkpoint_every: float = 60.0,
    as_json: bool = False,
) -> None:
    """Do what is left of a sweep, and print what became of it.

    Raises
    ------
    click.exceptions.Exit
        With the status of a sweep in which runs failed.
    """
    here = rank_info()
    if here is not None and here.size > 1:
        raise InputError("a sweep has workers of its own; start it without torchrun")
    from gflow.sweeping.dataset import write_sweep
    from gflow.sweeping.display import progress_display
    from gflow.sweeping.engine import run_sweep
    from gflow.sweeping.folder import status

    with progress_display() as show:
        progress = run_sweep(plan, folder, where, checkpoint_every=checkpoint_every, show=show)
    written = write_sweep(folder)
    found = status(folder)
    _print(found, as_json)
    if not as_json:
        click.echo(f"dataset   {written}")
    if progress.failed or progress.elsewhere:
        raise click.exceptions.Exit(PARTIAL)


def resume(folder: Path, checkpoint_every: float, as_json: bool, model: str | None) -> None:
    """Go on with the sweep in a folder, with workers here."""
    from gflow.sweeping.plan import make_plan
    from gflow.sweeping.workers import WorkerConfig

    sets = [] if model is None else [("model", model)]
    plan = make_plan(str(folder / "sweep.toml"), sets)
    where = WorkerConfig(threads=plan.threads, gpus=plan.gpus)
    carry_on(plan, folder, where, checkpoint_every, as_json)


def _print(found: SweepStatus, as_json: bool) -> None:
    if as_json:
        runs = [
            {"id": id, "state": state, "reason": found.reasons.get(id), "at": found.points[id]}
            for id, state in found.states.items()
        ]
        whole = {"folder": str(found.path), "counts": found.counts, "runs": runs}
        click.echo(json.dumps(whole, ensure_ascii=False))
        return
    counts = found.counts
    parts = [
        f"{counts[s]} {s}"
        for s in ("done", "running", "interrupted", "failed", "damaged", "missing")
        if counts[s]
    ]
    click.echo(f"runs      {', '.join(parts)}, of {len(found.states)}")
    for id, reason in found.reasons.items():
        click.echo(f"failed    {id} ({_point(found.points[id])}): {reason}")
    click.echo(f"folder    {found.path}")


@sweep.command("status")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="print it as JSON")
def _status(folder: Path, as_json: bool) -> None:
    """Tell how far the sweep in FOLDER is, and why runs failed."""
    from gflow.sweeping.folder import status

    _print(status(folder), as_json)


@click.command("plot", short_help="Draw a quantity of a sweep against a swept key.")
@click.argument("sweep", type=click.Path(path_type=Path))
@click.option("--x", required=True, metavar="KEY", help="a swept key")
@click.option("--y", required=True, metavar="NAME", help="a number of the runs, such as final_loss")
@click.option("--hue", metavar="KEY", help="a swept key, with a curve for each value")
def plot(sweep: Path, x: str, y: str, hue: str | None) -> None:
    """Draw Y against X from what is done of SWEEP, a sweep's folder.

    Curves are medians, bands the middle half, over all that is neither X nor HUE.
    """
    from gflow.plots.sweeps import sweep_figure
    from gflow.sweeping.dataset import load_sweep
    from gflow.sweeping.folder import SweepFolder

    figure = sweep_figure(load_sweep(sweep), x, y, hue)
    name = f"{y}-{x}" if hue is None else f"{y}-{x}-{hue}"
    SweepFolder(sweep).write_figure(name, figure)
    for kind in ("png", "pdf"):
        click.echo(sweep / "figures" / f"{name}.{kind}")


COMMANDS = (sweep, plot)
