"""How members are counted and moved between methods."""

import numpy as np
import pytest
import torch

from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop import switching
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.switching import EXPLICIT, RIVAL, SECOND
from gflow.solvers.rkc2 import RKC2
from tests.solvers.potentials import Bernoulli
from tests.solvers.steps import step

ROWS = np.arange(2)


def members(h=1.0, radius=1.0, method=EXPLICIT):
    """Two members of which the second is far less stiff."""
    z = torch.zeros(2, 3, dtype=torch.float64)
    m = Members.start(z, z[:, :2], 0.0)
    m.h[:], m.radius[:], m.method[:] = h, [radius, 1e-6 * radius], method
    m.pause[:] = 0
    return m


def test_votes_count_up_near_the_edge_and_down_elsewhere():
    m, explicit = members(), Tsit5()
    near, calm = np.array([3.4, 0.5]), np.array([0.1, 0.1])
    asked = [len(switching.vote(explicit, m, ROWS, near, 90.0)) for _ in range(3)]
    assert asked == [0, 0, 1]
    m = members()
    for _ in range(20):  # every third step near the edge: accuracy limits, too
        for signal in (near, calm, calm):
            assert not len(switching.vote(explicit, m, ROWS, signal, 90.0))


def test_one_vote_is_enough_where_much_is_at_stake():
    near, far = np.array([3.4, 0.5]), 150.0  # steps to go
    assert switching.vote(Tsit5(), members(), ROWS, near, far).tolist() == [0]


def test_who_asked_in_vain_needs_more_votes_the_next_time():
    m, near = members(radius=1e-3), np.array([3.4, 3.4])
    asked = []
    for _ in range(8):
        rows = switching.vote(Tsit5(), m, ROWS, near, 150.0)
        switching.confirm(Tsit5(), m, rows)
        asked.append(len(rows))
    assert asked == [2, 0, 0, 2, 0, 0, 2, 0]


def test_a_signal_that_is_not_finite_is_no_vote():
    """At rest it is 0/0."""
    m = members()
    for _ in range(20):
        assert not len(switching.vote(Tsit5(), m, ROWS, np.full(2, np.nan), 1e3))


def test_no_vote_shortly_before_the_end():
    m = members(h=1.0)
    for _ in range(20):
        assert not len(switching.vote(Tsit5(), m, ROWS, np.array([3.4, 3.4]), 15.0))


def test_the_measured_radius_has_the_last_word():
    m = members(h=1.0, radius=3.0)
    m.signs[:] = 9
    assert switching.confirm(Tsit5(), m, ROWS).tolist() == [0]
    assert m.method.tolist() == [SECOND, EXPLICIT]
    assert m.signs[0] == 0 > m.signs[1]
    m = members(radius=np.nan)
    assert not len(switching.confirm(Tsit5(), m, ROWS))


def test_hands_back_after_calm_steps_in_a_row():
    m = members(h=1.0, radius=1.0, method=SECOND)
    m.radius[1] = 100.0
    for _ in range(9):
        assert not len(switching.hand_back(Tsit5(), m, ROWS))
    m.h[0] = 2.0  # one that is not calm: count anew
    assert not len(switching.hand_back(Tsit5(), m, ROWS))
    m.h[0] = 1.0
    moved = [switching.hand_back(Tsit5(), m, ROWS).tolist() for _ in range(10)]
    assert moved == [[]] * 9 + [[0]]
    assert m.method.tolist() == [EXPLICIT, SECOND]


def test_steps_that_still_grow_are_no_sign_of_calm():
    m = members(h=1.0, method=SECOND)
    m.before[:] = [0.5, 0.9]
    moved = [switching.hand_back(Tsit5(), m, ROWS).tolist() for _ in range(10)]
    assert moved == [[]] * 9 + [[1]]


def test_the_rival_s_error_is_that_of_its_own_step():
    flow, y = Bernoulli([1.0, 20.0]), torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    own = step(RKC2(), flow, 0.0, y, 0.2, 4)
    found = switching.rival_error(y, 0.2 * flow(0.0, y), own.y, own.k)
    assert float(found) == pytest.approx(float(own.error.norm()))


def test_price_of_the_rival():
    """(2 + √(1 + 1.54 hρ))/h evaluations per unit of time, for the h that its error allows."""
    m = members(radius=100.0)
    for error, longest in ((1.0, 1.0), (1e-9, 2.0), (8.0, 0.5)):
        price = (2 + np.sqrt(1 + 1.54 * longest * 100.0)) / longest
        for spent, cheaper in ((price / 0.69, True), (price / 0.71, False)):
            found = switching.rival_is_cheaper(
                m, ROWS[:1], np.array([spent]), np.ones(1), np.array([error])
            )
            assert found.tolist() == [cheaper]


def test_pauses_of_the_rival_grow():
    """Whenever the second method loses, it is tried again after twice as long."""
    m, waits = members(method=SECOND), []
    for _ in range(4):
        switching.to_rival(m, ROWS[:1])
        assert m.method[0] == RIVAL
        count = 0
        while m.method[0] == RIVAL:
            switching.from_rival(m, ROWS[:1], np.array([3]))
            count += 1
        waits.append(count)
    assert waits == [40, 80, 160, 320]
    switching.to_rival(m, ROWS[:1])
    for _ in range(64):
        assert not len(switching.from_rival(m, ROWS[:1], np.array([30]))) or m.method[0] != RIVAL
    assert m.method[0] == SECOND  # steps of many stages count ten times
