"""Flows whose paths are known: right, flagged or refused; `stress/truths.py` runs thousands."""

import collections

from hypothesis import HealthCheck, given, settings

from tests.truths.case import FAULTS
from tests.truths.drawing import quick_examples


def test_no_path_is_silently_wrong():
    counts = collections.Counter()

    @settings(
        max_examples=105,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(quick_examples())
    def holds(example):
        verdict = example.verdict()
        counts[verdict.kind] += 1
        assert verdict.kind not in FAULTS, (example, str(verdict))

    holds()
    assert counts["false alarm"] == 0
    assert sum(counts.values()) >= 100
    assert counts["right"] >= 40
