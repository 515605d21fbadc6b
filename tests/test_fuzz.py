"""Hostile inputs to the command line; `stress/fuzz.py` runs thousands of them."""

import os
import shutil
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzzing.inputs import KINDS
from tests.fuzzing.observing import Case, observe

EXAMPLES = {"scenario": 12, "data": 10, "run folder": 10, "command line": 8}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_hostile_inputs_cause_no_unexpected_error(kind, tmp_path):
    statuses = set()

    @settings(
        max_examples=EXAMPLES[kind],
        database=None,
        deadline=None,  # `observe` has a time limit
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(KINDS[kind])
    def holds(case):
        shutil.rmtree(tmp_path / "case", ignore_errors=True)
        observation = observe(case, tmp_path / "case")
        assert observation.trouble == ()
        statuses.add(observation.status)

    holds()
    assert {0, 2} <= statuses  # valid and invalid inputs are among them


_KERNEL = "kernel --data synthetic --samples 4 --test-samples 2 --inputs 2 --points 3 --t-end 2"


@pytest.mark.parametrize(
    ("kind", "work"),
    [
        ("traceback", lambda: 1 / 0),
        ("hang", lambda: time.sleep(9)),
        ("outside", lambda: open("../outside/new", "w").close()),
        ("outside", lambda: os.rename("../outside/victim.csv", "outputs/x")),
        ("started", lambda: os.system("true")),
        ("line", lambda: print("gflow: \x1b[2J", file=sys.stderr)),
        ("status", lambda: sys.exit(9)),
    ],
)
def test_every_kind_of_error_is_observed(kind, work, tmp_path, monkeypatch):
    monkeypatch.setattr("gflow.runs.folder.RunFolder.begin", lambda *arguments: work())
    seconds = 0.2 if kind == "hang" else 20.0
    observation = observe(Case("", tuple(_KERNEL.split())), tmp_path / "case", seconds)
    assert kind in {name for name, _ in observation.trouble}
