"""The states of a multistep method, and the order and length of its steps."""

import math

import pytest
import torch

from gflow.solvers import bdf
from gflow.solvers.loop.past import Past


def test_a_step_rejected_without_an_error_is_shortened():
    """For example, one whose loss rises although its error is 0."""
    assert 0 < Past().shorter_step(1.0, 0.0, retried=False) < 1


def make_past(count, size=3):
    """A past of the given number of states: state i is at time i."""
    past = Past()
    for i in range(count):
        past.add(float(i), torch.full((size,), float(i)), 10.0 * i)
    return past


def test_states_are_ordered_newest_first():
    for count in (1, 3, bdf.HISTORY, bdf.HISTORY + 1, 100):
        past, length = make_past(count), min(count, bdf.HISTORY)
        newest = [float(i) for i in range(count - 1, count - 1 - length, -1)]
        assert past.times == newest
        assert past.energies == [10 * t for t in newest]
        assert past.states[:, 0].tolist() == newest
        assert past.states.shape == (length, 3)


def test_a_restored_past_is_equal():
    past = make_past(50)
    past.order, past.since, past.steps, past.patience = 3, 2, 17, 40
    restored = Past()
    restored.restore(past.states.clone(), past.meta)
    assert restored.meta == past.meta
    assert torch.equal(restored.states, past.states)


def test_four_states_are_enough_to_start():
    assert [make_past(count).can_start for count in range(6)] == [False] * 4 + [True] * 2


def test_a_restart_goes_back_to_order_1_and_doubles_the_patience():
    past = make_past(9)
    past.order, past.steps = 4, 30
    patience = past.patience
    past.restart()
    assert (past.order, past.steps, past.patience) == (1, 0, 2 * patience)


def test_the_order_falls_only_if_a_step_is_rejected_again():
    past = make_past(9)
    past.order = 3
    past.shorter_step(1.0, 2.0, retried=False)
    assert past.order == 3
    past.shorter_step(1.0, 2.0, retried=True)
    assert past.order == 2


def test_steps_are_shortened_by_their_error():
    past = make_past(9)
    for error, factor in ((1.1, 0.7), (3.0, 0.85 / 3**0.5), (1e9, 0.3), (math.inf, 0.4)):
        assert past.shorter_step(2.0, error, retried=False) == pytest.approx(2 * factor)
