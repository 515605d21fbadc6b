"""The commands report, compare and cite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gflow.cli.options import FolderPath, json_option
from gflow.text import printable

if TYPE_CHECKING:
    from gflow.reporting.comparison import Comparison

_CURVES_SHOWN = 15


@click.command("report", short_help="Write a report of a run, a sweep, or several runs.")
@click.argument("runs", type=FolderPath(), nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--output",
    "-o",
    type=FolderPath(),
    help="the HTML file  [default: report.html in the folder of RUN; here for several]",
)
def _report(runs: tuple[Path, ...], output: Path | None) -> None:
    """Write one HTML file about RUN, the folder of a run or a sweep, or about several runs.

    It says what was asked, the verdict of the certificate, numbers with their meaning, figures,
    cost, how to repeat the run, and what to cite. It opens from disk and loads nothing.
    """
    from gflow.reporting.report import write_report

    click.echo(printable(str(write_report(list(runs), output))))


@click.command("compare", params=[json_option()], short_help="Show what differs between runs.")
@click.argument("runs", type=FolderPath(), nargs=-1, required=True, metavar="RUN RUN...")
def _compare(runs: tuple[Path, ...], as_json: bool) -> None:
    """Show what differs between runs: keys of the scenario, versions, numbers and curves.

    The difference of a curve is that to the curve of the first run, relative to its largest value.
    `gflow report RUN RUN...` shows the same with figures.
    """
    from gflow.cli.runs import to_json
    from gflow.reporting.comparison import compare_runs
    from gflow.text import plain, printable_values

    compared = compare_runs(list(runs))
    values = {
        "runs": [str(run) for run in runs],
        "scenario": {name: list(v) for name, v in compared.scenario.items()},
        "versions": {name: list(v) for name, v in compared.versions.items()},
        "numbers": {name: list(v) for name, v in compared.numbers.items()},
        "curves": {curve.name: list(curve.values) for curve in compared.curves},
    }
    if as_json:
        click.echo(to_json(plain(values)))
    else:
        _print(compared, printable_values(values))


def _print(compared: Comparison, values: Mapping[str, Any]) -> None:
    labels = [printable(label) for label in compared.labels]
    print_rows("scenario", labels, values["scenario"])
    print_rows("versions", labels, values["versions"])
    print_rows("numbers", labels, values["numbers"])
    click.echo(f"{compared.equal_numbers} numbers are the same")
    curves = dict(list(values["curves"].items())[:_CURVES_SHOWN])
    print_rows("curves: difference to the first", labels[1:], curves)
    hidden = len(compared.curves) - len(curves)
    if hidden > 0:
        click.echo(f"and {hidden} more curves, which differ less")


def print_rows(title: str, labels: Sequence[str], rows: Mapping[str, Sequence[Any]]) -> None:
    """Print a table of values: one row for each name, one column for each run.

    Parameters
    ----------
    title : str
    labels : sequence of str
        Names of the columns.
    rows : mapping of str to sequence

    Examples
    --------
    >>> print_rows("scenario", ["a", "b"], {"depth": [2, 3]})
    scenario  a  b
    depth     2  3
    <BLANKLINE>
    """
    from gflow.results.lines import format_value

    def text(value: object) -> str:
        if isinstance(value, list):
            return ",".join(map(text, value)) or "-"
        return format_value(value)

    table = [
        [title, *labels],
        *([name.replace("_", " "), *map(text, v)] for name, v in rows.items()),
    ]
    if not rows:
        table = [[title, "none"]]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        click.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    click.echo()


@click.command("cite", short_help="Print what to cite for a run, as BibTeX.")
@click.argument("run", type=FolderPath())
def _cite(run: Path) -> None:
    """Print what to cite for RUN, as BibTeX: gflow, the papers of the scenario and the method."""
    from gflow.reporting.citations import cite

    click.echo("\n\n".join(reference.bibtex for reference in cite(run)))


COMMANDS = (_report, _compare, _cite)
