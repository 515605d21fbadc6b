"""The commands report, compare and cite."""

import json

import pytest

from gflow.cli.reports import print_rows
from tests.cli.test_main import call
from tests.reporting.pages import two_runs


@pytest.fixture(scope="module")
def runs():
    return two_runs()


def test_compare_prints_what_differs(runs):
    completed = call("compare", *runs)
    assert completed.status == 0
    lines = completed.out.splitlines()
    assert lines[:2] == ["scenario  2  3", "depth     2  3"]
    assert any(line.startswith("final loss") for line in lines)
    found = json.loads(call("compare", *runs, "--json").out)
    assert found["scenario"] == {"depth": [2, 3]}
    assert found["versions"] == {}
    assert 0 < found["curves"]["loss"][0] < 1


def test_cite_prints_bibtex(runs):
    completed = call("cite", runs[0])
    assert completed.status == 0
    assert completed.out.startswith("@software{gflow,\n")
    assert "@inproceedings{saxe2014exact,\n" in completed.out


@pytest.mark.parametrize("command", ["report", "compare", "cite"])
def test_folders_without_a_run_are_one_line(command, tmp_path):
    folders = [tmp_path / "x"] * (2 if command == "compare" else 1)
    completed = call(command, *folders)
    assert completed.status == 2
    assert completed.out == ""
    assert completed.err.startswith("gflow: no run at ")
    assert completed.err.count("\n") == 1


def test_tables_have_one_column_for_each_run(capsys):
    print_rows("scenario", ["a", "bb"], {"step_sizes": [[0.1, 0.2], None], "depth": [2, True]})
    assert capsys.readouterr().out == (
        "scenario    a        bb\nstep sizes  0.1,0.2  -\ndepth       2        yes\n\n"
    )
    print_rows("versions", ["a"], {})
    assert capsys.readouterr().out == "versions  none\n\n"
