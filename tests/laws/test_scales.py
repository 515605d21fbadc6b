"""Factors that products of features pass on: no law is false, whatever else reads them."""

import pytest
import torch
from torch import nn

from gflow import laws
from gflow.laws import counting
from tests.laws.networks import noise


class Product(nn.Module):
    """Attention without softmax, with something done to its logits."""

    def __init__(self, change):
        super().__init__()
        self.q, self.k, self.v, self.q2, self.k2 = (nn.Linear(3, 2) for _ in range(5))
        self.out, self.change = nn.Linear(2, 2), change

    def more(self, x):
        return self.q2(x) @ self.k2(x).transpose(-2, -1)

    def forward(self, x):
        logits = self.q(x) @ self.k(x).transpose(-2, -1) / 5
        return self.change(self, x, logits, self.v(x))


#: What is done, and the names of the laws of factors.
CHANGES = {
    "plain": (lambda m, x, L, v: m.out(L @ v), ["scale_q_v"]),
    "batched": (lambda m, x, L, v: m.out(torch.bmm(L, v)), ["scale_q_v"]),
    "transposed": (lambda m, x, L, v: m.out(-L.mT @ v), ["scale_q_v"]),
    "ReLU": (lambda m, x, L, v: m.out(torch.relu(L) @ v), ["scale_q_v"]),
    "applied twice": (lambda m, x, L, v: m.out(L @ (L @ v)), ["scale_q_v"]),
    "two products": (lambda m, x, L, v: m.out(m.more(x) @ (L @ v)), ["scale_q_v", "scale_v_q2"]),
    "GELU": (lambda m, x, L, v: m.out(nn.functional.gelu(L) @ v), []),
    "softmax, too": (lambda m, x, L, v: m.out(L @ v + torch.softmax(L, -1) @ v), []),
    "shifted": (lambda m, x, L, v: m.out((L + 1.0) @ v), []),
    "a sum": (lambda m, x, L, v: m.out((L + L @ L) @ v), []),
    "values, too": (lambda m, x, L, v: m.out(L @ v + v), []),
    "an output, too": (lambda m, x, L, v: torch.cat([m.out(L @ v), L @ x], -1), []),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_found_is_conserved(change):
    function, expected = CHANGES[change]
    torch.manual_seed(0)
    module = Product(function).double()
    found = laws.find(module)
    assert [law.name for law in found if law.name.startswith("scale")] == expected
    parameters = dict(module.named_parameters())
    outputs = counting._outputs(module, parameters, noise(8, 4, 3))
    theta = noise(sum(p.numel() for p in parameters.values()))
    gradients = counting._known_gradients(module, parameters, theta)
    assert counting._orthogonal_to_outputs(gradients, outputs, theta).shape == gradients.shape


def test_a_number_is_a_parameter_like_others():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.second(self.first(x)) * self.scale

    counted = laws.count(Scaled(), noise(9, 2))
    assert counted.parameters == 14
    assert counted.found > 0
