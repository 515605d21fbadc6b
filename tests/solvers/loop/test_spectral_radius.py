"""The estimate of max(−Re λ) is a slight upper bound in every spectrum, in few products."""

import numpy as np
import pytest
import torch

from gflow.flows import EndToEndFlow, ProductFlow
from gflow.losses import SquaredDistance
from gflow.solvers.loop.spectral_radius import first_vectors, spectral_radius
from tests.helpers import randn, relative, times

MARGIN = 1.15  # on an estimate from below


def symmetric(values, seed=0):
    n = len(values)
    Q = torch.linalg.qr(randn(n, n, seed=seed))[0]
    A = (Q * torch.as_tensor(values, dtype=torch.float64)) @ Q.mT
    return (A + A.mT) / 2, Q


def estimate(A, y=None, vectors=None):
    """Return the radius of ẏ = A y, the vector, and the number of products."""
    n = len(A)
    y = randn(1, n, seed=3) if y is None else y
    calls = []

    def rhs(state):
        calls.append(len(state))
        return state @ A.to(state).mT

    f = y @ A.to(y).mT
    start = first_vectors(y) if vectors is None else vectors
    radius, vectors = spectral_radius(rhs, y, f, start)
    return radius, vectors, len(calls)


def overestimates(radius, truth):
    """Return whether each estimate is a slight upper bound."""
    return truth <= radius <= 1.01 * MARGIN * truth


SPECTRA = {
    "spread": -torch.linspace(0.1, 50.0, 40),
    "decades": -torch.logspace(-4, 3, 60),
    "outliers": -torch.cat(
        [torch.linspace(0.0, 1.0, 95), torch.tensor([10.0, 40.0, 55.0, 90.0, 91.0])]
    ),
    "multiple": -torch.tensor([7.0] * 30 + [1.0] * 30),
    "one": torch.tensor([-3.0]),
}


@pytest.mark.parametrize("kind", SPECTRA)
def test_symmetric_jacobian(kind):
    values = SPECTRA[kind].double()
    A, _ = symmetric(values)
    radius, vectors, products = estimate(A)
    assert overestimates(radius[0], float(-values.min())), radius
    assert products <= 20
    assert float(vectors.norm()) == pytest.approx(1.0)


@pytest.mark.parametrize("up", [1.0, 60.0, 1e4])
def test_jacobian_at_a_saddle(up):
    """Positive eigenvalues, even larger ones, need no stages: the estimate respects the sign."""
    values = torch.cat([-torch.linspace(0.1, 50.0, 20), torch.tensor([0.3 * up, up])])
    A, _ = symmetric(values)
    radius, _, _ = estimate(A)
    assert overestimates(radius[0], 50.0), radius


def test_radius_is_zero_where_nothing_decays():
    A, _ = symmetric(torch.linspace(0.5, 5.0, 6))
    radius, vectors, _ = estimate(A)
    assert radius[0] == 0.0
    assert torch.isfinite(vectors).all()


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_zero_jacobian(at):
    """At a stationary start a power iteration would divide by zero."""
    A = torch.zeros(5, 5, dtype=torch.float64)
    radius, vectors, products = estimate(A, torch.full((1, 5), at, dtype=torch.float64))
    assert radius[0] == 0.0
    assert float(vectors.norm()) == pytest.approx(1.0)
    assert products == 1


def skewed(A, seed):
    """Similar to the symmetric A, as a reduced flow's Jacobian is near a minimum."""
    G = randn(*A.shape, seed=seed)
    P = torch.linalg.cholesky(torch.eye(len(A)) + G @ G.mT / 5)
    return P @ A @ torch.linalg.inv(P)


@pytest.mark.parametrize("kind", ["spread", "decades", "outliers", "multiple"])
def test_unsymmetric_jacobian(kind):
    A, _ = symmetric(SPECTRA[kind].double())
    radius, _, _ = estimate(skewed(A, 9))
    assert overestimates(radius[0], float(-SPECTRA[kind].min())), radius


def test_unsymmetric_jacobian_with_slow_convergence():
    A, _ = symmetric(-torch.linspace(0.1, 80.0, 25))
    radius, _, _ = estimate(skewed(A, 9))
    assert overestimates(radius[0], 80.0), radius


def test_complex_eigenvalues_count_by_their_real_part():
    A = torch.zeros(4, 4, dtype=torch.float64)
    A[:2, :2] = torch.tensor([[-3.0, 20.0], [-20.0, -3.0]])
    A[2, 2], A[3, 3] = -1.0, -2.0
    radius, _, _ = estimate(A)
    assert overestimates(radius[0], 3.0), radius


