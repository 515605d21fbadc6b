"""The command line: every scenario is a command whose options are its model's fields.

Results go to standard output, progress and errors to standard error. Exit status: 0
good, 2 bad input, 3 the solver stopped early, 4 a certificate does not hold, 5 descent
diverged, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import difflib
import io
import json
import re
import signal
import sys
import threading
import tomllib
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import click

from gflow import __version__
from gflow.errors import GflowError, InputError, IntegrationError, printable

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from gflow.results import Outcome
    from gflow.scenario import Scenario

_STOPPED, _UNCERTIFIED, _DIVERGED, _INTERRUPTED, _TERMINATED = 3, 4, 5, 130, 143


# -- options out of a model's fields -----------------------------------------------------


def _options(model: type[Scenario], values: Mapping[str, Any]) -> list[click.Parameter]:
    """One click option a field; the scenario's own value is shown as the default."""
    found: list[click.Parameter] = []
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("cli") is False:
            continue
        found.append(_option(name, info, values.get(name, info.default)))
    return found


def _option(name: str, info: FieldInfo, value: Any) -> click.Option:
    flag = f"--{name.replace('_', '-')}"
    kind, many = _kind(info.annotation)
    shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
    # The default stays with the model: what is not given on the command line is left out.
    settings: dict[str, Any] = {"default": None, "help": info.description or ""}
    if shown is not None:
        settings["help"] += f"  [default: {shown}]"
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], **settings)
    if many:
        settings |= {"type": _List(kind), "metavar": f"{_METAVARS[kind]},..."}
    elif typing.get_origin(kind) is Literal:
        settings["type"] = click.Choice(typing.get_args(kind))
    else:
        settings |= {"type": kind, "metavar": _METAVARS[kind]}
    return click.Option([flag], **settings)


