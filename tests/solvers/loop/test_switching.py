"""How members are counted and moved between methods."""

import numpy as np
import torch

from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop import switching
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.switching import EXPLICIT, SECOND

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
