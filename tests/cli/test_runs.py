"""Exit statuses by verdict, and `inspect` of a run that a solver stopped."""

import json

import pytest
from click.testing import CliRunner

import gflow
from gflow.cli.main import cli
from gflow.cli.runs import STATUSES, interruption_message
from gflow.errors import Interrupted
from gflow.results.base import Verdict

SMALL = [
    "deep-linear",
    "--data",
    "synthetic",
    "--samples",
    "20",
    "--inputs",
    "3",
    "--points",
    "4",
    "--t-end",
    "2",
]


def test_every_verdict_has_a_status():
    assert set(STATUSES) == set(Verdict)
    assert len(set(STATUSES.values())) == len(STATUSES)


@pytest.mark.parametrize(
    ("why", "folder", "message"),
    [
        ("time", "o", "interrupted (the time limit was reached); resume it by: gflow resume o"),
        ("SIGTERM", None, "interrupted (SIGTERM)"),
    ],
)
def test_interruption_message(why, folder, message):
    assert interruption_message(Interrupted(why, folder)) == message


def test_inspect_shows_the_part_that_a_stopped_solver_reached(tmp_path):
    folder = str(tmp_path / "run")
    with pytest.raises(gflow.IntegrationError):
        CliRunner().invoke(
            cli, [*SMALL, "--max-evals", "20", "--output", folder], catch_exceptions=False
        )
    done = CliRunner().invoke(cli, ["inspect", folder])
    assert done.exit_code == 0
    for words in ("state     failed", "deep-linear on synthetic", "stopped      at t = ", "cost"):
        assert words in done.stdout
    shown = json.loads(CliRunner().invoke(cli, ["inspect", folder, "--json"]).stdout)
    assert shown["summary"] == gflow.load_run(folder).summary
    assert shown["summary"]["kind"] == "stopped"
    (tmp_path / "run" / "summary.json").unlink()
    shown = json.loads(CliRunner().invoke(cli, ["inspect", folder, "--json"]).stdout)
    assert shown["summary"] is None