_METAVARS: dict[Any, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT"}


class _List(click.ParamType):
    """Values separated by commas."""

    name = "list"

    def __init__(self, kind: type):
        self._kind = click.types.convert_type(kind)

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(self._kind.convert(part.strip(), param, ctx) for part in value.split(","))


def _kind(annotation: Any) -> tuple[Any, bool]:
    """(type, whether many) of a field: optional and bounded types are looked through."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _kind(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return _kind(next(a for a in typing.get_args(annotation) if a is not type(None)))
    if origin is tuple:
        return _kind(typing.get_args(annotation)[0])[0], True
    return annotation, False


# -- commands --------------------------------------------------------------------------


class _Commands(click.Group):
    """The fixed commands and one for every scenario, made when first asked for."""

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
        from gflow.scenario import unknown

        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise InputError(unknown("command", args[0], self.list_commands(ctx)))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from gflow.scenario import scenario_names, scenario_text

        fixed = [(n, self.commands[n].get_short_help_str(90)) for n in super().list_commands(ctx)]
        titles = [(n, tomllib.loads(scenario_text(n)).get("title", "")) for n in scenario_names()]
        for heading, rows in (("Scenarios", titles), ("Commands", fixed)):
            with formatter.section(heading):
                formatter.write_dl(rows)


@click.group(cls=_Commands, context_settings={"auto_envvar_prefix": "GFLOW"})
@click.version_option(__version__, prog_name="gflow")
def cli() -> None:
    """Gradient flow beside gradient descent: t = k * step_size.

    Every scenario is a command and runs on real data by default; `gflow SCENARIO --help`
    lists its options. A run's folder (figures, result.nc, summary.json) is printed at the
    end. GFLOW_<COMMAND>_<OPTION> variables give defaults.
    """


def _output_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--output"],
            type=click.Path(path_type=Path),
            help="this run's own folder, new or empty  [default: outputs/SCENARIO/TIME-HASH]",
        ),
        click.Option(["--json"], is_flag=True, help="print the summary as JSON"),
    ]


def _study_options() -> list[click.Parameter]:
    text = "measure the gap to the modified flow too, which descent follows to order 2"
    return [click.Option(["--modified"], is_flag=True, help=text)]


def _scenario_command(source: str, *, study: bool = False) -> click.Command:
    """The command of a scenario, or of its step-size study."""
    from gflow.scenario import read_scenario, setting_model

    keys = read_scenario(source)
    model = setting_model(keys.get("setting"), source)

    def run(output: Path | None, **changes: Any) -> None:
        as_json, modified = changes.pop("json"), changes.pop("modified", False)
        given = {k: v for k, v in changes.items() if v is not None}
        _execute(source, given, output, as_json, study=study, modified=modified)

    summary = str(keys.get("title", "")) or f"run the scenario {source}"
    start = "Step-size study: " if study else ""
    return click.Command(
        Path(source).stem,
        callback=run,
        params=[*_options(model, keys), *(_study_options() if study else []), *_output_options()],
        help=f"{start}{summary}.\n\n{' '.join((model.__doc__ or '').split())}",
        short_help=summary,
    )


_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _delegate(ctx: click.Context, source: str, *, study: bool) -> None:
    """Hand the remaining arguments to the command made for a scenario."""
    command = _scenario_command(source, study=study)
    own: dict[str, Any] = {"help_option_names": ["--help"]}  # the parent passes it on
    # The same variables give defaults however the scenario is run.
    own["auto_envvar_prefix"] = "GFLOW_" + re.sub(r"\W", "_", Path(source).stem).upper()
    with command.make_context(source, list(ctx.args), parent=ctx, **own) as inner:
        command.invoke(inner)


@cli.command("run", context_settings=_PASS_ON, short_help="Run a scenario file of your own.")
@click.argument("file", required=False)
@click.pass_context
def _run(ctx: click.Context, file: str | None) -> None:
    """Run a scenario: FILE.toml or a name; its options follow (see FILE --help)."""
    _needs(ctx, file, "run FILE.toml [OPTIONS]")
    _delegate(ctx, str(file), study=False)


@cli.command(
    "converge",
    context_settings=_PASS_ON,
    short_help="Step-size study of a scenario: the order of the gap, with its figure.",
)
@click.argument("scenario", required=False)
@click.pass_context
def _converge(ctx: click.Context, scenario: str | None) -> None:
    """Fit how the gap of descent to the flow shrinks with --step-sizes."""
    _needs(ctx, scenario, "converge SCENARIO [OPTIONS]")
    _delegate(ctx, str(scenario), study=True)


def _needs(ctx: click.Context, argument: str | None, usage: str) -> None:
    if argument in ("--help", "-h"):
        click.echo(f"Usage: gflow {usage}\n\n{ctx.command.help}")
        ctx.exit()
    if argument is None:
        raise InputError(f"which scenario? Use gflow {usage}; `gflow list` names them")


@cli.command("list")
def _list() -> None:
    """List the scenarios that come with gflow."""
    from gflow.scenario import scenario_names, scenario_text

    names = scenario_names()
    width = max(map(len, names))
    for name in names:
        click.echo(f"{name:<{width}}  {tomllib.loads(scenario_text(name)).get('title', '')}")


@cli.command("show")
@click.argument("scenario")
def _show(scenario: str) -> None:
    """Print a scenario as resolved, ready to be saved as a file of your own."""
    from gflow.scenario import load_scenario

    click.echo(_toml(load_scenario(scenario, code=True)), nl=False)


def _toml(scenario: Scenario) -> str:
    import tomli_w

    return tomli_w.dumps(scenario.resolved())


# -- doing the work --------------------------------------------------------------------


def _execute(
    source: str,
    changes: dict[str, Any],
    output: Path | None,
    as_json: bool,
    *,
    study: bool,
    modified: bool,
) -> None:
    from gflow.scenario import load_scenario

    scenario = load_scenario(source, changes)
    scenario.torch_options()  # a device that does not exist is said before anything is made
    from gflow import store

    resolved = scenario.resolved()
    kind = f"{scenario.name}-converge" if study else scenario.name
    folder = store.RunFolder(output or store.default_folder(kind, resolved))
    try:
        outcome = _work(scenario, study, modified)
        drawn = _save(folder, scenario, outcome, "done")
    except IntegrationError as error:
        _save_stopped(folder, scenario, error)
        raise
    except BaseException:
        folder.discard()
        raise
    summary = {"scenario": scenario.name, "data": scenario.data, **outcome.summary}
    summary["folder"] = str(folder.path)
    if as_json:
        click.echo(json.dumps(store.plain(summary), ensure_ascii=False))
    else:
        from gflow.table import print_table

        print_table(summary)
        click.echo(f"folder    {folder.path}")
        click.echo(f"figures   {folder.path / 'figures'}: {', '.join(drawn)}")
    status = _status(summary)
    if status:
        raise click.exceptions.Exit(status)


def _work(scenario: Scenario, study: bool, modified: bool) -> Outcome:
    import torch

    from gflow.progress import Bar

    torch.set_num_threads(scenario.threads)

    with Bar() as bar:
        if not study:
            return scenario.run(bar.stage)
        from gflow.results import step_size_outcome
        from gflow.studies import step_size_study
        from gflow.studies.flow_and_descent import default_step_sizes

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
            modified=modified,
            method=scenario.method,
            rtol=scenario.rtol,
            atol=scenario.atol,
            points=scenario.points,
            spacing=scenario.time,
            max_evals=scenario.max_evals,
            progress=bar.stage("step-size study", scenario.t_end),
        )
        return step_size_outcome(result)


def _save(folder: Any, scenario: Scenario, outcome: Outcome, state: str) -> list[str]:
    """Write a run's files; returns the names of its figures."""
    from gflow import plots, store

    title = f"{scenario.name} on {scenario.data}"
    drawn = plots.figures(outcome.dataset, title)
    outcome.dataset.attrs |= {
        "scenario": scenario.name,
        "title": scenario.title,
        "data": scenario.data,
    }
    folder.write_text("scenario.toml", _toml(scenario))
    folder.write_dataset("result.nc", outcome.dataset)
    folder.write_json("summary.json", outcome.summary)
    for name, figure in drawn.items():
        folder.write_figure(name, figure)
    folder.write_json("manifest.json", store.manifest(state, scenario.resolved()))
    return list(drawn)


def _save_stopped(folder: Any, scenario: Scenario, error: IntegrationError) -> None:
    """Keep what a solver reached before it stopped."""
    from gflow.results import Outcome, certificate_summary, cost_summary, path_dataset

    path = error.trajectory
    summary = {
        "stopped": error.reason,
        "t": error.t,
        "certificate": certificate_summary(path),
        "cost": cost_summary(path),
    }
    _save(folder, scenario, Outcome(path_dataset(path), summary), "failed")
    click.echo(f"gflow: what was reached is in {folder.path}", err=True)


def _status(summary: Mapping[str, Any]) -> int:
    certificates = [summary["certificate"], summary.get("parameter_certificate", {"holds": True})]
    if not all(c["holds"] for c in certificates):
        return _UNCERTIFIED
    rows = [row for key in ("descent", "widths", "networks") for row in summary.get(key, [])]
    if any(row["diverged_at"] is not None for row in rows):
        return _DIVERGED
    return 0


# -- the one place where errors become exit statuses -----------------------------------


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``gflow``."""
    warnings.showwarning = _warn
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name need not be text
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        status = cli.main(args=arguments, prog_name="gflow", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        status = 2
    except click.exceptions.NoSuchOption as error:
        close = difflib.get_close_matches(error.option_name, error.possibilities or [], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        status = _fail(f"there is no option {error.option_name}{hint}", 2)
    except click.ClickException as error:
        status = _fail(error.format_message(), 2)
    except IntegrationError as error:
        status = _fail(str(error), _STOPPED)
    except GflowError as error:
        status = _fail(str(error), 2)
    except (KeyboardInterrupt, click.Abort):
        status = _fail("interrupted", _INTERRUPTED)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        status = _fail("there is not enough memory for so large a problem; make it smaller", 2)
    except BrokenPipeError:
        sys.stderr.close()
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(_TERMINATED)


def _out_of_memory(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or "allocate" in text or "out of memory" in text


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Say a warning in one line, without the place in the source."""
    click.echo("gflow: warning: " + printable(str(message)), err=True)


def _fail(message: str, status: int) -> int:
    click.echo("gflow: " + printable(message), err=True)
    return status
