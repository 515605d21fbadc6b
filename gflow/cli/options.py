"""Command-line options: out of a scenario model's fields, and those that runs share."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from gflow.text import brief

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from gflow.settings.base import Scenario


def model_options(model: type[Scenario], values: Mapping[str, Any]) -> list[click.Parameter]:
    """One click option a field; the scenario's own value is shown as the default."""
    found: list[click.Parameter] = []
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("cli") is False:
            continue
        found.append(_option(name, info, values.get(name, info.default)))
    return found


def _option(name: str, info: FieldInfo, value: Any) -> click.Option:
    from gflow.scenario import field_kind

    flag = f"--{name.replace('_', '-')}"
    kind, many = field_kind(info.annotation)
    shown = _listed(value) if isinstance(value, list | tuple) else value
    # The default stays with the model: what is not given on the command line is left out.
    settings: dict[str, Any] = {"default": None, "help": info.description or ""}
    if shown is not None:
        settings["help"] += f"  [default: {brief(shown, str)}]"
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}"], **settings)
    if many:
        settings |= {"type": _List(kind), "metavar": f"{_METAVARS[kind]},..."}
    elif typing.get_origin(kind) is Literal:
        settings["type"] = click.Choice(typing.get_args(kind))
    else:
        settings |= {"type": kind, "metavar": _METAVARS[kind]}
    return click.Option([flag], **settings)


def _listed(values: Sequence[Any]) -> str:
    return ",".join(brief(value, str) for value in values)


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


class Duration(click.ParamType):
    """Seconds: a number, a number with s, m, h or d, or [[D-]H:]M:S as SLURM writes it."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if isinstance(value, float | int):
            return float(value)
        plain = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([smhd]?)", value)
        clock = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", value)
        if plain is not None:
            seconds = float(plain[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[plain[2]]
        elif clock is not None:
            days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
            seconds = float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
        else:
            self.fail(f"must be a time such as 90, 15m, 2h or 1:30:00, got {value!r}", param, ctx)
        if not 0 < seconds < 1e9:
            self.fail(f"must be a positive time, got {value!r}", param, ctx)
        return seconds


def output_options() -> list[click.Parameter]:
    """Where a run goes and what is printed."""
    return [
        click.Option(
            ["--output"],
            type=click.Path(path_type=Path),
            help="this run's own folder, new or empty  [default: outputs/SCENARIO/TIME-HASH]",
        ),
        *run_option_flags(),
        json_option(),
    ]


def json_option() -> click.Option:
    """``--json``."""
    return click.Option(["--json", "as_json"], is_flag=True, help="print the summary as JSON")


def run_option_flags() -> list[click.Parameter]:
    """How a run is looked after."""
    return [
        click.Option(
            ["--max-walltime"],
            type=Duration(),
            metavar="TIME",
            help="leave a checkpoint and stop after so long: 90, 15m, 2h, 1:30:00",
        ),
        click.Option(
            ["--checkpoint-every"],
            type=Duration(),
            default=60.0,
            metavar="TIME",
            help="time between two checkpoints  [default: 1m]",
        ),
    ]
