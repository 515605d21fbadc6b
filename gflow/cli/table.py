"""A result's table on standard output."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from gflow.results.base import Table

_BOX = 3  # columns that a cell takes beside its text
_LEAST_LINE = 30  # characters of a text beside its label


def print_table(title: str, table: Table) -> None:
    """Print a table with its title and the lines below it.

    No word is broken. Headings are wrapped at blanks, and a table that is still wider than the
    terminal is printed as one block of lines for each row.

    Parameters
    ----------
    title : str
    table : Table
        Texts without control characters; nothing in them is markup.

    Examples
    --------
    >>> from gflow.results.base import Table
    >>> print_table("kernel on digits", Table((), (), (("loss", "0.5 at the end of the flow"),)))
    kernel on digits
    loss  0.5 at the end of the flow
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    heading = Text(title, style="table.title")
    widths = _widths(table)
    if table.headings and sum(widths) + _BOX * len(widths) + 1 <= console.width:
        _print_grid(console, heading, table, widths)
    else:
        console.print(heading, soft_wrap=True)
        for row in table.rows:
            _print_lines(console, list(zip(table.headings, row, strict=True)))
            console.print()
    _print_lines(console, list(table.lines))


def _widths(table: Table) -> list[int]:
    """Return the least width of each column: that of its cells, and of words in its heading."""
    from rich.cells import cell_len

    cells = zip(*table.rows, strict=True) if table.rows else ((),) * len(table.headings)
    return [
        max(map(cell_len, (*heading.split(), *column)), default=0)
        for heading, column in zip(table.headings, cells, strict=True)
    ]


def _print_grid(console: Console, heading: object, table: Table, widths: list[int]) -> None:
    from rich import table as rich_table
    from rich.text import Text

    grid = rich_table.Table(title=heading, title_justify="left")  # type: ignore[arg-type]
    for column, width in zip(table.headings, widths, strict=True):
        grid.add_column(column, justify="right", min_width=width)
    for row in table.rows:
        grid.add_row(*map(Text, row))
    console.print(grid)


def _print_lines(console: Console, lines: list[tuple[str, str]]) -> None:
    """Print labels and texts; on a terminal texts are wrapped at blanks, below themselves."""
    from rich.text import Text

    width = max((len(label) for label, _ in lines), default=0)
    room = console.width - width - 2 if console.is_terminal else 0
    for label, text in lines:
        parts = [text]
        if room >= _LEAST_LINE:
            parts = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [
                ""
            ]
        for i, part in enumerate(parts):
            name = "" if i else label
            console.print(Text(f"{name:<{width}}  {part}"), soft_wrap=True)
