"""The empirical NTK against a plain loop over Jacobians, by every method and in blocks."""

from pathlib import Path

import pytest
import torch
from torch import nn

import gflow
from gflow.data import load
from gflow.errors import InputError
from gflow.kernels import empirical_ntk, empirical_ntk_product
from tests.helpers import randn, relative, slow_except
from tests.kernels.modules import MODULES, VECTORS, by_loop, make, mean_over_outputs, perceptron

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", MODULES)
def test_every_method_agrees_with_a_loop_over_jacobians(name):
    module, x, dense = make(name)
    square, wide = by_loop(module, x), by_loop(module, x[:2], x[1:])
    for method in ("auto", "jacobian", "products", *(("structured",) if dense else ())):
        for full in (True, False):
            reduced = (lambda K: K) if full else mean_over_outputs
            result = empirical_ntk(module, x, full=full, method=method)
            assert result.shape == reduced(square).shape
            assert relative(result, reduced(square)) <= 1e-12, (method, full)
            flat = result.flatten(2).flatten(0, 1) if full else result
            assert torch.equal(flat, flat.mT)
            result = empirical_ntk(module, x[:2], x[1:], full=full, method=method)
            assert relative(result, reduced(wide)) <= 1e-12, (method, full)
    if not dense:
        with pytest.raises(InputError, match=r"does not apply.* 'structured' needs dense"):
            empirical_ntk(module, x, method="structured")


