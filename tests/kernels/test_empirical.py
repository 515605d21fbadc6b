"""The empirical NTK against a plain loop over Jacobians, whatever the way and the blocks."""

import itertools
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import functional_call

import gflow
from gflow.data import load
from gflow.errors import InputError
from gflow.kernels import empirical_ntk, empirical_ntk_product
from tests.helpers import randn, relative

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Tied(nn.Module):
    """A layer used twice, and weights used by two layers with biases of their own."""

    def __init__(self, shared_weight=False):
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 5), nn.Linear(5, 5 if shared_weight else 2)
        if shared_weight:
            self.outer.weight = self.inner.weight

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(torch.tanh(self.inner(x)))))


class Scaled(nn.Module):
    """NTK parametrisation: scalars times weights, transposes, biases added by hand."""

    def __init__(self):
        super().__init__()
        self.W, self.U = nn.Parameter(torch.randn(8, 5)), nn.Parameter(torch.randn(8, 8))
        self.V, self.b = nn.Parameter(torch.randn(3, 8)), nn.Parameter(torch.randn(3))

    def forward(self, x):
        h = torch.relu(x @ self.W.mT / 5**0.5)
        h = torch.relu(nn.functional.linear(h, 8**-0.5 * self.U))
        return h @ (self.V / 8**0.5).T + 0.3 * self.b


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.outer(self.inner(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.inner(x, x, x)[0].mean(1)


def perceptron(*dims, activation=nn.Tanh):
    layers = []
    for a, b in itertools.pairwise(dims):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def half_frozen():
    module = perceptron(5, 7, 3)
    module[0].weight.requires_grad_(False)
    return module


def normalised():
    module = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 2))
    module(torch.randn(9, 5))
    return module.eval()


VECTORS = randn(6, 5)
#: name -> (module, points, whether all its layers are dense)
MODULES = {
    "perceptron": (lambda: perceptron(5, 7, 7, 3), VECTORS, True),
    "in place": (
        lambda: perceptron(5, 7, 3, activation=lambda: nn.ReLU(True)),
        VECTORS,
        1,
    ),
    "one output": (lambda: nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), VECTORS, True),
    "scaled": (Scaled, VECTORS, True),
    "used twice": (Tied, VECTORS, True),
    "frozen": (half_frozen, VECTORS, True),
    "shared weight": (lambda: Tied(True), VECTORS, False),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7)), VECTORS, False),
    "batch norm": (normalised, VECTORS, False),
    "along a sequence": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)),
        randn(6, 3, 5),
        False,
    ),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)),
        randn(6, 1, 4, 4),
        False,
    ),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)),
        torch.arange(18).reshape(6, 3) % 7,
        False,
    ),
    "recurrent": (Recurrent, randn(6, 3, 5), False),
    "attention": (Attention, randn(6, 3, 4), False),
}


def make(name):
    torch.manual_seed(0)
    build, points, dense = MODULES[name]
    return build().double(), points, bool(dense)


def by_loop(module, x1, x2=None):
    """J Jᵀ, (n1, k, n2, k), from torch.autograd.functional.jacobian point after point."""
    own = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def jacobian(x):
        rows = []
        for point in x:

            def outputs(*values, point=point):
                return functional_call(
                    module, dict(zip(own, values, strict=True)), (point[None],)
                ).flatten()

            parts = torch.autograd.functional.jacobian(outputs, tuple(own.values()))
            rows.append(torch.cat([part.flatten(1) for part in parts], dim=1))
        return torch.stack(rows)

    first = jacobian(x1)
    second = first if x2 is None else jacobian(x2)
    return torch.einsum("iaq,jbq->iajb", first, second)


def mean_over_outputs(kernel):
    return kernel.diagonal(dim1=1, dim2=3).mean(-1)


@pytest.mark.parametrize("name", MODULES)
def test_every_way_agrees_with_a_loop_over_jacobians(name):
    module, x, dense = make(name)
    square, wide = by_loop(module, x), by_loop(module, x[:2], x[1:])
    for method in ("auto", "jacobian", "products", *(("structured",) if dense else ())):
        for full in (True, False):
            want = (lambda K: K) if full else mean_over_outputs
            got = empirical_ntk(module, x, full=full, method=method)
            assert got.shape == want(square).shape
            assert relative(got, want(square)) <= 1e-12, (method, full)
            flat = got.flatten(2).flatten(0, 1) if full else got
            assert torch.equal(flat, flat.mT)
            got = empirical_ntk(module, x[:2], x[1:], full=full, method=method)
            assert relative(got, want(wide)) <= 1e-12, (method, full)
    if not dense:
        with pytest.raises(InputError, match=r"does not apply.* 'structured' needs dense"):
            empirical_ntk(module, x, method="structured")


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"recurrent"}))
@pytest.mark.parametrize("max_memory", [2**32, None])
def test_products_make_the_kernel_times_a_vector(name, max_memory):
    module, x, _ = make(name)
    if max_memory is None:  # the least, so that points and vectors are taken one by one
        with pytest.raises(InputError, match="max_memory must be at least about") as told:
            empirical_ntk_product(module, x, max_memory=1)
        max_memory = int(str(told.value).split("about ")[1].split()[0])
    for full in (True, False):
        for points in ((x, None), (x[:2], x[1:])):
            kernel = by_loop(module, *points)
            matrix = kernel.flatten(2).flatten(0, 1) if full else mean_over_outputs(kernel)
            product = empirical_ntk_product(module, *points, full=full, max_memory=max_memory)
            for shape in ((), (1,), (3,)):
                v = randn(matrix.shape[1], *shape)
                got = product(v)
                assert got.shape == (len(matrix), *shape)
                assert relative(got, matrix @ v) <= 1e-12


