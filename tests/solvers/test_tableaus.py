"""Order conditions of the tableaus: Σ b_i Φ_i(τ) = 1/γ(τ) for every rooted tree τ (Butcher)."""

import functools
import itertools
import math

import numpy as np
import pytest

from gflow.solvers.tableaus import DOP853, TSIT5

TABLEAUS = {"tsit5": (TSIT5, 5), "dop853": (DOP853, 8)}  # with their orders
ESTIMATES = {"tsit5": [4], "dop853": [5, 3]}  # orders of the embedded solutions
each = pytest.mark.parametrize("name", TABLEAUS)


@functools.cache
def trees(size):
    """All rooted trees with this number of nodes; a tree is the sorted tuple of its children."""
    if size == 1:
        return [()]
    distinct = set()
    for partition in partitions(size - 1, size - 1):
        for children in itertools.product(*(trees(n) for n in partition)):
            distinct.add(tuple(sorted(children)))
    return sorted(distinct)


def partitions(total, largest):
    if total == 0:
        yield ()
    for n in range(min(total, largest), 0, -1):
        for rest in partitions(total - n, n):
            yield (n, *rest)


def size(tree):
    return 1 + sum(map(size, tree))


def density(tree):
    return size(tree) * math.prod(map(density, tree))


def weights(tree, A):
    """Φ_i(τ) = Π over children Σ_j a_ij Φ_j(child)."""
    product = np.ones(len(A))
    for child in tree:
        product = product * (A @ weights(child, A))
    return product


def matrix(table):
    """A, with the step's end as its last stage."""
    rows = [*table.a, table.b]
    A = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        A[i, : len(row)] = row
    return A


def test_numbers_of_rooted_trees():
    assert [len(trees(n)) for n in range(1, 9)] == [1, 1, 2, 4, 9, 20, 48, 115]


@each
def test_order_conditions_by_rooted_trees(name):
    table, order = TABLEAUS[name]
    A = matrix(table)
    assert np.abs(A.sum(axis=1)[:-1] - table.c).max() < 1e-14
    for n in range(1, order + 1):
        for tree in trees(n):
            defect = table.b @ weights(tree, A)[:-1] - 1 / density(tree)
            assert abs(defect) < 2e-14, tree
    defects = [table.b @ weights(tree, A)[:-1] - 1 / density(tree) for tree in trees(order + 1)]
    assert max(map(abs, defects)) > 1e-7


@each
def test_orders_of_the_error_estimates_by_rooted_trees(name):
    table, _ = TABLEAUS[name]
    A = matrix(table)
    for order, errors in zip(ESTIMATES[name], table.errors, strict=True):
        for n in range(1, order + 1):
            for tree in trees(n):
                assert abs(errors @ weights(tree, A)) < 2e-14, (order, tree)
        assert max(abs(errors @ weights(tree, A)) for tree in trees(order + 1)) > 1e-5
