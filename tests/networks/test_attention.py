"""Attention against its formulas, and what its flows conserve."""

import pytest
import torch
from torch import nn

import gflow
from gflow.data.sequences import in_context_regression, modular_addition
from gflow.networks.attention import LinearAttention, Transformer
from tests.helpers import randn, relative


def transformer():
    torch.manual_seed(0)
    return Transformer((2,), 5, 5, width=6, heads=2, activation=nn.Tanh()).double()


def test_linear_attention_is_its_formula():
    torch.manual_seed(0)
    model = LinearAttention(3, heads=2, rank=4).double()
    X = randn(5, 7, 3)
    parts = zip(model.value, model.key, model.query, strict=True)
    expected = sum(
        torch.einsum("c,ncd,rd,re,ne->n", v, X.mT @ X / 6, K, Q, X[:, -1]) for v, K, Q in parts
    )
    assert relative(model(X)[:, 0], expected) <= 1e-13


def test_the_transformer_has_one_block_and_reads_the_last_place():
    model, ids = transformer(), torch.tensor([[0, 4], [3, 1]])
    x = model.embedding(ids) + model.positions
    seen = model.attention_norm(x)
    x = x + model.attention(seen, seen, seen)[0]
    x = x + model.mlp(model.mlp_norm(x))
    expected = model.readout(model.norm(x))[:, -1]
    assert relative(model(ids), expected) <= 1e-14
    other = transformer()
    assert not torch.allclose(other(ids), other(ids.flip(1)))  # places matter


def test_the_flow_of_a_transformer_is_certified_with_its_laws():
    data = modular_addition(5)
    ids, labels = torch.tensor(data.inputs).long(), torch.tensor(data.targets[:, 0]).long()
    flow = gflow.NetworkFlow(transformer(), nn.functional.cross_entropy, ids, labels)
    kinds = {law.name.split("_")[0] for law in flow.laws}
    assert len(flow.laws) >= 4, kinds
    path = gflow.integrate(flow, flow.pack(), [0.0, 5.0], rtol=1e-8, atol=1e-11)
    assert path.certificate.holds, path.certificate.failures()
    assert max(path.certificate.invariant_drift.values()) < 1e-7


def test_vectors_are_read_as_tokens_are():
    model = Transformer((4, 3), None, 2, width=4, heads=1, activation=nn.ReLU()).double()
    assert model(randn(5, 4, 3)).shape == (5, 2)


@pytest.mark.slow
def test_linear_attention_learns_in_context():
    data = in_context_regression(20, 10, 2)
    X = torch.tensor(data.inputs).reshape(20, *data.shape)
    torch.manual_seed(1)
    model = LinearAttention(3, heads=2, rank=1).double()
    flow = gflow.NetworkFlow(model, nn.functional.mse_loss, X, torch.tensor(data.targets))
    path = gflow.integrate(flow, flow.pack(), [0.0, 20.0], rtol=1e-5)
    assert path.certificate.holds, path.certificate.failures()
    assert float(path.losses[-1]) < 0.5 * float(torch.tensor(data.targets).square().mean())
