"""One product with many columns is the batch of products with few."""

import pytest

from gflow.linalg.columns import on_columns
from tests.helpers import randn, relative


@pytest.mark.parametrize("batch", [(), (4,), (2, 0), (2, 3)])
def test_it_is_the_batched_product(batch):
    M, v, calls = randn(5, 3), randn(*batch, 3, 2, seed=1), []

    def product(u):
        calls.append(u.shape)
        return M @ u

    result = on_columns(product, v)
    assert result.shape == (*batch, 5, 2)
    if result.numel():
        assert relative(result, M @ v) <= 1e-15
    assert len(calls) == 1
    assert len(calls[0]) == 2
