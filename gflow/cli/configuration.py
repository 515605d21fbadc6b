"""The user's configuration file: defaults of options in TOML.

``$GFLOW_CONFIG``, or ``gflow/config.toml`` in ``$XDG_CONFIG_HOME`` (``~/.config``)::

    pdf = true                 # for every run
    checkpoint-every = "5m"

    [network]                  # for one command: a scenario, or a file by its name without .toml
    threads = 4

Options on the command line win, then environment variables, then this file, then the scenario.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gflow.errors import InputError
from gflow.text import printable, unknown

#: Options that the file may set for every command that has them.
COMMON = (
    "as_json",
    "checkpoint_every",
    "device",
    "dtype",
    "log",
    "max_walltime",
    "no_figures",
    "pdf",
    "quiet",
    "threads",
)
_MAX_BYTES = 100_000


class Defaults(dict[str, Any]):
    """The defaults of the options of each command, by its name; click takes them by ``get``.

    Parameters
    ----------
    common : mapping
        Defaults of every command.
    tables : mapping of str to mapping
        Those of single commands.
    source : str
        The file.

    Examples
    --------
    >>> defaults = Defaults({"pdf": True}, {"kernel": {"depth": 2}}, "config.toml")
    >>> defaults.get("kernel"), defaults.get("network")
    ({'pdf': True, 'depth': 2}, {'pdf': True})
    """

    def __init__(
        self, common: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], source: str
    ):
        super().__init__(tables)
        self.common, self.source = dict(common), source

    def get(self, command: str, default: Any = None) -> Any:
        """Return the defaults of a command."""
        return {**self.common, **self.table(command)}

    def table(self, command: str) -> dict[str, Any]:
        """Return what the file says of one command alone."""
        return dict(super().get(command, {}))


def require_options(ctx: click.Context, name: str, command: click.Command) -> None:
    """Raise InputError if the user's file sets an option that a command has not.

    Parameters
    ----------
    ctx : click.Context
        That of the group, whose defaults are those of the file.
    name : str
        The command's name, which is that of its table.
    command : click.Command

    Raises
    ------
    InputError
        If the table has another key; the nearest option is named.

    Examples
    --------
    >>> command = click.Command("kernel", params=[click.Option(["--depth"])])
    >>> defaults = Defaults({}, {"kernel": {"dpth": 2}}, "a.toml")
    >>> require_options(click.Context(command, default_map=defaults), "kernel", command)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: a.toml: [kernel]: there is no option 'dpth'; did you mean 'depth'?
    """
    defaults = ctx.default_map
    if not isinstance(defaults, Defaults):
        return
    options = [str(parameter.name) for parameter in command.params]
    for key in defaults.table(name):
        if key not in options:
            hint = unknown("option", _option(key), map(_option, options))
            raise InputError(f"{defaults.source}: [{printable(name)}]: {hint}")


def _option(name: str) -> str:
    """Return the name of an option as the user writes it."""
    return "json" if name == "as_json" else name.replace("_", "-")


def config_file() -> Path | None:
    """Return the user's configuration file, or None where there is none.

    An empty ``$GFLOW_CONFIG`` is none.
    """
    named = os.environ.get("GFLOW_CONFIG")
    if named is not None:
        return Path(os.path.expanduser(named)) if named else None
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    file = Path(home) / "gflow" / "config.toml"
    return file if file.is_file() else None


def read_defaults() -> Defaults | None:
    """Read the user's configuration file.

    Returns
    -------
    Defaults or None
        None where there is no file.

    Raises
    ------
    InputError
        If the file cannot be read, or a key in it is unknown.

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, GFLOW_CONFIG=""):
    ...     read_defaults() is None
    True
    """
    file = config_file()
    if file is None:
        return None
    from gflow.io.plain import read_text

    try:
        values = tomllib.loads(read_text(file, _MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or printable(str(error))
        raise InputError(f"cannot read the configuration file {file}: {why}; correct it") from None
    tables = {name: _plain(v) for name, v in values.items() if isinstance(v, dict)}
    common = _plain({key: v for key, v in values.items() if not isinstance(v, dict)})
    for key in common:
        if key not in COMMON:
            hint = unknown("option for all commands", _option(key), map(_option, COMMON))
            raise InputError(f"{file}: {hint}")
    for name in tables:
        if name in ("sweep", "runs") or not name:
            raise InputError(f"{file}: [{name}] takes no defaults; a sweep has a file of its own")
    return Defaults(common, tables, str(file))


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with the names and values that click's options have."""
    lists = {k.replace("-", "_"): tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    if "json" in lists:
        lists["as_json"] = lists.pop("json")
    return lists
