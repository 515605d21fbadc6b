"""Verdicts and checks in words, for every verdict and every check."""

import pytest
import torch

import gflow
from gflow.reporting.verdicts import CHECKS, WORDS, certificate_texts, verdict_words
from gflow.results.base import Verdict
from gflow.results.registry import find_kind, result_kinds
from gflow.results.summaries import certificate_summary

NO_WORDS = {"discrete_changes"}  # a failure names it; the summary has no measurement of it


@pytest.fixture(scope="module")
def summary():
    flow, y0 = gflow.KernelFlow.example()
    path = gflow.integrate(flow, y0, torch.linspace(0, 1, 4))
    return {
        "kind": "flow-and-descent",
        "descent": [],
        "certificate": certificate_summary(path),
        "bounds": path.certificate.bounds,
    }


def test_every_verdict_has_words():
    assert set(WORDS) == set(Verdict)
    assert len({heading for heading, _ in WORDS.values()}) == len(WORDS)


def test_every_bound_has_a_check(summary):
    assert set(summary["bounds"]) - NO_WORDS == set(CHECKS)


def test_measurements_are_compared_with_their_bounds(summary):
    kind = find_kind(summary)
    (text,) = certificate_texts(kind, summary)
    assert {check.outcome for check in text.checks} == {"within"}
    worse = {**summary["certificate"], "energy_residual": 1.0, "rest": "mode 2 stays"}
    (text,) = certificate_texts(kind, {**summary, "certificate": worse})
    exceeded = [check.name for check in text.checks if check.outcome == "EXCEEDED"]
    assert exceeded == ["energy identity"]
    assert text.notes == ("mode 2 stays",)


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({}, "The certificate holds"),
        ({"certificate": {"holds": False, "failures": ["x"]}}, "The certificate does not hold"),
        ({"descent": [{"diverged_at": 3}]}, "The flow is certified, and a descent diverged"),
    ],
)
def test_verdict(summary, changes, heading):
    changed = {**summary, **changes}
    words = verdict_words(find_kind(changed), changed)
    assert words[0] == heading
    assert words[2] == changed["certificate"]["failures"]


@pytest.mark.parametrize("name", sorted(result_kinds()))
def test_every_column_of_every_kind_has_a_meaning(name):
    kind = result_kinds()[name]
    if kind.__module__.startswith("gflow."):
        summary = {"modified_order": 1.0, "depth": 2, "modes": [1.0], "jump_times": [1.0]}
        summary |= {"variable": "depth"}
        columns = kind.columns({"kind": name, kind.rows_key: [], **summary})
        assert all(column.meaning for column in columns)
        assert bool(columns) == bool(kind.row_meaning)
