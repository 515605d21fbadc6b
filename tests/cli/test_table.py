"""A result's table on the terminal: title, cells and lines, without interpreting markup."""

import io

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


WIDE = Table(
    ("step size", "largest gap", "gap to modified flow"),
    (("0.5 (unstable)", "-", "diverged from step 12"), ("0.25", "1e-3", "1e-5")),
    (),
)


@pytest.mark.parametrize("columns", [20, 45, 60, 80])
def test_no_word_of_a_table_is_broken(printed, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = printed("a title", WIDE)
    words = {word for row in (WIDE.headings, *WIDE.rows) for cell in row for word in cell.split()}
    shown = " ".join(lines).translate(dict.fromkeys(map(ord, "┃│┏┓┡┩└┘━─┳╇┷┴╋"), " ")).split()
    assert words <= set(shown)
    is_grid = columns >= 60
    assert any("┃" in line for line in lines) == is_grid
    if is_grid:
        assert max(map(len, lines)) <= columns
    else:
        assert "gap to modified flow  diverged from step 12" in lines


def test_lines_are_wrapped_at_blanks_on_a_terminal(monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("TERM", "xterm")
    print_table("t", Table((), (), (("time", "on the sum over 300 points; " * 3), ("a", "b"))))
    lines = stream.getvalue().splitlines()[1:]
    assert len(lines) == 3
    assert all(len(line) <= 50 for line in lines)
    assert [line[:6] for line in lines] == ["time  ", " " * 6, "a     "]
