"""How members are counted and moved between methods."""

import numpy as np
import torch

from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop import switching
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.switching import EXPLICIT, HIGH_ORDER

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
    near, nonstiff = np.array([3.4, 0.5]), np.array([0.1, 0.1])
    counts = [len(switching.vote(explicit, m, ROWS, near, 90.0)) for _ in range(3)]
    assert counts == [0, 0, 1]
    m = members()
    for _ in range(20):  # every third step near the edge: accuracy also limits the step
        for signal in (near, nonstiff, nonstiff):
            assert not len(switching.vote(explicit, m, ROWS, signal, 90.0))


def test_one_vote_is_enough_where_many_steps_remain():
    near, far = np.array([3.4, 0.5]), 150.0  # steps to go
    assert switching.vote(Tsit5(), members(), ROWS, near, far).tolist() == [0]


def test_unconfirmed_votes_raise_the_number_needed_next_time():
    m, near = members(radius=1e-3), np.array([3.4, 3.4])
    counts = []
    for _ in range(8):
        rows = switching.vote(Tsit5(), m, ROWS, near, 150.0)
        switching.confirm(Tsit5(), m, rows)
        counts.append(len(rows))
    assert counts == [2, 0, 0, 2, 0, 0, 2, 0]


def test_a_signal_that_is_not_finite_does_not_vote():
    """At rest the signal is 0/0."""
    m = members()
    for _ in range(20):
        assert not len(switching.vote(Tsit5(), m, ROWS, np.full(2, np.nan), 1e3))


def test_no_vote_shortly_before_the_end():
    m = members(h=1.0)
    for _ in range(20):
        assert not len(switching.vote(Tsit5(), m, ROWS, np.array([3.4, 3.4]), 15.0))


def test_the_measured_radius_decides():
    m = members(h=1.0, radius=3.0)
    m.votes[:] = 9
    assert switching.confirm(Tsit5(), m, ROWS).tolist() == [0]
    assert m.method.tolist() == [HIGH_ORDER, EXPLICIT]
    assert m.votes[0] == 0 > m.votes[1]
    m = members(radius=np.nan)
    assert not len(switching.confirm(Tsit5(), m, ROWS))


def test_members_are_handed_back_after_consecutive_nonstiff_steps():
    m = members(h=1.0, radius=1.0, method=HIGH_ORDER)
    m.radius[1] = 100.0
    for _ in range(9):
        assert not len(switching.hand_back(Tsit5(), m, ROWS))
    m.h[0] = 2.0  # a step that is stiff resets the count
    assert not len(switching.hand_back(Tsit5(), m, ROWS))
    m.h[0] = 1.0
    moved = [switching.hand_back(Tsit5(), m, ROWS).tolist() for _ in range(10)]
    assert moved == [[]] * 9 + [[0]]
    assert m.method.tolist() == [EXPLICIT, HIGH_ORDER]


def test_steps_that_still_grow_do_not_count_as_nonstiff():
    m = members(h=1.0, method=HIGH_ORDER)
    m.last_step[:] = [0.5, 0.9]
    moved = [switching.hand_back(Tsit5(), m, ROWS).tolist() for _ in range(10)]
    assert moved == [[]] * 9 + [[1]]
