"""The command `figures`: redraw the figures of a run, in another title, format, size or style."""

from __future__ import annotations

from pathlib import Path

import click

from gflow.cli.options import FolderPath
from gflow.errors import InputError

_FORMATS = ("png", "pdf", "svg", "gif", "mp4")


@click.command("figures", short_help="Redraw the figures of a run, or animate its spectrum.")
@click.argument("run", type=FolderPath())
@click.option("--title", metavar="TEXT", help="second line of the titles; '' for none")
@click.option(
    "--format",
    "formats",
    default="png",
    metavar="NAME,...",
    help="png, pdf, svg; gif and mp4 are animations  [default: png]",
)
@click.option("--size", metavar="WxH", help="inches of a panel  [default: 5.6x3.9]")
@click.option(
    "--style",
    metavar="NAME",
    help="a style sheet of matplotlib, by name or file, such as grayscale or paper.mplstyle",
)
@click.option("--only", metavar="NAME,...", help="these figures alone, such as loss,gap")
def figures(
    run: Path,
    title: str | None,
    formats: str,
    size: str | None,
    style: str | None,
    only: str | None,
) -> None:
    """Redraw the figures of RUN, the folder of a finished run, from its result.nc.

    They replace those in RUN/figures. A gif or mp4 shows how the spectrum changes.
    """
    from gflow.runs.figures import redraw

    kinds = _names(formats)
    wrong = [kind for kind in kinds if kind not in _FORMATS]
    if wrong or not kinds:
        raise InputError(f"--format must be of {', '.join(_FORMATS)}, got '{formats:.40}'")
    names = _names(only or "")
    for file in redraw(run, kinds, names, title=title, size=_size(size), style=style):
        click.echo(file)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _size(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    try:
        width, height = (float(part) for part in parts)
    except ValueError:
        width = height = 0.0
    if not (0.5 <= width <= 40 and 0.5 <= height <= 40):
        raise InputError(
            f"--size must be WIDTHxHEIGHT in inches, each from 0.5 to 40, got '{text:.40}'; "
            "for example 5.6x3.9"
        )
    return width, height


COMMANDS = (figures,)
