import math

import numpy as np
import pytest
import torch

from gflow.solvers.explicit import Dop853, Tsit5
from tests.helpers import randn
from tests.solvers.steps import diagonal_step, global_error, manufactured, solution, step
from tests.solvers.test_tableaus import matrix

METHODS = [Tsit5(), Dop853()]
ORDERS = {"tsit5": 5, "dop853": 8}
COST = {"tsit5": 6, "dop853": 12}
each = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


@each
def test_fitted_order_on_a_non_linear_non_autonomous_problem(method):
    counts = [8, 16, 32] if method.name == "dop853" else [32, 64, 128]
    errors = [global_error(method, n) for n in counts]
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert order == pytest.approx(ORDERS[method.name], abs=0.3), errors


@each
def test_fitted_order_of_the_estimate(method):
    steps = np.array([0.2, 0.1, 0.05]) / (1 if method.name == "dop853" else 4)
    estimates, errors = [], []
    for h in steps:
        taken = step(method, manufactured, 0.3, solution(0.3), h)
        estimates.append(float(taken.error.norm()))
        errors.append(float((taken.y - solution(0.3 + h)).norm()))
    order = np.polyfit(np.log(steps), np.log(estimates), 1)[0]
    assert order == pytest.approx(
        method.error_order, abs=0.5
    )  # the estimate of dop853 is not a power of h
    assert all(error < estimate for error, estimate in zip(errors, estimates, strict=True))


@each
def test_stability_limit_on_the_negative_axis(method):
    limit = method.reach(method.stages(0.0))
    z = -np.linspace(0, limit, 1000)
    assert diagonal_step(method, z).y.abs().max() <= 1
    beyond = -limit * np.linspace(1.0, 1.1, 50)[1:]
    assert diagonal_step(method, beyond).y.abs().max() > 1


@each
def test_step_is_the_stability_polynomial(method):
    """R(z) = Σ zⁿ b·Aⁿ⁻¹·1, beginning as e^z."""
    A, b = matrix(method.tableau)[:-1, :-1], np.array(method.tableau.b)
    z = -np.linspace(0.0, 3.0, 20)
    power, R = np.ones(len(b)), np.ones_like(z)
    for n in range(1, len(b) + 1):
        R = R + (b @ power) * z**n
        if n <= ORDERS[method.name]:
            assert b @ power == pytest.approx(1 / math.factorial(n), abs=1e-14)
        power = A @ power
    assert np.abs(diagonal_step(method, z).y[0].numpy() - R).max() < 1e-12


@each
def test_step_measures_stiffness_without_extra_evaluations(method):
    """Exactly h|λ| for a single mode; close to it where a stiff mode dominates."""
    for product in (0.5, 2.0, 3.0):
        taken = diagonal_step(method, [-product])
        assert float(taken.signal()) == pytest.approx(product, rel=1e-6)
    stiff = diagonal_step(method, [-3.4, -0.1, -0.01])
    assert float(stiff.signal()) == pytest.approx(3.4, rel=0.1)


@each
def test_number_of_evaluations_and_unchanged_input(method):
    calls = []

    def rhs(t, Y):
        calls.append(t)
        return -Y

    z = torch.ones(1, 3, dtype=torch.float64)
    taken = step(method, rhs, 2.0, z, 0.5)
    assert len(calls) == 1 + COST[method.name]
    assert calls[-1] == 2.5
    assert all(2.0 <= t <= 2.5 for t in calls)
    assert torch.equal(z, torch.ones_like(z))
    assert torch.equal(taken.k, -0.5 * taken.y)


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_members_are_independent(method, dtype):
    rates = -torch.tensor([[0.1, 0.5, 1.0], [2.0, 0.3, 0.0], [0.0, 0.0, 0.0]], dtype=dtype)
    together = step(method, lambda t, Y: rates * Y, 0.0, torch.ones_like(rates), 1.0)
    assert together.y.dtype == together.error.dtype == dtype
    for i, rate in enumerate(rates):
        single = diagonal_step(method, rate, dtype=dtype)
        assert torch.allclose(together.y[i], single.y[0], rtol=4e-7, atol=0)
        assert torch.allclose(together.error[i], single.error[0], rtol=1e-3, atol=1e-7)
    assert torch.equal(together.error[2], torch.zeros(3, dtype=dtype))


def velocity(t, Y):
    return torch.sin(Y @ randn(3, 3, seed=1).to(Y)) - t * Y


@each
def test_reused_memory_does_not_change_the_step(method):
    y, fewer = randn(5, 3, seed=4), randn(2, 3, seed=5)
    first = step(method, velocity, 0.0, y, 0.1)
    copy, fresh = first.y.clone(), type(method)()
    for states in (y, fewer, fewer.float(), y):
        reused, recomputed = (step(m, velocity, 0.2, states, 0.1) for m in (method, fresh))
        assert torch.equal(reused.y, recomputed.y)
        assert torch.equal(reused.k, recomputed.k)
        assert torch.equal(reused.error, recomputed.error)
        fresh = type(method)()
    assert torch.equal(first.y, copy)
