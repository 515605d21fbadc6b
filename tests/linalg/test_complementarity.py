"""Complementarity over the semidefinite cone: its conditions, and its closed form for K = 1."""

import pytest
import torch

from gflow.linalg.complementarity import complementary
from tests.helpers import randn, relative


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("rank", [2, 30])
def test_complementarity_holds(m, rank):
    for seed in range(5):
        G = randn(m, m, rank, seed=seed)
        G = ((G + G.transpose(0, 1)) / 2).reshape(m * m, rank)
        B = randn(m, m, seed=seed + 50)
        b = (G @ randn(rank, seed=seed + 90)).reshape(m, m) + 0.1 * (B + B.mT) - torch.eye(m)
        K = 0.5 * G @ G.mT
        X = complementary(K, b.double())
        S = (K @ X.flatten()).reshape(m, m) - b
        scale = float(b.norm())
        if float(X.norm()) > 1e6:  # a direction without curvature that b points along
            continue
        assert float(torch.linalg.eigvalsh(X)[0]) >= -1e-12 * float(X.norm())
        assert float(torch.linalg.eigvalsh(S)[0]) >= -1e-6 * scale
        assert abs(float((X * S).sum())) <= 1e-6 * scale * float(X.norm() + 1e-300)


@pytest.mark.parametrize("m", [2, 5])
def test_identity_gives_the_positive_part(m):
    B = randn(m, m)
    b = B + B.mT
    lam, V = torch.linalg.eigh(b)
    X = complementary(torch.eye(m * m, dtype=torch.float64), b)
    assert relative(X, (V * lam.clamp_min(0)) @ V.mT) <= 1e-10


def test_zero_where_nothing_has_curvature():
    assert not complementary(torch.zeros(4, 4).double(), torch.eye(2).double()).any()
    assert not complementary(torch.zeros(1, 1).double(), torch.ones(1, 1).double()).any()
