"""The rows of members: their start, selection, and storage in a checkpoint."""

import dataclasses

import numpy as np
import torch

from gflow.solvers.loop.members import Members
from tests.helpers import randn

INTEGERS = {"index", "next", "method", "age", "due", "votes", "nonstiff_steps", "pause", "fault"}
INTEGERS |= {"retried", "evals", "evals_at_last_accept", "good", "bad", "side"}
INTEGERS |= {"next_check", "last_check", "rest_check", "growth_evals", "growth_spent"}


def make_members(count=4, size=3):
    return Members.start(randn(count, size), randn(count, size, seed=1), 2.5)


def test_measured_numbers_are_nan_at_the_start():
    m = make_members()
    assert len(m) == 4
    assert m.t.tolist() == [2.5] * 4
    assert m.index.tolist() == [0, 1, 2, 3]
    assert m.next.tolist() == [1] * 4  # the first time is that of the start
    assert m.energy.tolist() == [0.0] * 4
    for name in ("h", "loss", "size", "radius", "last_step", "older_t", "event", "high"):
        assert np.isnan(getattr(m, name)).all(), name
    for field in dataclasses.fields(m):
        value = getattr(m, field.name)
        assert len(value) == 4
        if isinstance(value, np.ndarray):
            assert (value.dtype == np.int64) == (field.name in INTEGERS), field.name


def test_selected_members_are_copies():
    m = make_members()
    m.h[:] = [1.0, 2.0, 3.0, 4.0]
    selected = m.only(np.array([False, True, False, True]))
    assert selected.index.tolist() == [1, 3]
    assert selected.h.tolist() == [2.0, 4.0]
    assert torch.equal(selected.y, m.y[[1, 3]])
    selected.h[0] = 9.0
    assert m.h[1] == 2.0


def test_members_are_restored_from_their_tensors():
    m = make_members()
    m.h[:], m.evals[:] = [0.1, 0.2, np.nan, 0.4], [1, 2, 3, 4]
    tensors = m.tensors()
    m.h[0] = 7.0  # later changes are not in the checkpoint
    restored = Members.from_tensors(tensors, m.y)
    assert restored.h[0] == 0.1
    m.h[0] = 0.1
    for field in dataclasses.fields(m):
        a, b = getattr(m, field.name), getattr(restored, field.name)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=field.name)
    restored.evals[0] = 100  # a resumed solve does not write to it either
    assert int(tensors["evals"][0]) == 1
