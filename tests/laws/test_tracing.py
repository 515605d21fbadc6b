import pytest
import torch
from torch import nn

from gflow import laws
from gflow.errors import InputError
from tests.laws.networks import CASES, linear, tied


def random_parameters(module):
    torch.manual_seed(1)
    return {
        name: (p + 0.4 * torch.randn_like(p)).detach().requires_grad_()
        for name, p in module.named_parameters()
    }


@pytest.mark.parametrize("name", CASES)
def test_no_loss_of_the_outputs_changes_a_law(name):
    make, inputs, _ = CASES[name]
    torch.manual_seed(0)
    module = make().double()
    parameters = random_parameters(module)
    outputs = torch.func.functional_call(module, parameters, (inputs,))
    loss = (torch.randn_like(outputs) * outputs).sum() + outputs.pow(4).mean()
    gradient = torch.autograd.grad(loss, parameters.values(), allow_unused=True)
    slope = {
        n: torch.zeros_like(p) if g is None else g
        for (n, p), g in zip(parameters.items(), gradient, strict=True)
    }
    for law in laws.find(module):
        value = law(parameters)
        weights = torch.randn_like(value)
        along = torch.autograd.grad((weights * value).sum(), parameters.values(), allow_unused=True)
        pairs = [(a, g) for a, g in zip(along, slope.values(), strict=True) if a is not None]
        change = abs(sum((a * g).sum() for a, g in pairs))
        size = sum(g.norm() for g in slope.values()) * sum(a.norm() for a, _ in pairs)
        assert change <= 1e-14 * size, law


def test_laws_of_linear_layers_are_their_balancedness():
    module = linear(3, 4, 2, bias=True).double()
    (law,) = laws.find(module)
    W1, b1, W2, _ = (p.detach() for p in module.parameters())
    D = W2.T @ W2 - W1 @ W1.T - torch.outer(b1, b1)
    torch.testing.assert_close(law(dict(module.named_parameters())), D)
    torch.testing.assert_close(law(dict(module.named_parameters()), diagonal=True), D.diag())


def test_an_ensemble_has_leading_dimensions():
    module = linear(3, 4, 2, act=nn.ReLU).double()
    (law,) = laws.find(module)
    one = dict(module.named_parameters())
    two = {name: torch.stack([p, 2 * p]) for name, p in one.items()}
    torch.testing.assert_close(law(two), torch.stack([law(one), 4 * law(one)]))


def test_names_are_identifiers_and_differ():
    for make, _, _ in CASES.values():
        names = [law.name for law in laws.find(make())]
        assert all(name.isidentifier() for name in names)
        assert len(set(names)) == len(names)


def test_a_shared_layer_counts_once_in_each_role():
    (law,) = laws.find(tied())
    assert law.formula == (
        "|2.weight columns|² + |6.weight columns|² − |0.weight rows|² − |0.bias|² "
        "− |2.weight rows|² − |2.bias|²"
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m[0].register_forward_hook(lambda layer, args, out: out.tanh()),
        lambda m: m[2].weight.requires_grad_(False),
        lambda m: nn.utils.parametrizations.weight_norm(m[2]),
        lambda m: m.insert(1, nn.GELU()),
    ],
)
def test_what_breaks_a_symmetry_leaves_no_law(spoil):
    module = linear(3, 4, 2, act=nn.ReLU)
    spoil(module)
    assert laws.find(module) == []


class _Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("module", [_Branching(), 3, nn.Linear])
def test_modules_without_a_graph_are_refused_in_one_line(module):
    with pytest.raises(InputError) as error:
        laws.find(module)
    assert "\n" not in str(error.value)


def test_a_weight_with_two_unlike_uses_has_no_law():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.second(torch.relu(self.first(x))) + torch.tanh(self.second.weight).sum()

    assert laws.find(Twice()) == []


def test_a_layer_of_several_inputs_alone_is_refused():
    with pytest.raises(InputError, match="pass the parts of it that are plain layers"):
        laws.find(nn.MultiheadAttention(4, 2))
