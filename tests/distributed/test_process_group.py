"""Joining processes: one process alone, and environments that torchrun does not make."""

import pytest

from gflow.distributed import current, processes
from gflow.errors import InputError

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _no_torchrun(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_torchrun_the_team_is_this_process_and_is_not_current():
    with processes() as team:
        assert (team.rank, team.size, team.leads()) == (0, 1, True)
        assert current() is None
    assert current() is None


def test_one_process_of_torchrun_starts_no_process_group(monkeypatch):
    values = ("0", "0", "1", "1", "127.0.0.1", "1")
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    with processes() as team:
        assert team.size == 1


def test_incomplete_environment_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="MASTER_ADDR"), processes():
        pass
