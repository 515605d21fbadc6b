"""Krylov spaces: the functions φ_p, the bound on the error, invariant subspaces."""

import math

import numpy as np
import pytest
import torch

from gflow.errors import InputError
from gflow.linalg.lanczos import Lanczos, phi
from tests.helpers import randn, relative, times
from tests.linalg.operators import SPECTRA, operator, truth


@pytest.mark.parametrize("order", [0, 1, 2])
def test_phi_is_its_series(order):
    z = np.array([0.0, 1e-12, 1e-3, 0.29, 0.31, 2.0])
    series = sum((-z) ** j / math.factorial(j + order) for j in range(40))
    assert np.abs(phi(order, np.ones(6), z) / series - 1).max() <= 1e-14
    t = 3.0
    assert phi(order, np.array([t]), z / t) == pytest.approx(t**order * series, rel=1e-14)
    big = {0: 0.0, 1: 1e-9, 2: 1e-9}[order]  # t^p φ_p → t^{p−1}/θ
    assert phi(order, np.ones(1), np.array([1e9]))[0] == pytest.approx(big, rel=1e-8)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_bound_holds_and_is_tight(order, name):
    """At every size of the space, at several times: never below the error, and, before
    round-off, within a factor of a hundred of it."""
    lam = SPECTRA[name]
    H, V = operator(lam)
    r = randn(3, len(lam), seed=1)
    space = Lanczos(lambda v: v @ H, r)
    ts, near, seen = [0.1, 1.0, 10.0], 0, 0
    exact = truth(order, ts, lam, V, r)
    for step in (1, 1, *[4] * 17):
        space.extend(step)
        s = np.array(ts)[:, None, None]
        error = (space.apply(lambda th, s=s: phi(order, s, th)) - exact).norm(dim=2).numpy()
        truncated, blurred = space.bound(np.array(ts), order)
        assert (error <= 1.001 * (truncated + blurred) + 1e-12 * space.norms * max(ts)).all()
        large = error > 1e-9 * space.norms
        seen, near = seen + large.sum(), near + (truncated[large] <= 100 * error[large]).sum()
    assert seen > 0
    assert near == seen


def test_basis_and_ritz_values_of_the_full_space():
    lam = SPECTRA["uniform"]
    H, _ = operator(lam)
    space = Lanczos(lambda v: v @ H, randn(2, len(lam), seed=1))
    space.extend(len(lam))
    theta, V = space.ritz()
    assert np.abs(theta - lam.numpy()).max() <= 1e-12 * float(lam[-1])
    assert np.abs(V.transpose(0, 2, 1) @ V - np.eye(len(lam))).max() <= 1e-12
    start = space.apply(lambda theta: np.ones((1, *theta.shape)))[0]
    assert relative(start, randn(2, len(lam), seed=1)) <= 1e-13


def test_the_basis_is_orthonormal_to_round_off():
    lam = SPECTRA["decaying"]
    H, _ = operator(lam)
    space = Lanczos(lambda v: v @ H, randn(3, len(lam), seed=1))
    space.extend(60)
    Q = space._basis[:, :60]
    assert float((Q @ Q.mT - torch.eye(60).double()).abs().max()) <= 1e-13


def test_an_invariant_space_has_no_error():
    lam = times(5.0, 3.0, *[1.0] * 10)
    r = torch.zeros(1, 12).double()
    r[0, :2] = 1.0
    space = Lanczos(lambda v: v * lam, r)
    space.extend(6)
    bound, _ = space.bound(np.array([10.0]), 0)
    assert bound.max() == 0.0
    decayed = space.apply(lambda theta: phi(0, np.array([[[0.3]]]), theta))[0]
    assert relative(decayed, r * torch.exp(-0.3 * lam)) <= 1e-14


def test_a_negative_eigenvalue_is_an_error():
    space = Lanczos(lambda v: v * times(1, -1), torch.ones(1, 2).double())
    space.extend(2)
    with pytest.raises(InputError, match="positive semidefinite, but it has an eigenvalue below"):
        space.ritz()
