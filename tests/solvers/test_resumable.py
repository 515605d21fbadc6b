"""A solve is taken from a batch, restored from a piece, or computed."""

import pytest
import torch

import gflow
from gflow.execution import using
from gflow.execution.checkpointing import Checkpoint, Checkpointer
from gflow.flows import EndToEndFlow, FactorFlow
from gflow.losses import SquaredDistance
from gflow.solvers import methods
from gflow.solvers.problem import Problem, Stop
from gflow.solvers.resumable import SolveRequest, solve_resumable
from tests.helpers import randn, times

FLOW, START = EndToEndFlow.example()


class Store:
    """A store of pieces in memory."""

    def __init__(self):
        self.finished: list[Checkpoint] = []

    def put_pieces(self, first, pieces):
        self.finished[first:] = pieces

    def put_checkpoint(self, index, state):
        pass

    def pieces(self):
        return iter(list(self.finished))

    def checkpoint(self):
        return None

    def clear(self):
        self.finished.clear()


class Forbidden(Exception):
    """Raised by a solver that must not be called."""


def solve(name="tsit5", solver=None, **options):
    """Return a solved problem; the results come from the execution context if it has them."""
    given = {"rtol": 1e-6, "atol": 1e-9} | options
    problem = Problem(FLOW, START, [0.0, 0.5, 1.0], **given)
    solve_resumable(solver or methods()[name], problem, name, steps=True)
    return problem


def forbidden():
    class NeverCalled:
        names = ("tsit5",)

        def solve(self, problem, method):
            raise Forbidden

    return NeverCalled()


def same_results(a, b):
    """Return whether two problems have the same results."""
    fields = (
        "t",
        "rhs_evals",
        "accepted",
        "rejected",
        "remark",
        "main_methods",
        "failures",
        "event_times",
    )
    return (
        all(torch.equal(x, y) for x, y in zip(a.saved, b.saved, strict=True))
        and all(getattr(a, name) == getattr(b, name) for name in fields)
        and torch.equal(a.y, b.y)
        and torch.equal(a.dissipated, b.dissipated)
        and torch.equal(a.largest_rise, b.largest_rise)
        and a.spent.tolist() == b.spent.tolist()
    )


def test_without_a_context_the_solve_is_computed():
    problem = solve()
    assert problem.t == 1.0
    assert len(problem.saved) == 3
    with pytest.raises(Forbidden):
        solve(solver=forbidden())


def test_a_finished_solve_is_restored_with_every_result():
    store = Store()
    checkpointer = Checkpointer(store)
    with using(checkpointer=checkpointer):
        first = solve(sharpness=1)
    checkpointer.flush()
    with using(checkpointer=Checkpointer(store)):
        restored = solve(solver=forbidden(), sharpness=1)
    assert same_results(first, restored)
    assert restored.wall_seconds == pytest.approx(first.wall_seconds, abs=1e-9)
    assert torch.equal(
        torch.stack(restored.sharpness_path.values), torch.stack(first.sharpness_path.values)
    )


def test_a_solve_that_stopped_stops_again_for_the_same_reason():
    store = Store()
    reasons = []
    for solver in (None, forbidden()):
        checkpointer = Checkpointer(store)
        with using(checkpointer=checkpointer), pytest.raises(Stop, match="budget of 9") as caught:
            solve(solver=solver, max_evals=9)
        checkpointer.flush()
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]


def test_a_batch_may_serve_a_solve():
    direct, requests = solve(), []
    store = Store()
    checkpointer = Checkpointer(store)
    with using(checkpointer=checkpointer):
        solve()
    checkpointer.flush()

    def serve(request):
        requests.append(request)
        return store.finished[0]

    with using(serve=serve):
        answered = solve(solver=forbidden())
    assert same_results(answered, direct)
    (request,) = requests
    assert isinstance(request, SolveRequest)
    assert request.problem is answered
    assert request.name == "tsit5"


def test_a_batch_may_leave_a_solve_to_its_job():
    with using(serve=lambda request: None):
        assert same_results(solve(), solve())
    with using(serve=lambda request: None), pytest.raises(Forbidden):
        solve(solver=forbidden())


def test_a_segment_after_a_restored_one_goes_on_with_what_that_one_left():
    flow = FactorFlow(SquaredDistance(torch.diag(times(1.0, -0.2))))
    y0, store = 0.3 * randn(2, 2, seed=3), Store()

    def integrate():
        checkpointer = Checkpointer(store)
        with using(checkpointer=checkpointer):
            path = gflow.integrate(flow, y0, [0.0, 40.0], "bdf", 1e-3, 1e-6)
        checkpointer.flush()
        return path

    whole = integrate()
    assert "1 columns from t = " in whole.stats.reason
    del store.finished[1:]  # the run ended between the two segments
    resumed = integrate()
    assert torch.equal(resumed.ys, whole.ys)
    assert resumed.stats.rhs_evals == whole.stats.rhs_evals
