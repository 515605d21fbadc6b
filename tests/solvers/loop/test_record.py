"""The results of a solve: states at requested times, ends, and reasons of failures."""

import numpy as np
import pytest
import torch

from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.record import Record
from gflow.solvers.problem import Problem, Stop
from tests.helpers import randn

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
STARTS = randn(3, 2, 2)


def make_record(ts=(0.0, 1.0, 3.0), **options):
    problem = Problem(FLOW, STARTS, list(ts), rtol=1e-6, atol=1e-9, **options)
    y = STARTS.reshape(3, 4)
    return problem, Record(problem), Members.start(y, y, ts[0])


def test_members_may_have_different_times():
    member_times = [[0.0, 1.0], [0.0, 2.0, 3.0, 4.0], [0.0, 0.5]]
    _, record, _ = make_record(member_ts=member_times)
    assert record.ends.tolist() == [1.0, 4.0, 0.5]
    for row, ts in zip(record.ts, member_times, strict=True):
        assert row[: len(ts)].tolist() == ts
        assert np.isnan(row[len(ts) :]).all()
        assert len(row) == 5  # at least one NaN: there is always a next time to compare with


def test_states_are_saved_where_a_step_lands():
    _, record, m = make_record()
    m.t[:], m.y = [1.0, 0.7, 1.0], randn(3, 4, seed=5)
    record.save_landed(m, np.arange(3))
    assert torch.equal(record.saved[1, [0, 2]], m.y[[0, 2]])
    assert torch.isnan(record.saved[1, 1]).all()
    assert m.next.tolist() == [2, 1, 2]


def test_results_are_written_to_the_problem():
    problem, record, m = make_record()
    m.t[:], m.energy[:], m.next[:] = [3.0, 3.0, 1.5], [0.1, 0.2, 0.3], [3, 3, 2]
    m.evals[:], m.good[:], m.bad[:] = [10, 20, 30], [3, 4, 5], [0, 1, 2]
    m.y = randn(3, 4, seed=7)
    record.failures[2] = "stopped"
    for mask in ([True, False, True], [False, True, False]):
        record.save_ends(m, np.array(mask))
    record.write_results()
    assert torch.equal(problem.y, m.y.reshape(3, 2, 2))
    assert problem.dissipated.tolist() == [0.1, 0.2, 0.3]
    assert problem.spent.tolist() == [[10, 20, 30], [3, 4, 5], [0, 1, 2]]
    assert (problem.accepted, problem.rejected, problem.t) == (12, 3, 1.5)
    assert len(problem.saved) == 3
    assert problem.failures == {2: "stopped"}


def test_the_solve_stops_if_every_member_failed():
    _, record, m = make_record()
    record.failures.update({0: "first", 1: "second", 2: "third"})
    record.save_ends(m, np.ones(3, bool))
    with pytest.raises(Stop, match=r"^first$"):
        record.write_results()


def test_record_is_restored_from_its_tensors():
    _, record, m = make_record()
    m.t[:], m.y = 1.0, randn(3, 4, seed=5)
    record.save_landed(m, np.arange(3))
    record.save_ends(m, np.array([True, False, False]))
    record.rise[:] = [0.0, 1e-9, 2e-9]
    _, restored, _ = make_record()
    restored.restore(record.tensors())
    for name, value in record.tensors().items():
        np.testing.assert_array_equal(value, restored.tensors()[name], err_msg=name)
