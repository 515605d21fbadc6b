"""A result's table on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gflow.results.base import Table


def print_table(title: str, table: Table) -> None:
    """Print a table with its title and the lines below it.

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
    from rich import table as rich_table
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    heading = Text(title, style="table.title")
    if table.headings:
        grid = rich_table.Table(title=heading, title_justify="left")
        for column in table.headings:
            grid.add_column(column, justify="right")
        for row in table.rows:
            grid.add_row(*map(Text, row))
        console.print(grid)
    else:
        console.print(heading)
    width = max((len(label) for label, _ in table.lines), default=0)
    for label, text in table.lines:
        console.print(Text(f"{label:<{width}}  {text}"), soft_wrap=True)
