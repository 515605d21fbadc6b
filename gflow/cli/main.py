"""The command line: every scenario is a command whose options are its model's fields.

Results go to standard output, progress and errors to standard error. Exit status: 0
good, 2 bad input, 3 the solver stopped early, 4 a certificate does not hold, 5 descent
diverged, 6 runs of a sweep failed, 7 the output cannot be written; 130 interrupted by Ctrl-C,
and 143 by another signal or by --max-walltime: `gflow resume` resumes such a run or sweep.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gflow._version import __version__
from gflow.cli import figures as cli_figures
from gflow.cli import reports as cli_reports
from gflow.cli import runs as cli_runs
from gflow.cli import sweeps as cli_sweep
from gflow.cli.completion import COMMANDS as COMPLETION
from gflow.cli.completion import complete_scenario
from gflow.cli.configuration import Defaults, read_defaults, require_options
from gflow.cli.options import json_option, model_options, output_options, run_option_flags
from gflow.cli.process import (
    OWN_PROCESS,
    discard_broken_output,
    loading,
    process_restored,
    silence_follower,
)
from gflow.errors import GflowError, InputError, Interrupted, OutputError
from gflow.text import brief, printable

_UNWRITABLE, _INTERRUPTED, _TERMINATED = 7, 130, 143


# -- commands --------------------------------------------------------------------------


class _Commands(click.Group):
    """The fixed commands, and one for every scenario, made on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from gflow.scenario import scenario_names

        return [*super().list_commands(ctx), *scenario_names()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        from gflow.scenario import scenario_names

        fixed = super().get_command(ctx, name)
        if fixed is not None or name not in scenario_names():
            return fixed
        return _scenario_command(name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from gflow.text import unknown

        if args and args[0].endswith(".toml"):  # gflow FILE.toml is gflow run FILE.toml
            args = ["run", *args]
        named = args and not args[0].startswith("-") and not ctx.resilient_parsing
        if named and self.get_command(ctx, args[0]) is None:
            raise InputError(unknown("command", args[0], self.list_commands(ctx)))
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            require_options(ctx, name, command)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from gflow.scenario import scenario_names, scenario_text

        fixed = [(n, self.commands[n].get_short_help_str(90)) for n in super().list_commands(ctx)]
        titles = [(n, tomllib.loads(scenario_text(n)).get("title", "")) for n in scenario_names()]
        for heading, rows in (("Scenarios", titles), ("Commands", fixed)):
            with formatter.section(heading):
                formatter.write_dl(rows)


_HELP = ["-h", "--help"]


@click.group(
    cls=_Commands, context_settings={"auto_envvar_prefix": "GFLOW", "help_option_names": _HELP}
)
@click.version_option(__version__, prog_name="gflow")
def cli() -> None:
    """Simulate gradient flow, and gradient descent on the same time axis t = k * step_size.

    Every scenario is a command and runs on real data by default; `gflow SCENARIO --help`
    lists its options. A run prints its folder (figures, result.nc, summary.json) at the end.
    `gflow FILE.toml` runs a scenario of your own.
    Environment variables GFLOW_<COMMAND>_<OPTION> and ~/.config/gflow/config.toml set defaults.
    """


def _study_options() -> list[click.Parameter]:
    text = "also measure the gap to the modified flow, which descent follows to order 2"
    return [click.Option(["--modified"], is_flag=True, help=text)]


def _scenario_command(source: str, kind: str = "") -> click.Command:
    """Make the command of a scenario, or of another kind of job of it."""
    from gflow.scenario import model_of, read_scenario

    keys = read_scenario(source)
    model = model_of(keys, source)

    def run(
        output: Path | None,
        as_json: bool,
        quiet: bool,
        modified: bool = False,
        **changes: Any,
    ) -> None:
        with loading():
            from gflow.runs import Job
            from gflow.runs import run as start
            from gflow.scenario import load_scenario

        limits = {option.name: changes.pop(str(option.name)) for option in run_option_flags()}
        options = {k: v for k, v in changes.items() if v is not None}
        scenario = load_scenario(source, options)
        job = Job(scenario, kind == "converge", modified, kind == "laws")
        make_options = cli_runs.run_options(**limits)
        execute = lambda stages: start(job, output, make_options(stages))  # noqa: E731
        cli_runs.finish(execute, job, as_json, quiet)

    summary = brief(keys.get("title", ""), str, 200) or f"run the scenario {printable(source)}"
    text = f"{_KINDS[kind]}: {summary}" if kind else summary[0].upper() + summary[1:]
    return click.Command(
        printable(Path(source).stem),
        callback=run,
        params=[
            *model_options(model, keys),
            *(_study_options() if kind == "converge" else []),
            *output_options(),
        ],
        help=f"{text}.\n\n{' '.join((model.__doc__ or '').split())}",
        short_help=summary,
    )


#: Jobs of a scenario beside running it.
_KINDS = {"converge": "Step-size study", "laws": "Conservation laws"}

_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _delegate(ctx: click.Context, source: str, kind: str = "") -> None:
    """Pass the remaining arguments to the command of a scenario."""
    command, stem, root = _scenario_command(source, kind), Path(source).stem, ctx.parent
    settings: dict[str, Any] = {"help_option_names": _HELP}  # the parent passes --help on
    # The same variables and the same table set defaults however the scenario is run.
    settings["auto_envvar_prefix"] = "GFLOW_" + re.sub(r"\W", "_", stem).upper()
    if root is not None and isinstance(root.default_map, Defaults):
        require_options(root, stem, command)
        settings["default_map"] = root.default_map.get(stem)
    name = f"{ctx.info_name} {printable(source)}"
    with command.make_context(name, list(ctx.args), parent=root, **settings) as inner:
        command.invoke(inner)


@cli.command("run", context_settings=_PASS_ON, short_help="Run your own scenario file.")
@click.argument("file", required=False, shell_complete=complete_scenario)
@click.pass_context
def _run(ctx: click.Context, file: str | None) -> None:
    """Run the scenario in FILE.toml, or one by name; gflow run FILE --help lists its options."""
    _require_argument(ctx, file, "run FILE.toml [OPTIONS]")
    _delegate(ctx, str(file))


@cli.command(
    "converge",
    context_settings=_PASS_ON,
    short_help="Measure the order of the gap in the step size, with a figure.",
)
@click.argument("scenario", required=False, shell_complete=complete_scenario)
@click.pass_context
def _converge(ctx: click.Context, scenario: str | None) -> None:
    """Fit the order at which the gap of descent to the flow shrinks with --step-sizes."""
    _require_argument(ctx, scenario, "converge SCENARIO [OPTIONS]")
    _delegate(ctx, str(scenario), "converge")


@cli.command(
    "laws",
    context_settings=_PASS_ON,
    short_help="List conservation laws, count them, and measure their drift.",
)
@click.argument("scenario", required=False, shell_complete=complete_scenario)
@click.pass_context
def _laws(ctx: click.Context, scenario: str | None) -> None:
    """Show what the flow of SCENARIO conserves, and how far that drifts along flow and descent.

    The order of the drift in --step-sizes is fitted. Laws of networks of at most 400 parameters are
    counted, which shows whether all are found.
    """
    _require_argument(ctx, scenario, "laws SCENARIO [OPTIONS]")
    _delegate(ctx, str(scenario), "laws")


def _require_argument(ctx: click.Context, argument: str | None, usage: str) -> None:
    if argument in ("--help", "-h"):
        click.echo(f"Usage: gflow {usage}\n\n{ctx.command.help}")
        ctx.exit()
    if argument is None:
        raise InputError(f"a scenario is required: gflow {usage}; `gflow list` lists them")


@cli.command("list", params=[json_option()])
def _list(as_json: bool) -> None:
    """List the scenarios that come with gflow."""
    from gflow.scenario import scenario_names, scenario_text

    tables = {name: tomllib.loads(scenario_text(name)) for name in scenario_names()}
    if as_json:
        keys = ("title", "setting", "data")
        rows = [{"name": name, **{k: t.get(k) for k in keys}} for name, t in tables.items()]
        click.echo(cli_runs.to_json(rows))
        return
    width = max(map(len, tables))
    for name, table in tables.items():
        click.echo(f"{name:<{width}}  {table.get('title', '')}")


@cli.command("show")
@click.argument("scenario", shell_complete=complete_scenario)
def _show(scenario: str) -> None:
    """Print SCENARIO with all its values as TOML, ready to be saved and edited."""
    from gflow.scenario import load_scenario

    click.echo(load_scenario(scenario, code=True).toml(), nl=False)


_GROUPS = (cli_runs, cli_figures, cli_sweep, cli_reports)
for _command in (*(c for module in _GROUPS for c in module.COMMANDS), *COMPLETION):
    cli.add_command(_command)


# -- the one place where errors become exit statuses -----------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status: the entry point of ``gflow``.

    The process is left as it was found: signal handlers, warnings and the error handling of the
    standard streams are restored.
    """
    with process_restored():
        status = _run_command(arguments)
    sys.exit(status)


def _run_command(arguments: Sequence[str] | None) -> int:
    """Run one command; return its exit status."""
    is_follower = False
    owner = OWN_PROCESS if arguments is None else None
    try:
        is_follower = silence_follower()
        defaults = read_defaults()
        status = cli.main(
            arguments, "gflow", standalone_mode=False, default_map=defaults, obj=owner
        )
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = 2
    except click.exceptions.NoSuchOption as error:
        status = _fail(f"there is no option {error.option_name}{_option_hint(error)}", 2)
    except click.ClickException as error:
        status = _fail(error.format_message(), 2)
    except GflowError as error:
        status = _fail(str(error), _error_status(error))
    except Interrupted as stop:
        interrupted = _INTERRUPTED if stop.why == "SIGINT" else _TERMINATED
        status = _fail(cli_runs.interruption_message(stop), interrupted)
    except (KeyboardInterrupt, click.Abort):
        status = _fail("interrupted", _INTERRUPTED)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        status = _fail("there is not enough memory for this problem; make it smaller", 2)
    except BrokenPipeError:
        discard_broken_output()
        status = 1
    # torchrun stops all ranks when one fails: rank 0 is to report the reason first.
    return status if isinstance(status, int) and not is_follower else 0


def _option_hint(error: click.NoSuchOption) -> str:
    """Return how to mend an unknown option, or nothing."""
    if error.option_name == "--set":
        return "; give one value as --KEY VALUE; for several, use gflow sweep"
    close = difflib.get_close_matches(error.option_name, error.possibilities or [], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _error_status(error: GflowError) -> int:
    if isinstance(error, InputError):
        return 2
    if isinstance(error, OutputError):
        return _UNWRITABLE
    from gflow.trajectory import IntegrationError  # loads torch, which bad input does not need

    return cli_runs.STATUSES["stopped"] if isinstance(error, IntegrationError) else 2


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or "allocate" in text or "out of memory" in text


def _fail(message: str, status: int) -> int:
    click.echo("gflow: " + printable(message), err=True)
    return status
