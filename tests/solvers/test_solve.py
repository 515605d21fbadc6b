"""The reference states of a solve, computed at most once."""

import pytest
import torch

import gflow
from gflow.flows import EndToEndFlow, FactorFlow
from gflow.losses import SquaredDistance
from gflow.solvers import SolveOptions
from gflow.solvers.solve import finer_states, solve
from gflow.trajectory import relative_error
from tests.helpers import randn, times


class Counting(EndToEndFlow):
    """Counts how often its closed form is looked up and evaluated."""

    def __init__(self, *args):
        super().__init__(*args)
        self.calls = {"closed_form": 0, "exact": 0}

    def closed_form(self, y0):
        self.calls["closed_form"] += 1
        return super().closed_form(y0)

    def exact(self, ts, y0):
        self.calls["exact"] += 1
        return super().exact(ts, y0)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"estimate_error": True}, {"method": "tsit5"}])
def test_closed_form_is_looked_up_once_a_solve(depth, options):
    M = torch.diag(times(3.0, 2.0))
    flow = Counting(SquaredDistance(M), depth)
    path = gflow.integrate(flow, 0.3 * M, [0.0, 0.5, 1.0], **options)
    assert flow.calls["closed_form"] == 1
    if path.stats.method != "exact":
        assert flow.calls["exact"] == 1  # for the error estimate
        assert path.certificate.error_estimate is not None


def test_a_missing_closed_form_is_looked_up_once_a_solve():
    flow = Counting(SquaredDistance(randn(2, 3)), 3)
    gflow.integrate(flow, 0.3 * randn(2, 3, seed=1), [0.0, 0.5])
    assert flow.calls == {"closed_form": 1, "exact": 0}


def test_a_study_measures_its_error_by_the_closed_form_of_the_solve():
    M = torch.diag(times(3.0, 2.0))
    flow = Counting(SquaredDistance(M), 2)
    gflow.step_size_study(flow, 0.3 * M, 1.0, [0.1, 0.05], method="tsit5", points=2)
    assert flow.calls == {"closed_form": 1, "exact": 1}


def test_reference_states_are_those_of_a_finer_solve_by_auto_that_lands_on_midpoints():
    flow, y0 = FactorFlow.example()
    options = SolveOptions("dopri5", 1e-4, 1e-7, estimate_error=True)
    solution = solve(flow, y0, [0.0, 1.0, 3.0], options)
    finer = finer_states(flow, y0, [0.0, 1.0, 3.0], SolveOptions(rtol=1e-4, atol=1e-7))
    assert torch.equal(solution.reference, finer)
    landed = gflow.integrate(flow, y0, [0.0, 0.5, 1.0, 2.0, 3.0], "auto", 1e-5, 1e-8)
    assert relative_error(flow, finer, landed.ys[[0, 2, 4]]) <= 1e-5
    assert solution.reference_states() is solution.reference
    path = solution.trajectory
    error = relative_error(flow, path.ys, solution.reference)
    assert path.certificate.error_estimate == error > 0


def test_reference_states_are_computed_on_request():
    flow, y0 = FactorFlow.example()
    solution = solve(flow, y0, [0.0, 1.0], SolveOptions("dopri5"))
    assert solution.reference is None
    assert solution.trajectory.certificate.error_estimate is None
    expected = finer_states(flow, y0, [0.0, 1.0], SolveOptions())
    assert torch.equal(solution.reference_states(), expected)


def test_the_error_of_fixed_steps_is_measured_with_half_of_them():
    flow, y0 = FactorFlow.example()
    options = SolveOptions("rk4", estimate_error=True)
    solution = solve(flow, y0, [0.0, 1.0], options, step_size=0.1)
    finer = finer_states(flow, y0, [0.0, 1.0], options, step_size=0.05)
    assert torch.equal(solution.reference, finer)
    halved = solve(flow, y0, [0.0, 1.0], options, step_size=0.05)
    errors = [s.trajectory.certificate.error_estimate for s in (solution, halved)]
    assert 8 < errors[0] / errors[1] < 32  # of order 4
