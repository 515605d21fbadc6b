"""The maximum margin does not depend on units, and is found however small it is."""

import math

import pytest
import torch
from scipy.optimize import linprog

from gflow.baselines import max_margin
from gflow.errors import InputError
from tests.helpers import randn, relative

ONES = torch.ones(2)


@pytest.mark.parametrize("unit", [1e-300, 1e-160, 1e-8, 1e160, 1e300])
def test_units_of_inputs_change_the_margin_alone(unit):
    X = randn(20, 3)
    labels = X[:, 0] > 0
    found, expected = max_margin(X * unit, labels), max_margin(X, labels)
    assert found.margin / unit == pytest.approx(expected.margin, rel=1e-10)
    assert relative(found.solution * unit, expected.solution) <= 1e-9
    assert found.support.tolist() == expected.support.tolist()


@pytest.mark.parametrize("size", [1e3, 1e9, 1e12])
@pytest.mark.parametrize("rotated", [False, True])
def test_inputs_of_sizes_far_apart_are_separated(size, rotated):
    R = torch.linalg.qr(randn(2, 2))[0] if rotated else torch.eye(2).double()
    found = max_margin(torch.diag(torch.tensor([1.0, size]).double()) @ R, ONES)
    w = R @ found.solution  # (1, 1/size)
    assert w[0].item() == pytest.approx(1.0, rel=1e-12)
    assert w[1].item() == pytest.approx(1 / size, abs=1e-15)
    assert found.margin == pytest.approx(1 / math.hypot(1, 1 / size), rel=1e-12)


@pytest.mark.parametrize("margin", [1e-4, 1e-8, 1e-10, 1e-12])
def test_a_small_margin_is_found(margin):
    """The least w is e/margin for pairs ±q + margin·e with q ⟂ e."""
    q = torch.cat([torch.zeros(4, 1).double(), randn(4, 3)], dim=1)
    e = torch.eye(4).double()[0]
    inputs, labels = torch.cat([q + margin * e, -q + margin * e, 5 * e[None]]), torch.ones(9)
    found = max_margin(inputs, labels)
    assert found.margin == pytest.approx(margin, rel=1e-9)
    assert relative(found.direction, e) <= 1e-16 / margin


def test_what_is_separable_is_what_a_linear_program_says():
    for seed in range(30):
        X = randn(2 + seed % 7, 1 + seed % 4, seed=seed)
        n, d = X.shape
        program = linprog(
            [0.0] * d + [-1.0],
            A_ub=torch.cat([-X, torch.ones(n, 1)], dim=1).numpy(),
            b_ub=[0.0] * n,
            bounds=[(-1, 1)] * d + [(None, None)],
        )
        if -program.fun > 1e-9:
            assert float((X @ max_margin(X, torch.ones(n)).solution).min()) >= 1 - 1e-9
        else:
            with pytest.raises(InputError, match="separable"):
                max_margin(X, torch.ones(n))


def test_a_solution_that_overflows_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"the dtype of the data, torch.float32") as info:
        max_margin(torch.full((1, 1), 1e-40), torch.ones(1))
    assert "\n" not in str(info.value)
    with pytest.raises(InputError, match=r"row 1 .* is; no direction"):
        max_margin(torch.tensor([[1.0], [0.0]]), ONES)
