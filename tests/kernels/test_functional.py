"""Modules as functions of their parameters: Jacobians, products, and input errors."""

import pytest
import torch
from torch import nn

from gflow.errors import InputError
from gflow.kernels.functional import jacobian, prepare, pushforward
from tests.helpers import randn, relative
from tests.kernels.modules import MODULES, VECTORS, make


@pytest.mark.parametrize("name", MODULES)
def test_jacobian_is_that_of_each_point(name):
    module, x, _ = make(name)
    network, parameters, _, _, k = prepare(module, x, None, None)
    slopes = jacobian(network, parameters, x)
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    u = network(leaves, x)
    for i in range(len(x)):
        for o in range(k):
            expected = torch.autograd.grad(
                u[i, o], list(leaves.values()), retain_graph=True, materialize_grads=True
            )
            for value, truth in zip(slopes.values(), expected, strict=True):
                assert relative(value[i, o], truth) <= 1e-12


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"recurrent"}))
def test_pushforward_is_the_jacobian_times_tangents(name):
    module, x, _ = make(name)
    network, parameters, _, _, k = prepare(module, x, None, None)
    tangents = {n: randn(2, *p.shape, seed=i) for i, (n, p) in enumerate(parameters.items())}
    slopes = jacobian(network, parameters, x)
    expected = sum(
        torch.einsum("nkp,cp->cnk", slopes[n].flatten(2), v.flatten(1)) for n, v in tangents.items()
    )
    pushed = pushforward(network, parameters, x, tangents)
    assert pushed.shape == (2, len(x), k)
    assert relative(pushed, expected) <= 1e-12


def test_given_parameters_replace_those_of_the_module():
    module = nn.Linear(5, 2).double()
    values = {name: p.detach() + 1 for name, p in module.named_parameters()}
    prepared = prepare(module, VECTORS, None, values)
    expected = VECTORS @ values["weight"].mT + values["bias"]
    assert relative(prepared.network(prepared.parameters, VECTORS), expected) <= 1e-15
    with pytest.raises(InputError, match="these are not: bias"):
        prepare(module, VECTORS, None, {"weight": values["weight"]})


def test_points_of_another_precision_are_refused_and_integers_are_not():
    with pytest.raises(InputError, match="must have the dtype and device of the module's param"):
        prepare(nn.Linear(5, 2), VECTORS, None, None)
    assert prepare(nn.Embedding(4, 3), torch.arange(4), None, None).k == 3
