"""The rank of a process comes from a complete environment, without torch."""

import subprocess
import sys

import pytest

from gflow.cli.main import main as command_line
from gflow.distributed.torchrun import RankInfo, rank_info
from gflow.errors import InputError

COMPLETE = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "1",
}


def test_the_rank_is_that_of_the_environment(monkeypatch):
    assert rank_info() is None
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)
    assert rank_info() == RankInfo(rank=1, size=2, local_rank=1, local_size=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MASTER_PORT": None}, "MASTER_PORT is missing; start with `torchrun"),
        ({"LOCAL_RANK": "one"}, "must be whole numbers, got RANK='1', LOCAL_RANK='one'"),
        ({"RANK": "2"}, "got process 2 of 2 and 1 of 2 here; start with torchrun"),
    ],
)
def test_an_incomplete_environment_is_refused(monkeypatch, capsys, changes, message):
    for name, value in (COMPLETE | changes).items():
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        rank_info()
    with pytest.raises(SystemExit) as caught:
        command_line(["list"])
    printed = capsys.readouterr()
    assert (caught.value.code, printed.out) == (2, "")
    assert printed.err.startswith("gflow: ")
    assert message in printed.err


def test_the_rank_is_known_without_torch():
    code = "import sys, gflow.distributed.torchrun; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
