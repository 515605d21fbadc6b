"""Command-line options: made from the fields of a scenario's model, and those of all runs."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem

from gflow.text import brief, nearest

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from gflow.settings.base import Scenario


def model_options(model: type[Scenario], values: Mapping[str, Any]) -> list[click.Parameter]:
    """Make one click option for each field; the scenario's value is shown as the default.

    Parameters
    ----------
    model : type
        The model of the scenario's setting.
    values : mapping
        The keys of the scenario.

    Returns
    -------
    list of click.Parameter

    Examples
    --------
    >>> from gflow.scenario import read_scenario, setting_model
    >>> options = model_options(setting_model("kernel"), read_scenario("kernel"))
    >>> "t_end" in {option.name for option in options}
    True
    """
    options: list[click.Parameter] = []
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("cli") is False:
            continue
        options.append(_option(name, info, values.get(name, info.default)))
    return options


def _option(name: str, info: FieldInfo, value: Any) -> click.Option:
    from gflow.scenario import field_kind, takes_several

    flag = f"--{name.replace('_', '-')}"
    kind, is_list = field_kind(info.annotation)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    shown = _listed(value) if isinstance(value, list | tuple) else value
    shown = extra.get("without") if shown is None else shown
    # The model has the default: an option that is not given is left out.
    settings: dict[str, Any] = {"default": None, "help": info.description or ""}
    if shown is not None:
        text = ("yes" if shown else "no") if kind is bool else brief(shown, str)
        settings["help"] += f"  [default: {text}]"
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], **settings)
    if takes_several(info.annotation):
        settings |= {"type": _List(kind, or_one=True), "metavar": f"{_METAVARS[kind]}[,...]"}
    elif is_list:
        settings |= {"type": _List(kind), "metavar": f"{_METAVARS[kind]},..."}
    elif typing.get_origin(kind) is Literal:
        settings["type"] = _Choice(typing.get_args(kind))
    else:
        settings |= {"type": kind, "metavar": _METAVARS[kind]}
    return click.Option([flag], **settings)


def _listed(values: Sequence[Any]) -> str:
    return ",".join(brief(value, str) for value in values)


_METAVARS: dict[Any, str] = {int: "INTEGER", float: "NUMBER", str: "TEXT"}


class _Choice(click.Choice):
    """One of several names; the nearest is named where another is given."""

    def get_invalid_choice_message(self, value: Any, ctx: Any) -> str:
        message = super().get_invalid_choice_message(value, ctx)
        close = nearest(str(value), map(str, self.choices))
        return message if close is None else f"{message.rstrip('.')}; did you mean '{close}'?"


class _List(click.ParamType):
    """Values separated by commas; with ``or_one`` a single value is not a list."""

    name = "list"

    def __init__(self, kind: type, or_one: bool = False):
        self._kind, self._or_one = click.types.convert_type(kind), or_one

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):  # of a file
            return tuple(value) if isinstance(value, list) else value
        try:
            values = tuple(self._kind.convert(p.strip(), param, ctx) for p in value.split(","))
            return values[0] if self._or_one and len(values) == 1 else values
        except click.BadParameter as error:  # only numbers can be refused
            self.fail(f"{error.message.rstrip('.')}; separate numbers by commas", param, ctx)


class FolderPath(click.ParamType):
    """A path, with ``~`` replaced by the home folder, as in ``--output=~/runs``."""

    name = "path"

    def shell_complete(self, ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
        """Let the shell complete the name of a folder."""
        return [CompletionItem(incomplete, type="dir")]

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return Path(os.path.expanduser(value))


class Duration(click.ParamType):
    """Seconds: a number, a number with s, m, h or d, or [[D-]H:]M:S as SLURM writes it."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, float | int):
            return float(value)
        number = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([smhd]?)", value)
        clock = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", value)
        if number is not None:
            seconds = float(number[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[number[2]]
        elif clock is not None:
            days, hours, minutes, remainder = (int(part or 0) for part in clock.groups())
            seconds = float(((days * 24 + hours) * 60 + minutes) * 60 + remainder)
        else:
            self.fail(f"must be a time such as 90, 15m, 2h or 1:30:00, got {value!r}", param, ctx)
        if not 0 < seconds < 1e9:
            self.fail(f"must be a positive time, got {value!r}", param, ctx)
        return seconds


def output_options() -> list[click.Parameter]:
    """Make the options of a run: its folder, its limits, and what is printed."""
    return [
        click.Option(
            ["--output", "-o"],
            type=FolderPath(),
            help="folder of the run, new or empty  [default: outputs/SCENARIO/TIME-HASH]",
        ),
        *run_option_flags(),
        quiet_option(),
        json_option(),
    ]


def quiet_option() -> click.Option:
    """Make the option ``--quiet``."""
    text = "print the folder alone, and no progress"
    return click.Option(["--quiet", "-q"], is_flag=True, help=text)


def json_option() -> click.Option:
    """Make the option ``--json``."""
    return click.Option(["--json", "as_json"], is_flag=True, help="print the summary as JSON")


def run_option_flags() -> list[click.Parameter]:
    """Make the options that limit a run, space its checkpoints and choose its files."""
    return [
        click.Option(
            ["--max-walltime"],
            type=Duration(),
            metavar="TIME",
            help="time after which the run stops with a checkpoint: 90, 15m, 2h, 1:30:00",
        ),
        click.Option(
            ["--checkpoint-every"],
            type=Duration(),
            default=60.0,
            metavar="TIME",
            help="time between two checkpoints  [default: 1m]",
        ),
        click.Option(["--pdf"], is_flag=True, help="also write the figures as PDF"),
        click.Option(["--no-figures"], is_flag=True, help="draw no figures, which saves seconds"),
        click.Option(
            ["--log"],
            multiple=True,
            metavar="NAME",
            help="also log to tensorboard, wandb, mlflow or trackio, each an extra of gflow",
        ),
    ]


def sweep_options() -> list[click.Parameter]:
    """Make the options of a sweep: what varies, where it runs, and where the results go."""
    time, count, name = {"type": Duration(), "metavar": "TIME"}, {"metavar": "COUNT"}, "NAME"
    flag = {"is_flag": True}
    spec = "a value, or several: 128,512,2048, lin:0:1:5, log:1e-3:1:7 or, for integers, 2:10:2"
    folder = "folder of the sweep; an existing sweep is resumed"
    workers = "number of runs at a time"
    wait = "time without any worker after which runs fail; longer than the queue"
    apart = "solve each run alone, bit for bit as a single run, even where an ensemble is faster"
    table: list[tuple[str, str, dict[str, Any]]] = [
        ("--set", spec, {"multiple": True, "metavar": "KEY=SPEC"}),
        ("--zip", "vary these keys together", {"multiple": True, "metavar": "KEY,KEY"}),
        ("--seeds", "number of seeds to sweep over", {"type": int, **count}),
        ("--converge", "run step-size studies instead of the scenario", flag),
        ("--modified", "with --converge, measure the gap to the modified flow too", flag),
        (
            "--output,-o",
            f"{folder}  [default: outputs/SCENARIO-sweep/HASH]",
            {"type": FolderPath()},
        ),
        (
            "--workers",
            f"{workers}  [default: one for each core or GPU; with --slurm 4]",
            {"type": click.IntRange(1, 100_000), **count},
        ),
        (
            "--scheduler",
            "address of a running dask scheduler: tcp:// on this machine, else tls://",
            {"metavar": "ADDRESS"},
        ),
        ("--slurm", "start workers as SLURM jobs through dask-jobqueue", flag),
        ("--dry-run", "print the runs, or the script of a job, and stop", flag),
        ("--slurm-queue", "partition of a job", {"metavar": name}),
        ("--slurm-account", "account of a job", {"metavar": name}),
        ("--slurm-walltime", "time limit of a job", {"metavar": "TIME"}),
        ("--slurm-memory", "memory of a job  [default: 4GB]", {"metavar": "SIZE"}),
        (
            "--slurm-interface",
            "network interface through which jobs reach this process, such as ib0",
            {"metavar": name},
        ),
        (
            "--slurm-directive",
            "an additional #SBATCH line",
            {"multiple": True, "metavar": "TEXT"},
        ),
        ("--wait-for-workers", f"{wait}  [default: 5m; with --slurm 7d]", time),
        (
            "--checkpoint-every",
            "time between two checkpoints of a run  [default: 1m]",
            {"default": 60.0, **time},
        ),
        ("--apart", apart, flag),
        ("--json", "print the states of the runs as JSON", flag),
    ]
    return [click.Option(o.split(","), help=text, **settings) for o, text, settings in table]
