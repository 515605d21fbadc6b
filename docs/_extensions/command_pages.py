"""The reference of the command line: one page for each command, by sphinx-click."""

from __future__ import annotations

import click

from gflow.cli.main import cli
from gflow.scenario import scenario_names


def _commands() -> dict[str, click.Command]:
    context = click.Context(cli, info_name="gflow")
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def __getattr__(name: str) -> click.Command:
    """Return a command by its name with underscores: sphinx-click imports it from here."""
    for command, value in _commands().items():
        if command.replace("-", "_") == name:
            return value
    raise AttributeError(name)


def pages() -> dict[str, str]:
    """Return the pages by file name: the index, and one for each command."""
    commands = _commands()
    scenarios = [name for name in scenario_names() if name in commands]
    others = [name for name in commands if name not in scenarios]
    title = "Command line"
    lines = [
        title,
        "=" * len(title),
        "",
        ".. code-block:: text",
        "",
        "   gflow COMMAND [OPTIONS]",
        "",
    ]
    lines += [str(cli.help).split("\n\n")[0].replace("\n", " "), ""]
    lines += [
        "`The guide <../../command-line.html>`__ has examples, exit statuses and defaults.",
        "",
    ]
    for heading, names in (("Scenarios", scenarios), ("Other commands", others)):
        lines += [heading, "-" * len(heading), "", ".. list-table::", "   :widths: 30 70", ""]
        for name in names:
            text = commands[name].get_short_help_str(200)
            lines += [f"   * - :doc:`gflow {name} <command-{name}>`", f"     - {_escaped(text)}"]
        lines += ["", ".. toctree::", "   :hidden:", ""]
        lines += [*(f"   command-{name}" for name in names), ""]
    found = {"command-line.rst": "\n".join(lines)}
    for name in commands:
        text = [f".. click:: command_pages:{name.replace('-', '_')}"]  # which makes the title
        text += [f"   :prog: gflow {name}", "   :nested: full", ""]
        found[f"command-{name}.rst"] = "\n".join(text)
    return found


def _escaped(text: str) -> str:
    return text.replace("*", r"\*").replace("|", r"\|").replace("`", r"\`")