def test_a_product_goes_straight_into_kernel_flow():
    module, x, _ = make("perceptron")
    u0 = module(x).detach()
    y = randn(*u0.shape, seed=1)
    H, H_test = empirical_ntk(module, x[:4]), empirical_ntk(module, x[4:], x[:4])
    known = gflow.KernelFlow(H, y[:4], H_test)
    flow = gflow.KernelFlow(
        empirical_ntk_product(module, x[:4]), y[:4], empirical_ntk_product(module, x[4:], x[:4])
    )
    ts = torch.tensor([0.0, 0.3, 5.0], dtype=torch.float64)
    path = gflow.integrate(flow, u0[:4], ts, "krylov", 1e-10, 1e-12)
    assert relative(path.ys, known.exact(ts, u0[:4])) <= 1e-9
    got = flow.predict(ts, u0[:4], u0[4:], method="krylov", rtol=1e-10).test
    assert relative(got, known.predict(ts, u0[:4], u0[4:], method="exact").test) <= 1e-9
    # The full kernel couples the outputs: it is the flow of u as one vector.
    full = empirical_ntk(module, x, full=True).flatten(2).flatten(0, 1)
    whole = gflow.KernelFlow(empirical_ntk_product(module, x, full=True), y.flatten())
    rate = whole(0.0, u0.flatten())
    assert relative(rate, full @ (y - u0).flatten()) <= 1e-12


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("method", ["jacobian", "structured", "products"])
def test_no_more_memory_is_taken_than_asked_for(method, full, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    from kernel_flow import LiveMemory

    torch.manual_seed(0)
    module, x, z = perceptron(8, 40, 3).double(), randn(12, 8), randn(9, 8, seed=1)
    for points in ((x, None), (x, z)):
        want = empirical_ntk(module, *points, full=full, method=method)
        with pytest.raises(InputError, match="max_memory must be at least about") as told:
            empirical_ntk(module, *points, full=full, method=method, max_memory=want.nbytes)
        least = int(str(told.value).split("about ")[1].split()[0])
        for max_memory in (least, 2 * least, 10 * least):
            with LiveMemory() as live:
                got = empirical_ntk(
                    module, *points, full=full, method=method, max_memory=max_memory
                )
            assert live.peak <= max_memory
            assert relative(got, want) <= 1e-13
            if points[1] is None:
                flat = got.flatten(2).flatten(0, 1) if full else got
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
    got = empirical_ntk(Wide().double(), x)
    assert float((got - first_layer - second_layer).abs().max()) <= 5 / m**0.5


def test_three_layers_on_digits_in_both_precisions():
    x = torch.as_tensor(load("digits").inputs[:60]) / 16
    torch.manual_seed(0)
    module = perceptron(64, 128, 128, 10, activation=nn.ReLU).double()
    want = mean_over_outputs(by_loop(module, x))
    assert relative(empirical_ntk(module, x), want) <= 1e-12
    got = empirical_ntk(module.float(), x.float())
    assert got.dtype == torch.float32
    assert relative(got.double(), want) <= 1e-6
    assert float(torch.linalg.eigvalsh(got)[0]) >= -1e-5 * float(got.trace())


def test_at_other_parameters():
    module, x, _ = make("perceptron")
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, x, randn(6, 3))
    theta = flow.pack() + 0.1
    got = empirical_ntk(module, x, params=flow.parameters_dict(theta))
    nn.utils.vector_to_parameters(theta, module.parameters())
    assert relative(got, mean_over_outputs(by_loop(module, x))) <= 1e-12
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
        (nn.Linear(5, 2).double(), [1.0], {}, "got list"),
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


def test_a_module_beyond_torch_func_has_a_kernel_but_no_products():
    class Strange(nn.Linear):
        def forward(self, x):
            return Doubled.apply(super().forward(x)) + 0 * self.weight.sum()

    torch.manual_seed(0)
    module = Strange(5, 2).double()
    for full in (True, False):
        want = by_loop(module, VECTORS) if full else mean_over_outputs(by_loop(module, VECTORS))
        assert relative(empirical_ntk(module, VECTORS, full=full), want) <= 1e-12
    with pytest.raises(InputError, match=r"'products' derivatives by torch.func"):
        empirical_ntk(module, VECTORS, method="products")
    with pytest.raises(InputError, match=r"torch.func cannot.*use empirical_ntk"):
        empirical_ntk_product(module, VECTORS)
