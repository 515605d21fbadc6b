"""Layers affine in their parameters: the forms that are recognised, and others."""

import pytest
import torch

from gflow.kernels.affine_layers import layer_factors
from tests.helpers import randn, relative
from tests.kernels.modules import VECTORS, by_loop

W, V, B = randn(4, 5), randn(3, 4, seed=1), randn(3, seed=2)
#: name -> network of the parameters W, V and B
AFFINE = {
    "matmul": lambda p, x: torch.tanh(x @ p["W"].T) @ p["V"].mT,
    "linear": lambda p, x: torch.nn.functional.linear(torch.tanh(x @ p["W"].T), p["V"], p["B"]),
    "scaled": lambda p, x: torch.relu(0.5 * (x @ (2.0 * p["W"]).T)) @ (p["V"] / 3).T + 0.1 * p["B"],
    "bias in front": lambda p, x: p["B"] + torch.matmul(torch.tanh(x @ p["W"].t()), p["V"].t()),
    "in place": lambda p, x: (x @ p["W"].T).relu_() @ p["V"].T,
}
OTHER = {
    "square of a weight": lambda p, x: torch.tanh(x @ p["W"].T.square()) @ p["V"].T,
    "product of weights": lambda p, x: x @ (p["V"] @ p["W"]).T,
    "bias of one output": lambda p, x: torch.tanh(x @ p["W"].T) @ p["V"].T + p["B"][:1],
    "weight times a vector": lambda p, x: (x @ p["W"].T) * p["V"][0],
    "mean over rows": lambda p, x: torch.tanh(x @ p["W"].T).mean(0) @ p["V"].T + x[:, :3],
}


@pytest.mark.parametrize("name", AFFINE)
def test_factors_of_known_forms_give_the_kernel(name):
    network, parameters = AFFINE[name], {"W": W, "V": V, "B": B}
    layers = layer_factors(network, parameters, VECTORS)
    kernel = torch.zeros(6, 3, 6, 3, dtype=torch.float64)
    for uses in layers.values():
        for first in uses:
            for second in uses:
                inner = first.inputs @ second.inputs.mT
                kernel += torch.einsum("ij,iam,jbm->iajb", inner, first.slopes, second.slopes)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for key, value in parameters.items():
                self.register_parameter(key, torch.nn.Parameter(value.clone()))

        def forward(self, x):
            return network(dict(self.named_parameters()), x)

    assert relative(kernel, by_loop(Module(), VECTORS)) <= 1e-12


@pytest.mark.parametrize("name", OTHER)
def test_other_forms_are_not_recognised(name):
    assert layer_factors(OTHER[name], {"W": W, "V": V, "B": B}, VECTORS) is None


def test_an_input_that_was_overwritten_is_not_recognised():
    def network(p, x):
        hidden = torch.tanh(x @ p["W"].T).detach()
        out = hidden @ p["V"].T
        hidden.mul_(2.0)
        return out

    assert layer_factors(network, {"W": W, "V": V}, VECTORS) is None


def test_a_weight_shared_by_two_layers_is_not_recognised():
    def network(p, x):
        return torch.nn.functional.linear(x, p["W"], p["b"]) + torch.tanh(x @ p["W"].T)

    assert layer_factors(network, {"W": W, "b": randn(4)}, VECTORS) is None
