"""Each contraction's tiles against a plain loop over Jacobians, and their order of cost."""

import pytest

from gflow.kernels.contractions import JacobianContraction, LayerContraction, ProductContraction
from gflow.kernels.functional import prepare
from tests.helpers import relative
from tests.kernels.modules import by_loop, make

KINDS = (JacobianContraction, ProductContraction, LayerContraction)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("full", [True, False])
def test_tiles_are_blocks_of_the_kernel(kind, full):
    module, x, _ = make("perceptron")
    network, parameters, *_ = prepare(module, x, None, None)
    contraction = kind(network, parameters, full)
    rows, columns = contraction.prepare_rows(x[:2]), contraction.prepare_columns(x[2:])
    expected = by_loop(module, x[:2], x[2:])
    expected = expected if full else expected.diagonal(dim1=1, dim2=3).sum(-1)
    assert relative(contraction.tile(rows, columns), expected) <= 1e-12


@pytest.mark.parametrize("kind", [k for k in KINDS if k.symmetric])
def test_rows_and_columns_of_a_symmetric_contraction_are_equal(kind):
    module, x, _ = make("perceptron")
    network, parameters, *_ = prepare(module, x, None, None)
    contraction = kind(network, parameters, full=False)
    prepared = contraction.prepare_columns(x)
    expected = by_loop(module, x).diagonal(dim1=1, dim2=3).sum(-1)
    assert relative(contraction.tile(prepared, prepared), expected) <= 1e-12


def test_work_follows_the_table_of_the_paper():
    k, size, forward = 10, 1000, 900
    traced, full = ([kind(None, {}, f).work(k, size, forward) for kind in KINDS] for f in (0, 1))
    assert traced == [10_000, 40_000, 0]
    assert full == [100_000, 40_000, 0]
