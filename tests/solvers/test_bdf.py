"""The formulas of a BDF step are right for polynomials, whatever the steps."""

import math

import numpy as np
import pytest
import torch

from gflow.solvers import bdf
from tests.helpers import randn

NEW = 1.3
TIMES = [1.0, 0.8, 0.75, 0.3, 0.1, -0.4, -0.45, -1.0]


def powers(degree):
    """t^degree and its slope at a time."""
    return (lambda t: t**degree), (lambda t: degree * t ** max(degree - 1, 0))


@pytest.mark.parametrize("order", range(1, 7))
def test_formulas_are_exact_up_to_their_degrees(order):
    formula = bdf.formulas(TIMES, NEW, order)
    assert sorted(formula.predictors) == [p for p in (order - 1, order, order + 1) if 1 <= p <= 6]
    for degree in range(8):
        value, slope = powers(degree)
        known = [value(t) for t in TIMES[: len(formula.slope)]]
        ends = formula.alpha * value(NEW) + np.dot(formula.slope, known)
        assert (ends == pytest.approx(slope(NEW), abs=1e-10)) == (degree <= order)
        for p, weights in formula.predictors.items():
            assert (np.dot(weights, known) == pytest.approx(value(NEW), abs=1e-10)) == (degree <= p)


@pytest.mark.parametrize("order", range(1, 7))
def test_errors_are_what_the_slope_formula_misses(order):
    """For t^{p+1} the formula of order p misses the slope by α_p times the error."""
    for p, part in bdf.formulas(TIMES, NEW, order).errors.items():
        formula = bdf.formulas(TIMES, NEW, p)
        value, slope = powers(p + 1)
        known = [value(t) for t in TIMES[: len(formula.slope)]]
        defect = (slope(NEW) - np.dot(formula.slope, known)) / formula.alpha - value(NEW)
        error = part * (value(NEW) - np.dot(formula.predictors[p], known))
        assert error == pytest.approx(defect, rel=1e-9)


def test_few_states_have_fewer_errors():
    assert list(bdf.formulas(TIMES[:3], NEW, 2).errors) == [1, 2]


@pytest.mark.parametrize("n", [1, 5, 40])
def test_a_linear_step_solves_its_equation(n):
    """α y + Σ w_j y_{n−j} = F(y), by more products than fit in the initial memory."""
    A = randn(n, n, seed=n)
    A = -(A @ A.mT) - torch.eye(n, dtype=torch.float64)
    states, formula = randn(4, n, seed=1), bdf.formulas(TIMES, NEW, 2)
    step = bdf.bdf_step(lambda y: A @ y, states, formula, 1e-9, 1e8)
    assert step.converged
    residual = A @ step.state - formula.alpha * step.state
    for weight, state in zip(formula.slope, states, strict=True):
        residual -= weight * state
    assert float(residual.norm()) <= formula.alpha * 1e-9
    assert math.isclose(
        float((A @ step.state - step.rate).norm()),
        float(residual.norm()),
        rel_tol=1e-3,
        abs_tol=1e-14,  # of one number the equation is solved exactly
    )


def test_a_decomposed_jacobian_stands_noise_of_stiff_modes():
    """A slow mode at 1e-12 beside one at 1, whose rate has round-off far above the slow one's."""
    A = torch.tensor([[-1.0, 0.5], [0.0, -1e-12]], dtype=torch.float64)
    times = [0.0, -1e10, -2e10, -3e10]
    slow = torch.exp(-1e-12 * torch.tensor(times, dtype=torch.float64))
    states, formula = torch.stack([0.5 * slow, slow], -1), bdf.formulas(times, 1e10, 2)
    calls = [0]

    def rhs(y):
        calls[0] += 1
        noise = torch.tensor([1e-15 * (-1) ** calls[0], 0.0], dtype=torch.float64)
        return A @ y + noise

    step = bdf.bdf_step(rhs, states, formula, 1e-9, 1.0, jacobian=lambda y: A)
    assert step.converged
    assert float(step.state[1]) == pytest.approx(math.exp(-1e-2), abs=1e-6)
    assert float(step.state[0]) == pytest.approx(0.5 * math.exp(-1e-2), abs=1e-6)
    assert calls[0] <= 3  # products are of the matrix


@pytest.mark.parametrize("jacobian", [torch.zeros(2, 2), torch.full((2, 2), math.nan)])
def test_a_jacobian_that_cannot_be_decomposed_makes_the_step_shorter(jacobian):
    formula, states = bdf.formulas(TIMES, NEW, 1), randn(3, 2)
    singular = jacobian.double() + formula.alpha * torch.eye(2, dtype=torch.float64)
    step = bdf.bdf_step(lambda y: -y, states, formula, 1e-9, 1.0, jacobian=lambda y: singular)
    assert not step.converged
