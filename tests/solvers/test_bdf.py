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
