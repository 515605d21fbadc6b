"""A result's table on the terminal: title, cells and lines, without interpreting markup."""

import pytest

from gflow.cli.table import print_table
from gflow.results.base import Table


@pytest.fixture
def printed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")

    def lines(title, table):
        print_table(title, table)
        return capsys.readouterr().out.splitlines()

    return lines


def test_title_headings_cells_and_lines_are_printed(printed):
    table = Table(("step size", "gap"), (("0.5 (unstable)", "-"), ("0.25", "1e-3")), ())
    title, _, headings, _, first, second, _ = printed("kernel on digits", table)
    assert title.rstrip() == "kernel on digits"
    assert headings.split("┃")[1:3] == ["      step size ", "  gap "]
    assert first.split("│")[1:3] == [" 0.5 (unstable) ", "    - "]
    assert second.split("│")[1:3] == ["           0.25 ", " 1e-3 "]


def test_lines_are_aligned_and_neither_wrapped_nor_markup(printed):
    long = " ".join(["word"] * 40)
    table = Table((), (), (("cost", long), ("certificate", "[bold]holds[/bold] :smile:")))
    assert printed("[red]data[/red]", table) == [
        "[red]data[/red]",
        f"cost         {long}",
        "certificate  [bold]holds[/bold] :smile:",
    ]
