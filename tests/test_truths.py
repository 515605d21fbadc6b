"""Flows whose paths are known: right, flagged or refused; `stress/truths.py` runs thousands."""

import collections

import pytest
from hypothesis import HealthCheck, given, settings

from tests.truths.case import FAULTS
from tests.truths.drawing import Example, quick_examples


def aligned(**parameters):
    """Return the parameters of an aligned network whose state is its layers."""
    return {"turn": None, "layers": True, "single": False} | parameters


# Silently wrong once.
FOUND = {
    # The rate of an algebraic escape rises between two estimates of it.
    "five layers": Example(
        "aligned",
        aligned(target=[0.239, 0.272], starts=[2.66e-05, 0.331], depth=5, shape=[3, 2]),
        {"method": "bdf", "max_evals": 6000, "rtol": 1e-4, "atol": 1e-7},
    ),
    # Round-off shows a mode smaller than it is when it is left out.
    "left out": Example(
        "aligned",
        aligned(
            target=[0.291, 3.94, 0.504],
            starts=[1.76e-06, 0.00139, 0.0],
            depth=5,
            shape=[3, 4],
            turn=985824,
            layers=False,
            single=True,
        ),
        {"method": "auto", "max_evals": 6000, "rtol": 1e-4, "atol": 1.39e-10, "t0": 1e7},
    ),
    # The path and its check are both beyond a jump that the true path has not passed.
    "jump": Example(
        "aligned",
        aligned(target=[1.09, 2.33], starts=[3.56e-14, 9.55e-07], depth=3, shape=[3, 3]),
        {"method": "scipy:BDF", "max_evals": 6000, "rtol": 1e-4, "atol": 1.71e-9},
    ),
    # W turns before it grows: both estimates of a rate along a library's path are of another time.
    "turns first": Example(
        "two layers",
        {
            "shape": [2, 1],
            "rank": 1,
            "scale": 2.41e-07,
            "seed": 786440,
            "layers": False,
            "target_scale": 0.339,
        },
        {"method": "scipy:LSODA", "max_evals": 6000, "rtol": 1e-6, "atol": 1e-9},
    ),
    # What a path amplified before its layers were made narrower did not count.
    "narrower": Example(
        "aligned",
        aligned(
            target=[-1.13, 0.506], starts=[1.42, 4.54e-10], depth=5, shape=[3, 2], layers=False
        ),
        {"method": "auto", "max_evals": 6000, "rtol": 1e-06, "atol": 1e-09},
    ),
    # Dense output between long steps was less accurate than these.
    "long steps": Example(
        "factorization",
        {
            "target": [0.708, -2.57],
            "scale": 0.0905,
            "columns": 1,
            "turn": 632130,
            "product": True,
            "seed": 543528,
            "identity": False,
            "single": False,
        },
        {
            "method": "auto",
            "max_evals": 6000,
            "rtol": 1e-08,
            "atol": 1e-11,
            "dense": True,
            "times": 40,
        },
    ),
    # A state in float32 that stands still, in all checks, though its velocity says that it leaves.
    "frozen": Example(
        "saddles",
        {
            "rates": [979000.0],
            "wells": [0.684],
            "starts": [[7.43e-08], [4.18e-15]],
            "turn": 400277,
            "network": False,
            "single": True,
        },
        {"method": "auto", "max_evals": 6000, "rtol": 0.001, "atol": 1e-06},
    ),
    # A mode of the round-off of the flow's data, which checks change by some per cent only.
    "rounded data": Example(
        "saddles",
        {
            "rates": [25.8, 0.336],
            "wells": [0.31, 1.83],
            "starts": [[8.03e-11, 3.53e-08], [0.0067, 2.2e-10], [2e-11, 0.0]],
            "turn": 279570,
            "network": False,
            "single": False,
        },
        {
            "method": "auto",
            "max_evals": 6000,
            "rtol": 0.0001,
            "atol": 1e-07,
            "estimate_error": True,
        },
    ),
    # A mode that is round-off of the start, which two checks changed by the same by chance.
    "two numbers": Example(
        "saddles",
        {
            "rates": [],
            "wells": [0.293, 0.784],
            "starts": [[1.15e-05, 0.0]],
            "turn": 725794,
            "network": False,
            "single": False,
        },
        {"method": "auto", "max_evals": 6000, "rtol": 0.0001, "atol": 1.15e-12},
    ),
    # The gradient σ(z) − 1 is rounded, the loss is not; they agree at the end by chance.
    "rounded gradient": Example(
        "logistic",
        {
            "sizes": [0.123, 1.26, 0.694],
            "turn": None,
            "criterion": "logistic",
            "end": 9.43e18,
            "start": -3.0,
        },
        {"method": "auto", "max_evals": 6000, "rtol": 1e-6, "atol": 1e-9},
    ),
}

# They take seconds. Mode and gradient below round-off are also in "two numbers" and in
# tests/trajectory/test_underflow.py.
LONG = ("rounded data", "rounded gradient")


@pytest.mark.parametrize(
    "name", [n if n not in LONG else pytest.param(n, marks=pytest.mark.slow) for n in FOUND]
)
def test_what_was_silently_wrong_is_flagged(name):
    assert FOUND[name].verdict().kind not in FAULTS


def test_no_path_is_silently_wrong():
    counts = collections.Counter()

    @settings(
        max_examples=25,
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
    assert sum(counts.values()) >= 22
    assert counts["right"] >= 9
