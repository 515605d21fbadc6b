"""Checkpoints of a solve: a resumed solve gives bitwise the same numbers."""

import json

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.execution.checkpointing import Checkpoint
from tests.helpers import slow_except
from tests.solvers.loop.cases import FLOW, GFLOW_METHODS, LONE_METHODS, STARTS, tolerance


def _through_files(state: Checkpoint) -> Checkpoint:
    """Return a checkpoint after the round trip through files: bytes of tensors, and JSON."""
    return Checkpoint(
        {name: value.clone() for name, value in state.tensors.items()},
        json.loads(json.dumps(dict(state.meta))),
    )


# Every method, for a single start or an ensemble, with or without dense output.
CASES = [
    ("auto", True, False),
    ("auto", True, True),
    ("auto", False, False),
    ("auto", False, True),
    ("tsit5", True, False),
    ("tsit5", False, True),
    ("dop853", True, True),
    ("dop853", False, False),
    ("rkc2", True, False),
    ("rkc2", False, True),
    ("rock4", True, True),
    ("rock4", False, False),
    ("bdf", True, False),
    ("bdf", True, True),
]
SINGLE = [case for case in CASES if case[1]]


def test_cases_have_every_method():
    assert {method for method, *_ in CASES} == {"auto", *GFLOW_METHODS}
    assert {method for method, single, _ in CASES if single} == {"auto", *GFLOW_METHODS}
    ensemble_methods = {method for method, single, _ in CASES if not single}
    assert ensemble_methods == {"auto", *GFLOW_METHODS} - set(LONE_METHODS)


@pytest.mark.parametrize("case", slow_except(CASES, *SINGLE, ("tsit5", False, True)), ids=str)
def test_a_resumed_solve_agrees_to_the_last_bit(case):
    method, single, dense = case
    y0, ts = (STARTS[1] if single else STARTS), [0.0, 1.0, 2.0, 6.0]
    ts += [20.0] if single else []
    options = {"rtol": tolerance(method), "atol": 1e-12, "dense": dense}
    seen: list[Checkpoint] = []
    uninterrupted = gflow.integrate(
        FLOW, y0, ts, method, **options, checkpoint=seen.append, checkpoint_every=0.0
    )
    assert len(seen) > 10
    for state in (seen[len(seen) // 3], seen[-2]):
        resumed = gflow.integrate(FLOW, y0, ts, method, **options, resume=_through_files(state))
        assert torch.equal(resumed.ys, uninterrupted.ys)
        assert resumed.certificate == uninterrupted.certificate
        for name in ("rhs_evals", "accepted", "rejected", "reason"):
            assert getattr(resumed.stats, name) == getattr(uninterrupted.stats, name)


def test_a_checkpoint_of_another_solve_is_refused():
    seen: list[Checkpoint] = []
    gflow.integrate(FLOW, STARTS, [0.0, 5.0], "tsit5", checkpoint=seen.append, checkpoint_every=0.0)
    for change in ({"ts": [0.0, 6.0]}, {"rtol": 1e-5}, {"method": "rkc2"}, {"y0": STARTS[0]}):
        given = {"y0": STARTS, "ts": [0.0, 5.0], "method": "tsit5", "resume": seen[0]} | change
        with pytest.raises(InputError, match="resumes the solve it was taken from"):
            gflow.integrate(FLOW, **given)


def test_a_negative_count_of_evaluations_is_refused():
    """It would lift the limit on them."""
    seen: list[Checkpoint] = []
    gflow.integrate(FLOW, STARTS, [0.0, 5.0], "tsit5", checkpoint=seen.append, checkpoint_every=0.0)
    wrong = Checkpoint(seen[0].tensors, {**seen[0].meta, "rhs_evals": -1})
    with pytest.raises(InputError, match="must be at least 0, got -1"):
        gflow.integrate(FLOW, STARTS, [0.0, 5.0], "tsit5", resume=wrong)
