"""Flows of losses of few entries, without W, against the same loss of the dense matrix."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, FactorFlow, LayerwiseFlow
from gflow.losses import EntryCompletion, MatrixCompletion
from tests.helpers import ensemble_of, randn, relative


def both(rows, columns, seed=0):
    """Return one loss as a list of entries and as a matrix."""
    values, mask = randn(rows, columns, seed=seed), randn(rows, columns, seed=seed + 1) > 0
    i, j = torch.nonzero(mask, as_tuple=True)
    order = torch.randperm(len(i), generator=torch.Generator().manual_seed(0))
    i, j = i[order], j[order]
    few = MatrixCompletion.from_entries(i, j, values[i, j], (rows, columns))
    return few, MatrixCompletion(values, mask)


@pytest.mark.parametrize("dims", [[7, 2, 6], [7, 5, 3, 6], [7, 2, 3, 2, 6]], ids=str)
def test_layers_move_as_with_the_matrix(dims):
    few, dense = both(6, 7)
    flow, truth = LayerwiseFlow(few, dims), LayerwiseFlow(dense, dims)
    assert flow._entries is not None
    y = randn(*flow.state_shape, seed=3)
    v = randn(*flow.state_shape, seed=4)
    for states in (y, ensemble_of(y)):
        assert relative(flow(0.0, states), truth(0.0, states)) <= 1e-14
        assert relative(flow.loss(states), truth.loss(states)) <= 1e-14
        assert relative(flow.reference(states), truth.reference(states)) <= 1e-13
        seen, expected = flow.observables(states), truth.observables(states)
        width = min(dims)
        assert relative(seen["singular_values"], expected["singular_values"][..., :width]) <= 1e-13
        for name in ("effective_rank", "nuclear_norm", "balancedness", "loss"):
            assert relative(seen[name], expected[name]) <= 1e-13
    assert relative(flow.jvp(y, v), truth.jvp(y, v)) <= 1e-13
    i, j = torch.tensor([5, 0, 5]), torch.tensor([1, 6, 1])
    assert (
        relative(flow.entries(ensemble_of(y), i, j), flow.end_to_end(ensemble_of(y))[..., i, j])
        <= 1e-14
    )


def test_wide_layers_one_layer_and_the_matrix_itself_use_the_products():
    few, dense = both(5, 5)
    W = randn(5, 5, seed=3)
    assert relative(few(W), dense(W)) <= 1e-15
    assert relative(few.gradient(W), dense.gradient(W)) <= 1e-15
    for make in (
        lambda loss: LayerwiseFlow(loss, [5, 4, 5]),
        lambda loss: LayerwiseFlow(loss, [5, 5]),
        lambda loss: EndToEndFlow(loss, 3),
        lambda loss: gflow.ProductFlow(loss),
    ):
        flow, truth = make(few), make(dense)
        y = randn(*flow.state_shape, seed=3)
        y = y @ y.mT if isinstance(flow, gflow.ProductFlow) else y
        assert relative(flow(0.0, y), truth(0.0, y)) <= 1e-13
    y, i = randn(25), torch.tensor([1, 0])
    one = LayerwiseFlow(few, [5, 5])
    assert torch.equal(one.entries(y, i, i), y.reshape(5, 5)[i, i])


def test_symmetric_factors_move_as_with_the_matrix():
    few, dense = both(6, 6)
    U = randn(6, 2, seed=5)
    flow, truth = FactorFlow(few), FactorFlow(dense)
    for states in (U, ensemble_of(U)):
        assert relative(flow(0.0, states), truth(0.0, states)) <= 1e-14
        assert relative(flow.loss(states), truth.loss(states)) <= 1e-14
        assert relative(flow.loss_and_velocity(states)[1], truth(0.0, states)) <= 1e-14


def test_a_solve_makes_no_matrix(monkeypatch):
    few, dense = both(9, 8)
    truth = LayerwiseFlow(dense, [8, 2, 9])
    y0 = truth.balanced_start((0.1 * randn(9, 2, seed=6), randn(2, 8, seed=7)))
    ts = [0.0, 5.0, 20.0]
    states = gflow.integrate(truth, y0, ts, rtol=1e-6, atol=1e-9).ys

    def refuse(*args):
        raise AssertionError("a matrix was made")

    for name in ("__call__", "gradient"):
        monkeypatch.setattr(EntryCompletion, name, refuse)
    monkeypatch.setattr(LayerwiseFlow, "end_to_end", refuse)
    path = gflow.integrate(LayerwiseFlow(few, [8, 2, 9]), y0, ts, rtol=1e-6, atol=1e-9)
    assert path.certificate.holds, path.certificate
    assert not path.certificate.not_run
    assert relative(path.ys, states) <= 1e-5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.tensor([0, 2])}, r"rows must be from 0 to 1 for shape \(2, 3\), got 2"),
        ({"columns": torch.tensor([0, -1])}, r"columns must be from 0 to 2 .* got -1"),
        ({"columns": torch.tensor([0])}, r"one number for each entry, got shapes \(1,\) and"),
        ({"rows": torch.tensor([0.0, 1.0])}, "rows must be whole numbers, got torch.float32"),
        ({"values": torch.tensor([0.0, torch.nan])}, "values must be finite"),
        ({"shape": (2, 3, 1)}, r"shape must be \(d_N, d_0\)"),
        ({"shape": (0, 3)}, "each of shape must be"),
    ],
)
def test_entries_are_checked(change, message):
    i = torch.tensor([0, 1])
    given = {"rows": i, "columns": i, "values": torch.ones(2).double(), "shape": (2, 3)}
    with pytest.raises(InputError, match=message):
        MatrixCompletion.from_entries(**given | change)
