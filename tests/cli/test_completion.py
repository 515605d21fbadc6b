"""Completion in shells: the script, and what it is answered."""

import pytest
from click.shell_completion import BashComplete

from gflow.cli.main import cli
from tests.cli.test_main import call


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("bash", "complete -o nosort -F _gflow_completion gflow"),
        ("zsh", "#compdef gflow"),
        ("fish", "complete --no-files --command gflow"),
    ],
)
def test_script(shell, words):
    completed = call("completion", shell)
    assert completed.status == 0
    assert words in completed.out
    assert "_GFLOW_COMPLETE" in completed.out


def test_another_shell_is_refused():
    completed = call("completion", "tcsh")
    assert completed.status == 2
    assert "'bash', 'zsh', 'fish'" in completed.err


@pytest.mark.parametrize(
    ("given", "incomplete", "expected"),
    [
        ([], "edge", "edge-of-stability"),
        ([], "rep", "report"),
        (["kernel"], "--act", "--activation"),
        (["kernel", "--activation"], "ge", "gelu"),
        (["converge"], "wide-network-ten-c", "wide-network-ten-classes"),
        (["show"], "fact", "factorization"),
    ],
)
def test_words_are_completed(given, incomplete, expected):
    shell = BashComplete(cli, {}, "gflow", "_GFLOW_COMPLETE")
    found = [
        item.value for item in shell.get_completions(given, incomplete) if item.type == "plain"
    ]
    assert found == [expected]


def test_folders_and_files_are_left_to_the_shell():
    shell = BashComplete(cli, {}, "gflow", "_GFLOW_COMPLETE")
    assert [item.type for item in shell.get_completions(["report"], "out")] == ["dir"]
    assert shell.get_completions(["run"], "my")[-1].type == "file"
    assert shell.get_completions(["nothing"], "") is not None  # an unknown command is no error