@pytest.mark.slow
@pytest.mark.parametrize("full", slow_except([False, True], True))
@pytest.mark.parametrize("method", ["jacobian", "structured", "products"])
def test_memory_stays_within_the_limit(method, full, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from kernel_flow import LiveMemory

    torch.manual_seed(0)
    module, x, z = perceptron(8, 40, 3).double(), randn(12, 8), randn(9, 8, seed=1)
    for points in ((x, None), (x, z)):
        expected = empirical_ntk(module, *points, full=full, method=method)
        with pytest.raises(InputError, match="max_memory must be at least about") as error:
            empirical_ntk(module, *points, full=full, method=method, max_memory=expected.nbytes)
        least = int(str(error.value).split("about ")[1].split()[0])
        for max_memory in (least, 2 * least, 10 * least):
            with LiveMemory() as live:
                result = empirical_ntk(
                    module, *points, full=full, method=method, max_memory=max_memory
                )
            assert live.peak <= max_memory
            assert relative(result, expected) <= 1e-13
            if points[1] is None:
                flat = result.flatten(2).flatten(0, 1) if full else result
                assert torch.equal(flat, flat.mT)


def test_the_mean_over_outputs_is_the_kernel_of_one_output_of_a_wide_network():
    """Σ over layers of the ReLU recursion (Jacot et al. 2018), at infinite width."""
    torch.manual_seed(0)
    m, k = 4096, 8

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.W, self.V = nn.Parameter(torch.randn(m, 4)), nn.Parameter(torch.randn(k, m))

        def forward(self, x):
            return torch.relu(x @ self.W.mT) @ self.V.mT / m**0.5

    x = nn.functional.normalize(randn(5, 4), dim=1)
    inner = (x @ x.mT).clamp(-1, 1)
    angle = torch.arccos(inner)
    first_layer = inner * (torch.pi - angle) / (2 * torch.pi)
    second_layer = (angle.sin() + (torch.pi - angle) * inner) / (2 * torch.pi)
    result = empirical_ntk(Wide().double(), x)
    assert float((result - first_layer - second_layer).abs().max()) <= 5 / m**0.5


def test_three_layers_on_digits_in_both_precisions():
    x = torch.as_tensor(load("digits").inputs[:60]) / 16
    torch.manual_seed(0)
    module = perceptron(64, 128, 128, 10, activation=nn.ReLU).double()
    expected = mean_over_outputs(by_loop(module, x))
    assert relative(empirical_ntk(module, x), expected) <= 1e-12
    result = empirical_ntk(module.float(), x.float())
    assert result.dtype == torch.float32
    assert relative(result.double(), expected) <= 1e-6
    assert float(torch.linalg.eigvalsh(result)[0]) >= -1e-5 * float(result.trace())


def test_kernel_at_given_parameters():
    module, x, _ = make("perceptron")
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, x, randn(6, 3))
    theta = flow.pack() + 0.1
    result = empirical_ntk(module, x, params=flow.parameters_dict(theta))
    nn.utils.vector_to_parameters(theta, module.parameters())
    assert relative(result, mean_over_outputs(by_loop(module, x))) <= 1e-12
    before = {name: p.clone() for name, p in module.state_dict().items()}
    empirical_ntk(module, x, params=flow.parameters_dict(2 * theta))
    assert all(torch.equal(p, before[name]) for name, p in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_outputs_that_depend_on_no_parameter_and_points_of_zeros():
    module, x, _ = make("perceptron")
    bias_only = empirical_ntk(nn.Linear(5, 2).double(), torch.zeros_like(x))
    assert torch.equal(bias_only, torch.ones(6, 6).double())
    double = empirical_ntk(module, torch.cat([x, x[:1]]))
    assert relative(double[6], double[0]) <= 1e-15
    assert empirical_ntk(module, x[:1]).shape == (1, 1)

    class Constant(nn.Linear):
        def forward(self, x):
            return x + 0 * self.bias.sum()

    assert not empirical_ntk(Constant(5, 5).double(), x).any()


class Uneven(nn.Linear):
    def forward(self, x):
        return super().forward(x) - super().forward(x).mean(0)


@pytest.mark.parametrize(
    ("module", "x", "keys", "message"),
    [
        (nn.Linear(5, 2), VECTORS, {}, r"float32 on cpu, got torch.float64.*convert"),
        (nn.Linear(5, 2).double(), VECTORS[:0], {}, r"n ≥ 1, got \(0, 5\)"),
        (nn.Linear(5, 2).double(), [1.0], {}, r"got \[1.0\]"),
        (nn.Linear(5, 2).double(), VECTORS / 0, {}, "x1 must be finite"),
        (nn.Linear(4, 2).double(), VECTORS, {}, "cannot be called on .*mat1 and mat2"),
        (nn.Linear(5, 2).double().requires_grad_(False), VECTORS, {}, "no trainable parameter"),
        (
            nn.Sequential(nn.Linear(5, 2), nn.Dropout()).double(),
            VECTORS,
            {},
            "'1' in training mode",
        ),
        (nn.Sequential(nn.BatchNorm1d(5)).double(), VECTORS, {}, "BatchNorm1d '0' in training"),
        (nn.LSTM(5, 2).double(), randn(3, 2, 5), {}, "floating-point tensor of 1 rows, got tuple"),
        (Uneven(5, 2).double(), VECTORS, {}, "depend on its own input alone"),
        (torch.jit.script(nn.Linear(5, 2).double()), VECTORS, {}, "cannot be called.*[Jj]it"),
        (nn.Linear(5, 2).double(), VECTORS, {"method": "magic"}, "auto or one of.*got 'magic'"),
        (
            nn.Linear(5, 2).double(),
            VECTORS,
            {"params": {"weight": torch.zeros(2, 4).double(), "bias": torch.zeros(2).double()}},
            "these are not: weight",
        ),
        (nn.Linear(5, 2).double(), VECTORS, {"params": {}}, "these are not: bias, weight"),
        (nn.Linear(5, 2).double(), VECTORS, {"max_memory": 10}, "or use empirical_ntk_product"),
    ],
)
def test_input_errors(module, x, keys, message):
    with pytest.raises(InputError, match=message):
        empirical_ntk(module, x, **keys)
    if not {"method", "max_memory"} & keys.keys():
        with pytest.raises(InputError, match=message):
            empirical_ntk_product(module, x, **keys)


class Doubled(torch.autograd.Function):
    """An operation that torch.func does not know."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, slope):
        return 2 * slope


def test_a_module_that_torch_func_cannot_handle_has_a_kernel_but_no_products():
    class Strange(nn.Linear):
        def forward(self, x):
            return Doubled.apply(super().forward(x)) + 0 * self.weight.sum()

    torch.manual_seed(0)
    module = Strange(5, 2).double()
    for full in (True, False):
        expected = by_loop(module, VECTORS) if full else mean_over_outputs(by_loop(module, VECTORS))
        assert relative(empirical_ntk(module, VECTORS, full=full), expected) <= 1e-12
    with pytest.raises(InputError, match=r"'products' derivatives by torch.func"):
        empirical_ntk(module, VECTORS, method="products")
    with pytest.raises(InputError, match=r"torch.func cannot.*use empirical_ntk"):
        empirical_ntk_product(module, VECTORS)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return self.scale * self.layer(x)


@pytest.mark.parametrize("method", ["jacobian", "products"])
def test_a_scalar_parameter(method):
    module, x = Scaled().double(), randn(4, 3)
    u = module.layer(x).detach()
    scaled = module.scale.detach() ** 2 * (x @ x.mT + 1)
    expected = scaled + u @ u.mT / 2
    assert relative(empirical_ntk(module, x, method=method), expected) <= 1e-14