def jacobian(flow, y):
    return torch.func.jacrev(lambda v: flow(0.0, v.reshape(y.shape)).reshape(-1))(y.reshape(-1))


@pytest.mark.parametrize("kind", ["EndToEndFlow", "ProductFlow"])
@pytest.mark.parametrize("near", [0.0, 0.5])
def test_reduced_flows(kind, near):
    """Their Jacobian is not symmetric; tested at a minimum and away from it."""
    target = torch.diag(times(3.0, 2.0, 1.5, 1.0))
    flow = {
        "EndToEndFlow": EndToEndFlow(SquaredDistance(target), 3),
        "ProductFlow": ProductFlow(SquaredDistance(target)),
    }[kind]
    move = randn(4, 4, seed=1)
    y = target + near * (move + move.mT) / 4
    J = jacobian(flow, y)
    if near:
        assert relative(J, J.mT) > 1e-2
    truth = float(-torch.linalg.eigvals(J).real.min())
    rows = y.reshape(1, -1)

    def rhs(states):
        return flow(0.0, states.reshape(y.shape)).reshape(1, -1)

    radius, _ = spectral_radius(rhs, rows, rhs(rows), first_vectors(rows))
    assert overestimates(radius[0], truth), (radius, truth)


@pytest.mark.parametrize("members", [3, 20])
def test_every_member_has_its_radius(members):
    """A member that settles early waits for the others; one that is NaN does not affect them."""
    n = 12
    bases = [symmetric(-torch.linspace(0.1, 1.0, n), seed=i)[0] for i in range(members)]
    largest = torch.logspace(0, 4, members, dtype=torch.float64)
    A = torch.stack([top * base for top, base in zip(largest, bases, strict=True)])
    A[1] = torch.nan
    y = randn(members, n)

    def rhs(states):
        return torch.einsum("bij,bj->bi", A, states)

    radius, vectors = spectral_radius(rhs, y, rhs(y), first_vectors(y))
    assert np.isnan(radius[1])
    for i in set(range(members)) - {1}:
        assert overestimates(radius[i], float(largest[i])), i
    assert torch.isfinite(vectors).all()
    assert vectors.norm(dim=1).numpy() == pytest.approx(np.ones(members))


def test_warm_start_takes_few_products():
    A, _ = symmetric(SPECTRA["outliers"].double())
    _, vectors, _ = estimate(A)
    radius, new_vectors, warm = estimate(1.1 * A, vectors=vectors)
    assert overestimates(radius[0], 1.1 * 91.0)
    assert warm <= 3
    drift, _ = symmetric(0.5 * randn(100, seed=4))
    radius, _, third = estimate(A + drift, vectors=new_vectors)
    truth = float(-torch.linalg.eigvalsh(A + drift)[0])
    assert overestimates(radius[0], truth)
    assert third <= 4


def test_a_warm_start_from_the_wrong_vector_still_converges():
    """The eigenvectors have changed: the old vector now belongs to a small eigenvalue."""
    A, Q = symmetric(-torch.linspace(1.0, 100.0, 30))
    nearly = Q[:, 0] + 1e-3 * Q.sum(dim=1)
    radius, _, _ = estimate(A, vectors=(nearly / nearly.norm())[None])
    assert overestimates(radius[0], 100.0), radius


def test_float32():
    A, _ = symmetric(-torch.linspace(0.1, 50.0, 30))
    radius, vectors, _ = estimate(A, y=randn(1, 30).float())
    assert vectors.dtype == torch.float32
    assert overestimates(radius[0], 50.0), radius


def test_non_linear_about_a_large_state():
    """The step of the difference scales with the size of the state."""
    y = 1e6 * (1 + randn(1, 5).abs())
    radius, _ = spectral_radius(lambda s: -(s**3), y, -(y**3), first_vectors(y))
    assert overestimates(radius[0], float(3 * y.max() ** 2)), radius


def test_non_linear_about_a_small_state():
    y = 1e-14 * (1 + randn(1, 5).abs())
    radius, _ = spectral_radius(lambda s: -(s**3), y, -(y**3), first_vectors(y))
    assert overestimates(radius[0], float(3 * y.max() ** 2)), radius


def test_first_vectors_are_the_same_for_every_member():
    a, b = first_vectors(torch.zeros(3, 7)), first_vectors(torch.ones(3, 7).double())
    assert torch.equal(a, b.float())
    assert torch.equal(a[0], a[2])
    assert a.norm(dim=1).tolist() == pytest.approx([1.0] * 3)
