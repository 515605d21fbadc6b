"""Entries of products and sums over them, against dense matrices, with their derivatives."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import gflow.linalg.entries as module
from gflow.linalg.entries import EntryPattern
from tests.helpers import randn, relative

ROWS = torch.tensor([0, 0, 1, 3, 3, 3])
COLUMNS = torch.tensor([2, 2, 0, 1, 0, 2])  # an entry twice, a row without
PATTERN = EntryPattern(ROWS, COLUMNS, (4, 3))


def dense(values):
    G = torch.zeros(*values.shape[:-1], 4, 3, dtype=values.dtype)
    for k in range(6):
        G[..., ROWS[k], COLUMNS[k]] += values[..., k]
    return G


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_products_are_those_of_dense_matrices(batch, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 8)  # several blocks
    A, B, z = randn(*batch, 4, 2), randn(*batch, 2, 3, seed=1), randn(*batch, 6, seed=2)
    W = A @ B
    assert relative(PATTERN.of_product(A, B), W[..., ROWS, COLUMNS]) <= 1e-15
    assert torch.equal(PATTERN.take(W), W[..., ROWS, COLUMNS])
    assert relative(PATTERN.spread(z), dense(z)) <= 1e-15
    assert relative(PATTERN.times(z, B.mT), dense(z) @ B.mT) <= 1e-15
    assert relative(PATTERN.transposed_times(z, A), dense(z).mT @ A) <= 1e-15


def test_sparse_products_of_both_libraries_agree(monkeypatch):
    z, B = randn(6, seed=2), randn(3, 2, seed=1)
    by_scipy = PATTERN.times(z, B), PATTERN.transposed_times(z, randn(4, 2))
    monkeypatch.setattr(module, "shared_array", lambda values: None)  # as on a device
    assert relative(PATTERN.times(z, B), by_scipy[0]) <= 1e-15
    assert relative(PATTERN.transposed_times(z, randn(4, 2)), by_scipy[1]) <= 1e-15


def test_derivatives_of_both_orders():
    A, B, z = randn(4, 2), randn(2, 3, seed=1), randn(6, seed=2)
    for check in (gradcheck, gradgradcheck):
        leaves = [x.clone().requires_grad_() for x in (A, B, z)]
        assert check(PATTERN.of_product, leaves[:2])
        assert check(PATTERN.times, [leaves[2], B.mT.clone().requires_grad_()])
        assert check(PATTERN.transposed_times, [leaves[2], leaves[0]])


def test_the_largest_tensor_of_a_product_is_one_block(monkeypatch):
    """Not all gathered rows at once, which may be more than the dense matrix."""
    monkeypatch.setattr(module, "_BLOCK", 2)
    gathered = []
    original = torch.mv

    def mv(rows, *rest, **keywords):
        gathered.append(rows.numel())
        return original(rows, *rest, **keywords)

    monkeypatch.setattr(torch, "mv", mv)
    PATTERN.of_product(randn(4, 2), randn(2, 3))
    assert gathered == [2] * 6
