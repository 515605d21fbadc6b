"""Exponentials of symmetric operators, acting on vectors."""

import math

import numpy as np
import pytest
import torch

from gflow.errors import InputError
from gflow.linalg.exponential import exponential
from tests.helpers import randn, relative, times, worst_relative
from tests.linalg.operators import SPECTRA, operator, truth


def relative_tolerance(rtol):
    return lambda w: rtol * w.norm(dim=1)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", SPECTRA)
def test_all_times_from_one_space(order, name):
    lam = SPECTRA[name]
    H, V = operator(lam)
    r = randn(2, len(lam), seed=1)
    size = r.norm(dim=1) * 20.0**order
    (segment,) = exponential(lambda v: v @ H, r, 20.0, lambda w: 1e-9 * size, order=order)
    ts = [1e-6, 1e-3, 0.1, 3.0, 20.0]
    exact = truth(order, ts, lam, V, r)
    result = segment.values(np.array(ts))
    assert ((result - exact).norm(dim=2) <= 1e-9 * size).all()
    h = 1e-5
    slope = (segment.values(np.array([1.0 + h])) - segment.values(np.array([1.0 - h]))) / (2 * h)
    assert relative(segment.rates(np.array([1.0])), slope) <= 1e-5


def test_products_are_few_where_the_spectrum_decays():
    """Eigenvalues over five orders of magnitude, far fewer products than dimensions."""
    lam = 400 * torch.arange(1, 501, dtype=torch.float64) ** -2.0
    r = randn(1, 500)
    (segment,) = exponential(lambda v: v * lam, r, 100.0, relative_tolerance(1e-8))
    assert segment.space.size <= 100
    assert relative(segment.values(np.array([100.0]))[0], r * torch.exp(-100 * lam)) <= 1e-8


@pytest.mark.parametrize("order", [0, 1])
def test_little_memory_cuts_the_time(order):
    lam = SPECTRA["uniform"]
    H, V = operator(lam)
    r = randn(1, len(lam), seed=1)
    calls = []
    segments = list(
        exponential(
            lambda v: calls.append(1) or v @ H,
            r,
            5.0,
            relative_tolerance(1e-8),
            order=order,
            memory=20 * len(lam),
        )
    )
    assert len(segments) > 1
    assert max(p.space.size for p in segments) <= 20
    assert [p.begin for p in segments[1:]] == [p.end for p in segments[:-1]]
    assert segments[-1].end == 5.0
    for p in segments:
        exact = truth(order, [p.end], lam, V, r)[0]
        error = float((p.values(np.array([p.end]))[0] - exact).norm())
        assert error <= 1.01 * float(p.error[0]) + 1e-13 * float(r.norm())
    assert error <= 1e-8 * float(exact.norm())
    assert len(calls) == sum(p.space.size for p in segments) + (len(segments) - 1 if order else 0)


def test_a_budget_of_products_ends_the_last_segment_early():
    lam = SPECTRA["uniform"]
    r = randn(1, len(lam))
    calls = []
    (segment,) = exponential(
        lambda v: calls.append(1) or v * lam,
        r,
        50.0,
        lambda w: 1e-6 * r.norm(dim=1),
        max_products=25,
    )
    assert len(calls) == 25
    assert 0 < segment.end < 50
    exact = r * torch.exp(-segment.end * lam)
    assert relative(segment.values(np.array([segment.end]))[0], exact) <= 1e-5
    assert (
        list(exponential(lambda v: v * lam, r, 50.0, lambda w: 0 * w[:, 0], max_products=0)) == []
    )


def test_invariant_subspaces_and_zero_starts_end_early():
    lam = times(5.0, 3.0, 1.0, 0.0, 0.0, *[2.0] * 40)
    r = torch.zeros(3, 45, dtype=torch.float64)
    r[0, :2] = 1.0
    r[1, 3:5] = 1.0  # in the null space
    calls = []
    (segment,) = exponential(
        lambda v: calls.append(1) or v * lam, r, 1e6, lambda w: torch.full((3,), 1e-12)
    )
    assert len(calls) <= 8
    result = segment.values(np.array([0.3, 1e6]))
    exact = torch.stack([r * torch.exp(-t * lam) for t in (0.3, 1e6)])
    assert float((result - exact).abs().max()) <= 1e-14
    assert float(segment.error.max()) <= 1e-12


def test_columns_are_independent():
    lam = SPECTRA["decaying"]
    H, _ = operator(lam)
    r = randn(4, len(lam), seed=2) * times(1.0, 1e-6, 1e6, 1.0)[:, None]
    (together,) = exponential(lambda v: v @ H, r, 3.0, relative_tolerance(1e-11))
    for i in range(4):
        (single,) = exponential(lambda v: v @ H, r[i : i + 1], 3.0, relative_tolerance(1e-11))
        ts = np.array([0.1, 3.0])
        assert worst_relative(together.values(ts)[:, i], single.values(ts)[:, 0]) <= 1e-10


def test_float32():
    lam = SPECTRA["decaying"]
    H, V = operator(lam)
    r = randn(2, len(lam))
    (segment,) = exponential(lambda v: v @ H.float(), r.float(), 1.0, relative_tolerance(1e-4))
    result = segment.values(np.array([1.0]))
    assert result.dtype == torch.float32
    assert relative(result.double(), truth(0, [1.0], lam, V, r)) <= 2e-4


def test_invalid_operators_are_refused():
    r = torch.ones(1, 5, dtype=torch.float64)
    with pytest.raises(InputError, match=r"positive semidefinite.*below -1\b"):
        list(exponential(lambda v: v * times(1, 2, 3, -1, 0), r, 1.0, relative_tolerance(1e-6)))
    with pytest.raises(InputError, match="returned NaN or infinity"):
        list(exponential(lambda v: v * math.nan, r, 1.0, relative_tolerance(1e-6)))
