"""The command `completion`: the script with which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def _completion(ctx: click.Context, shell: str) -> None:
    r"""Print the script that completes commands, scenarios and options in SHELL.

    \b
    bash: eval "$(gflow completion bash)"      in ~/.bashrc
    zsh:  eval "$(gflow completion zsh)"       in ~/.zshrc, after compinit
    fish: gflow completion fish | source       in ~/.config/fish/config.fish
    """
    complete = get_completion_class(shell)
    if complete is not None:
        group = ctx.find_root().command
        click.echo(complete(group, {}, "gflow", "_GFLOW_COMPLETE").source())


def complete_scenario(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of scenarios that begin with a text, and a marker for files.

    Parameters
    ----------
    ctx : click.Context
    parameter : click.Parameter
    incomplete : str
        What has been typed.

    Returns
    -------
    list of CompletionItem

    Examples
    --------
    >>> command = click.Command("run")
    >>> items = complete_scenario(click.Context(command), click.Argument(["file"]), "ker")
    >>> [(item.value, item.type) for item in items]
    [('kernel', 'plain'), ('kernel-to-rich', 'plain'), ('ker', 'file')]
    """
    from gflow.scenario import scenario_names

    names = [CompletionItem(name) for name in scenario_names() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


COMMANDS = (_completion,)
