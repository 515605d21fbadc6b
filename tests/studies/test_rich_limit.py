"""Ends of diagonal networks: least norms, and the potential's minimiser between them."""

import pytest
import torch

from gflow.errors import InputError
from gflow.solvers import SolveOptions
from gflow.studies.rich_limit import least_l1_solution, rich_limit

X = torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]], dtype=torch.float64)
Y = torch.tensor([1.0, -1.0], dtype=torch.float64)


def followed(X, y, scales, loss_end=1e-20):
    options = SolveOptions(rtol=1e-6, atol=1e-9, points=10)
    return rich_limit(X, y, scales, loss_end, options=options, stages=lambda n, t: None)


@pytest.mark.slow
def test_ends_go_from_the_least_l2_norm_to_the_least_l1_norm():
    found = followed(X, Y, [1e-16, 0.3, 30.0])
    torch.testing.assert_close(found.ends[0], torch.linalg.pinv(X) @ Y, rtol=1e-4, atol=0)
    torch.testing.assert_close(found.ends[-1], found.least_l1, rtol=0, atol=1e-6)
    assert float(found.errors.max()) < 1e-8
    # Between them it is neither: both norms are above the least.
    assert float(found.ends[1].norm()) > 1.01 * float(found.least_l2.norm())
    assert float(found.ends[1].norm(p=1)) > 1.01 * float(found.least_l1.norm(p=1))
    assert all(path.certificate.holds for path in found.paths)


def test_least_l1_solution_has_the_least_norm_on_the_line_of_solutions():
    w = least_l1_solution(X, Y)
    torch.testing.assert_close(X @ w, Y)
    null = torch.linalg.svd(X).Vh[-1]
    others = w + torch.linspace(-2, 2, 401, dtype=torch.float64)[:, None] * null
    assert float(w.norm(p=1)) <= float(others.norm(p=1, dim=-1).min()) + 1e-12


def test_dependent_rows_are_refused():
    with pytest.raises(InputError, match="the rows of X must be independent, got 2 rows of 3"):
        followed(X[[0, 0]], Y, [1.0])
    with pytest.raises(InputError, match="got 3 rows of 2 inputs; use fewer samples"):
        followed(X.mT, torch.ones(3, dtype=torch.float64), [1.0])
