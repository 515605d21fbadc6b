"""Modules as people have them: each runs as plain torch does, or one line refuses it."""

import functools
import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

import gflow
from gflow.errors import InputError
from tests.helpers import randn, relative

mse, cross_entropy = functional.mse_loss, functional.cross_entropy
X, Y = randn(6, 3, seed=1), randn(6, 2, seed=2)
LABELS = torch.tensor([0, 1, 1, 0, 1, 0])
SEQUENCES, IMAGES = randn(4, 5, 4, seed=3), randn(3, 2, 6, 6, seed=4)
TOKENS = torch.tensor([[0, 1, 2], [3, 4, 0], [2, 2, 1]])


def of(forward, *, x=X, y=Y, loss=mse, **parts):
    """A case from a forward function of (self, x) and the parts of its module."""

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part() if callable(part) else part)

        def forward(self, inputs):
            return forward(self, inputs)

    Module.__name__ = "Own"
    return lambda: (Module().double(), loss, x, y)


def layers(*kinds, x=X, y=Y, loss=mse, then=None):
    """A case of layers in sequence."""

    def build():
        module = nn.Sequential(*(kind() for kind in kinds)).double()
        return (module if then is None else then(module) or module), loss, x, y

    return build


def with_net(loss):
    """A case whose criterion(net, outputs, targets) reaches the module's parameters."""

    def build():
        net = mlp()
        return net, functools.partial(loss, net), X, Y

    return build


def mlp(activation=nn.Tanh):
    return nn.Sequential(nn.Linear(3, 5), activation(), nn.Linear(5, 2)).double()


def linear(n=3, m=2):
    return lambda: nn.Linear(n, m)


class OldSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class OnceSquare(OldSquare):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class WrongSquare(OldSquare):
    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


class Squared(nn.Module):
    """A parametrisation."""

    def forward(self, w):
        return w * w


class Doubled(torch.autograd.Function):
    """With setup_context and a rule for vmap."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class Lost(OldSquare):
    @staticmethod
    def backward(ctx, g):
        return None


class Scaled(nn.Module):
    """A criterion with a counter."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()).double())

    def forward(self, u, y):
        self.calls += 1
        return mse(u, y)


def of_weights(*weights, use):
    """A case of parameters that may share memory."""

    def build():
        module, _, x, y = of(use)()
        for i, w in enumerate(weights):
            module.register_parameter(f"w{i}", nn.Parameter(w))
        return module, mse, x, y

    return build


def slope_penalty(net, u, y):
    slopes = torch.autograd.grad(mse(u, y), list(net.parameters()), create_graph=True)
    return mse(u, y) + 0.1 * sum(slope.square().sum() for slope in slopes)


def input_penalty(net, u, y):
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    return mse(u, y) + slope.square().mean()


def backward_inside(net, u, y):
    loss = mse(u, y)
    loss.backward(retain_graph=True)
    return loss


def grown(self, x):
    if not hasattr(self, "extra"):
        self.extra = nn.Linear(2, 2).double()
    return self.extra(self.l(x))


def stateful(self, x):
    outputs, self.state = self.l(x, getattr(self, "state", None))
    self.state = self.state.detach()
    return outputs[:, -1]


def averaged(self, x):
    self.mean = 0.9 * getattr(self, "mean", 0.0) + 0.1 * self.l(x).detach().mean()
    return self.l(x) - self.mean


def implicit(self, x):
    h = torch.zeros(len(x), 2).to(x)
    for _ in range(20):
        h = torch.tanh(0.3 * self.m(h) + self.l(x))
    return h


def frozen(module):
    module[0].requires_grad_(False)


def hooked(change):
    def then(module):
        module[1].register_full_backward_hook(change)

    return then


def with_list(self, x):
    return self.l(x) + (x @ self.again[0].T) ** 2


def listed():
    module = of(with_list, l=linear())()[0]
    module.again = [module.l.weight]
    return module, mse, X, Y


def tied():
    module = of(lambda self, t: self.out(torch.tanh(self.emb(t))), emb=lambda: nn.Embedding(5, 4))
    net = module()[0]
    net.out = nn.Linear(4, 5).double()
    net.out.weight = net.emb.weight
    return net, lambda u, y: cross_entropy(u.flatten(0, 1), y.flatten()), TOKENS, TOKENS.flip(1)


def counts(self, x):
    self.calls = getattr(self, "calls", 0) + 1
    return self.l(x) * self.calls


def cached(self, x):
    if not hasattr(self, "memo"):
        self.memo = (2 * self.l.weight).detach()
    return self.l(x) + x @ self.memo.T


def physics(self, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.l(x).tanh().sum(), x, create_graph=True)
    return slope


def seeded(self, x):
    torch.manual_seed(3)
    return self.l(x + torch.randn_like(x))


def clipped(self, x):
    with torch.no_grad():
        self.l.weight.clamp_(-0.1, 0.1)
    return self.l(x)


def sub_layer(dropout, **options):
    return lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout, batch_first=True, **options)


attend = functional.scaled_dot_product_attention
zeros = torch.zeros_like(SEQUENCES)
bad = X.clone()
bad[2, 1] = torch.nan
penalty = lambda net, u, y: mse(u, y) + 0.1 * sum((p**2).sum() for p in net.parameters())  # noqa: E731

RUNS = {
    "MLP": layers(linear(3, 5), nn.Tanh, linear(5, 2)),
    "ReLU": layers(linear(3, 5), nn.ReLU, linear(5, 2)),
    "GELU, cross-entropy": layers(linear(3, 5), nn.GELU, linear(5, 2), y=LABELS, loss=cross_entropy),  # noqa: E501
    "a criterion that is a module": layers(linear(), y=LABELS, loss=nn.CrossEntropyLoss()),
    "class weights": layers(
        linear(), y=LABELS, loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]).double())
    ),
    "soft labels": layers(linear(), y=Y.softmax(1), loss=cross_entropy),
    "targets masked by NaN": layers(
        linear(), y=torch.where(Y > 1, torch.nan, Y), loss=lambda u, y: mse(u[y == y], y[y == y])
    ),
    "squeezed outputs": layers(linear(3, 1), y=Y[:, 0], loss=lambda u, y: mse(u[:, 0], y)),
    "an L2 penalty in the criterion": with_net(penalty),
    "an L1 penalty of one layer": with_net(lambda net, u, y: mse(u, y) + net[0].weight.abs().sum()),
    "a weight also kept in a list": listed,
    "a tied decoder": tied,
    "frozen layers": layers(linear(3, 5), nn.Tanh, linear(5, 2), then=frozen),
    "a scalar parameter": of(
        lambda self, x: self.s * self.l(x), l=linear(), s=lambda: nn.Parameter(torch.tensor(0.3))
    ),
    "a parameter that is not used": of(lambda self, x: self.l(x), l=linear(), m=linear(4, 4)),
    "ParameterList": of(
        lambda self, x: x @ self.ps[0] * self.ps[1],
        ps=lambda: nn.ParameterList([nn.Parameter(randn(3, 2)), nn.Parameter(randn(2))]),
    ),
    "ParameterDict": of(
        lambda self, x: x @ self.ps["w"],
        ps=lambda: nn.ParameterDict({"w": nn.Parameter(randn(3, 2))}),
    ),
    "a buffer": layers(linear(), lambda: nn.BatchNorm1d(2).eval()),
    "batch norm without running statistics": layers(
        linear(), lambda: nn.BatchNorm1d(2, track_running_stats=False)
    ),
    "LayerNorm": layers(linear(), lambda: nn.LayerNorm(2)),
    "GroupNorm, convolutions": layers(
        lambda: nn.Conv2d(2, 4, 3), lambda: nn.GroupNorm(2, 4), nn.SiLU, nn.Flatten, linear(64, 2),
        x=IMAGES, y=Y[:3],
    ),
    "InstanceNorm in training mode": layers(
        lambda: nn.InstanceNorm2d(2), lambda: nn.Conv2d(2, 1, 6), nn.Flatten, x=IMAGES, y=Y[:3, :1]
    ),
    "max pooling": layers(
        lambda: nn.Conv2d(2, 3, 3), lambda: nn.MaxPool2d(2), nn.Flatten, linear(12, 2),
        x=IMAGES, y=Y[:3],
    ),
    "Dropout(0) in training mode": layers(linear(), lambda: nn.Dropout(0.0)),
    "Dropout in eval mode": layers(linear(), lambda: nn.Dropout(0.5).eval()),
    "ReLU in place": layers(linear(3, 5), lambda: nn.ReLU(inplace=True), linear(5, 2)),
    "weight_norm": layers(lambda: parametrizations.weight_norm(nn.Linear(3, 2))),
    "orthogonal weights": layers(lambda: parametrizations.orthogonal(nn.Linear(3, 3)), linear()),
    "a parametrisation": layers(
        lambda: nn.utils.parametrize.register_parametrization(nn.Linear(3, 2), "weight", Squared())
    ),
    "spectral_norm in eval mode": layers(
        lambda: parametrizations.spectral_norm(nn.Linear(3, 2)), then=lambda m: m.eval()
    ),
    "pruning": layers(lambda: prune.l1_unstructured(nn.Linear(3, 2), "weight", 2)),
    "an LSTM": of(
        lambda self, x: self.l(x)[0][:, -1], l=lambda: nn.LSTM(4, 2, batch_first=True),
        x=SEQUENCES, y=Y[:4],
    ),
    "a GRU, time first": of(
        lambda self, x: self.l(x)[0][-1], l=lambda: nn.GRU(4, 2), x=SEQUENCES, y=Y[:5]
    ),
    "TransformerEncoderLayer": layers(sub_layer(0.0), x=SEQUENCES, y=zeros),
    "the same in eval mode": layers(lambda: sub_layer(0.1)().eval(), x=SEQUENCES, y=zeros),
    "MultiheadAttention": of(
        lambda self, x: self.l(x, x, x, need_weights=False)[0],
        l=lambda: nn.MultiheadAttention(4, 2, batch_first=True), x=SEQUENCES, y=zeros,
    ),
    "scaled_dot_product_attention": of(
        lambda self, x: attend(self.l(x), x, x), l=linear(4, 4), x=SEQUENCES, y=zeros
    ),
    "embeddings of integers": layers(
        lambda: nn.Embedding(5, 2), nn.Flatten, linear(6, 2), x=TOKENS, y=Y[:3]
    ),
    "embeddings with sparse gradients": layers(
        lambda: nn.Embedding(5, 2, sparse=True), nn.Flatten, linear(6, 2), x=TOKENS, y=Y[:3]
    ),
    "an old autograd.Function": of(lambda self, x: OldSquare.apply(self.l(x)), l=linear()),
    "one without a second derivative": of(lambda self, x: OnceSquare.apply(self.l(x)), l=linear()),
    "a full backward hook": layers(linear(), nn.Tanh, then=hooked(lambda *a: None)),
    "checkpointing": of(
        lambda self, x: self.m(checkpoint(lambda h: self.l(h).tanh(), x, use_reentrant=False)),
        l=linear(3, 5), m=linear(5, 2),
    ),
    "a derivative by the inputs": of(physics, y=X, l=linear()),
    "a branch on values": of(
        lambda self, x: self.l(x).tanh() if self.l(x).sum().item() > 0 else self.l(x), l=linear()
    ),
    "a seed set in forward": of(seeded, l=linear()),
    "inputs that require gradients": layers(linear(), x=X.clone().requires_grad_()),
    "a constant made at the first call": of(cached, l=linear()),
    "scripted": lambda: (torch.jit.script(mlp()), mse, X, Y),
    "float32": lambda: (mlp().float(), mse, X.float(), Y.float()),
    "tied layers": of(
        lambda self, x: self.l(self.m(self.l(x).tanh()).tanh()), l=linear(3, 3), m=linear(3, 3), y=X
    ),
    "disjoint slices of one tensor": of_weights(
        (wide := randn(3, 4, seed=3))[:, :2], wide[:, 2:],
        use=lambda self, x: x @ self.w0 * self.w1.sum()
    ),
    "a transposed parameter": of_weights(randn(2, 3).T, use=lambda self, x: x @ self.w0),
    "a parameter without entries": of_weights(
        randn(3, 2), torch.zeros(0).double(), use=lambda self, x: x @ self.w0 + self.w1.sum()
    ),
    "an autograd.Function with setup_context": of(
        lambda self, x: Doubled.apply(self.l(x)), l=linear()
    ),
    "a penalty on the slopes of the loss": with_net(slope_penalty),
    "a penalty on the slopes by the inputs": with_net(input_penalty),
    "embeddings with padding": layers(
        lambda: nn.Embedding(5, 2, padding_idx=0), nn.Flatten, linear(6, 2), x=TOKENS, y=Y[:3]
    ),
    "EmbeddingBag": layers(lambda: nn.EmbeddingBag(5, 2), x=TOKENS, y=Y[:3]),
    "traced": lambda: (torch.jit.trace(mlp(), X), mse, X, Y),
    "a graph of torch.fx": lambda: (torch.fx.symbolic_trace(mlp()), mse, X, Y),
    "a fixed point": of(implicit, l=linear(), m=linear(2, 2)),
    "a matrix exponential": of_weights(
        randn(3, 3), use=lambda self, x: (x @ torch.linalg.matrix_exp(self.w0))[:, :2]
    ),
    "an orthogonal factor": of_weights(
        randn(3, 3), use=lambda self, x: (x @ torch.linalg.qr(self.w0)[0])[:, :2]
    ),
    "label smoothing": layers(linear(), y=LABELS, loss=nn.CrossEntropyLoss(label_smoothing=0.1)),
    "labels that are ignored": layers(linear(), y=LABELS, loss=nn.CrossEntropyLoss(ignore_index=0)),
    "labels as bytes": layers(linear(), y=LABELS.byte(), loss=cross_entropy),
    "a sum over samples": layers(linear(), loss=nn.MSELoss(reduction="sum")),
    "a root of the mean": layers(linear(), loss=lambda u, y: mse(u, y).sqrt()),
    "targets of integers": layers(linear(), y=functional.one_hot(LABELS)),
    "expanded targets": layers(linear(), y=Y[:1].expand(6, 2)),
    "one sample": layers(linear(), x=X[:1], y=Y[:1]),
    "the loss as output": layers(linear(), loss=lambda u, y: u.square().sum()),
}  # fmt: skip

REFUSED = {
    "noise": (of(lambda self, x: self.l(x + torch.randn_like(x)), l=linear()), "random numbers"),
    "noise of NumPy": (
        of(lambda self, x: self.l(x) * np.random.rand(), l=linear()), "random numbers"  # noqa: NPY002
    ),
    "noise of Python": (of(lambda self, x: self.l(x) * random.random(), l=linear()), "random"),
    "F.dropout": (of(lambda self, x: functional.dropout(self.l(x), 0.5), l=linear()), "random"),
    "RReLU": (layers(linear(), nn.RReLU), "RReLU '1' in training mode"),
    "a counter": (of(counts, l=linear()), "depends on earlier calls"),
    "batch norm in training mode": (layers(linear(), lambda: nn.BatchNorm1d(2)), "BatchNorm1d '1'"),
    "spectral_norm in training mode": (
        layers(lambda: parametrizations.spectral_norm(nn.Linear(3, 2))), "changes buffer"
    ),
    "Embedding(max_norm)": (
        layers(lambda: nn.Embedding(5, 2, max_norm=0.1), nn.Flatten, x=TOKENS, y=randn(3, 6)),
        "changes parameter",
    ),
    "clipped weights": (of(clipped, l=linear()), "changes parameter 'l.weight'"),
    "inputs changed in place": (
        of(lambda self, x: self.l(x.mul_(1.1)), l=linear()), "changes the inputs"
    ),
    "a penalty on .data": (
        with_net(lambda net, u, y: mse(u, y) + net[0].weight.data.square().sum()), "slope of the loss"  # noqa: E501
    ),
    "detached outputs": (of(lambda self, x: self.l(x).detach(), l=linear()), "does not depend"),
    "a detached factor": (
        of(lambda self, x: self.l(x) * self.l(x).detach(), l=linear()), "slope of the loss"
    ),
    "rounded weights": (
        of(lambda self, x: self.l(x) + (self.l(x).round() - self.l(x)).detach(), l=linear()),
        "slope of the loss",
    ),
    "a wrong backward": (of(lambda self, x: WrongSquare.apply(self.l(x)), l=linear()), "slope"),
    "a hook that changes gradients": (
        layers(linear(), nn.Tanh, then=hooked(lambda m, g, o: (2 * g[0],))), "slope of the loss"
    ),
    "NaN in the inputs": (layers(linear(), x=bad), "inputs must be finite"),
    "NaN in the targets": (layers(linear(), y=bad[:, :2]), "loss .* must be finite"),
    "7 targets for 6 inputs": (layers(linear(), y=randn(7, 2)), "one row a sample"),
    "float64 data for float32": (lambda: (mlp().float(), mse, X, Y), "module.double"),
    "float64 targets for float32": (lambda: (mlp().float(), mse, X.float(), Y), "convert the tar"),
    "half precision": (lambda: (mlp().half(), mse, X.half(), Y.half()), "float32 or float64"),
    "complex": (
        lambda: (nn.Linear(3, 2).to(torch.complex128), mse, X, Y), "float32 or float64, got"
    ),
    "a tuple as output": (of(lambda self, x: (self.l(x), x), l=linear()), "one tensor, got tuple"),
    "a dataclass as output": (
        of(lambda self, x: SimpleNamespace(logits=self.l(x)), l=linear()), "got SimpleNamespace"
    ),
    "NumPy arrays": (layers(linear(), x=X.numpy(), y=Y.numpy()), "torch.from_numpy"),
    "float labels (n, 1)": (
        layers(linear(), y=torch.zeros(6, 1).double(), loss=cross_entropy), "class indices"
    ),
    "(n, 1) against (n,)": (layers(linear(3, 1), y=Y[:, 0]), "fails for outputs|broadcasts"),
    "the same in a loss of one's own": (
        layers(linear(3, 1), y=Y[:, 0], loss=lambda u, y: (u - y).square().mean()), "broadcasts"
    ),
    "a loss per sample": (
        layers(linear(), loss=lambda u, y: (u - y).square().sum(1)), "one number, got shape"
    ),
    "the class of a loss": (layers(linear(), loss=nn.MSELoss), r"write MSELoss\(\)"),
    "a loss with parameters": (layers(linear(), loss=nn.Bilinear(2, 2, 1)), "trainable parameters"),
    "the class of a module": (lambda: (nn.Flatten, mse, X, Y), "the class Flatten"),
    "DataParallel": (lambda: (nn.DataParallel(mlp()), mse, X, Y), "module.module"),
    "a lazy module": (lambda: (nn.LazyLinear(2), mse, X, Y), "call module"),
    "the device meta": (lambda: (mlp().to("meta"), mse, X, Y), "meta"),
    "an expanded parameter": (
        of_weights(randn(1).expand(3), use=lambda self, x: x @ self.w0),
        "its own memory, but .*'w0'"
    ),
    "overlapping slices": (
        of_weights((long := randn(6))[:4], long[2:],
        use=lambda self, x: x * self.w0[:3] * self.w1[:3]),
        r"memory, but entries of 'w1' share it .*; use clone\(\)",
    ),
    "a backward of None": (
        of(lambda self, x: self.l(x) + Lost.apply(self.m(x)), l=linear(), m=linear()),
        "slope of the"
    ),
    "backward() in the criterion": (with_net(backward_inside), r"the .grad of .*; remove backward"),
    "a counter in the criterion": (
        layers(linear(), loss=Scaled()), r"'calls' of the criterion; call criterion\.eval"
    ),
    "layers made in forward": (
        of(grown, l=linear()), r"'extra.weight'; call module\(inputs\) once"
    ),
    "all layers made in forward": (
        lambda: (nn.Module(), mse, X, Y), r"or call module\(inputs\) once if it makes"
    ),
    "a state from call to call": (
        of(stateful, l=lambda: nn.GRU(4, 2, batch_first=True), x=SEQUENCES, y=Y[:4]),
        "earlier calls"
    ),
    "a moving average": (of(averaged, l=linear()), "depends on earlier calls"),
    "dropout of an LSTM": (
        layers(lambda: nn.LSTM(4, 2, 2, dropout=0.5), x=SEQUENCES), "LSTM '0' in training mode"
    ),
    "a hook on a parameter": (
        layers(linear(), then=lambda m: m[0].weight.register_hook(lambda g: 2 * g) and m),
        "slope of"
    ),
    "a part without gradients": (
        of(lambda self, x: self.m(torch.no_grad()(self.l)(x)), l=linear(), m=linear(2, 2)),
        "slope of"
    ),
    "weights in bfloat16": (
        of(lambda self, x: (x.bfloat16() @ self.l.weight.bfloat16().T).double(), l=linear()),
        "slope"
    ),
    "gradients scaled by frequency": (
        layers(
            lambda: nn.Embedding(5, 2, scale_grad_by_freq=True), nn.Flatten, x=TOKENS, y=randn(3, 6)
        ),
        "slope of the loss",
    ),
    "a list of tensors": (layers(linear(), x=list(X)), r"got list; use torch\.stack"),
    "a dict": (layers(linear(), x={"x": X}), "got dict; collect the full batch in one"),
    "integers for a linear layer": (
        layers(linear(), x=TOKENS, y=Y[:3]), r"convert them, inputs\.to\(torch\.float64"
    ),
    "labels out of range": (
        layers(linear(), y=LABELS + 5, loss=cross_entropy), "class indices 0, 1"
    ),
    "a criterion of one argument": (
        layers(linear(), loss=lambda u: u.mean()), "must be a function of outputs and targets"
    ),
    "all labels ignored": (
        layers(linear(), y=0 * LABELS, loss=nn.CrossEntropyLoss(ignore_index=0)), "finite, got nan"
    ),
    "no trainable parameter": (layers(nn.Flatten), "no trainable parameter"),
    "wrong shape": (layers(linear(4, 2)), r"fails for inputs of shape \(6, 3\)"),
    "no samples": (layers(linear(), x=X[:0], y=Y[:0]), "must not be empty"),
}  # fmt: skip


def plain_gradient(module, criterion, x, y):
    """The gradient by plain autograd on the module's own parameters, as one vector."""
    own = [p for p in module.parameters() if p.requires_grad]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = criterion(module(x), y)
    slopes = torch.autograd.grad(loss, own, materialize_grads=True)
    return torch.cat([slope.to_dense().flatten() for slope in slopes])


def write(module, theta):
    own = [p for p in module.parameters() if p.requires_grad]
    with torch.no_grad():
        for p, part in zip(own, theta.split([p.numel() for p in own]), strict=True):
            p.copy_(part.view_as(p))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNS)
def test_a_module_runs_as_in_plain_torch(name):
    torch.manual_seed(0)
    module, criterion, x, y = RUNS[name]()
    before = {k: p.clone() for k, p in module.state_dict().items()}
    flow = gflow.NetworkFlow(module, criterion, x, y)
    theta = flow.pack()
    tolerance = 1e-12 if theta.dtype == torch.float64 else 1e-5
    path = gflow.descend(flow, theta, 0.05, 2)
    ensemble = flow(0.0, torch.stack([theta, 1.01 * theta]))
    product, along = flow.jvp(theta, theta), 1e-4 * theta
    assert all(torch.equal(before[k], p) for k, p in module.state_dict().items())
    assert not any(p.grad is not None for p in module.parameters())
    for velocity, factor in zip(ensemble, (1.0, 1.01), strict=True):
        write(module, factor * theta)
        assert relative(velocity, -plain_gradient(module, criterion, x, y)) <= tolerance
    if theta.dtype == torch.float64 and name not in ("a branch on values", "max pooling"):
        difference = (flow(0.0, theta + along) - flow(0.0, theta - along)) / 2e-4
        assert float((product - difference).norm()) <= 1e-5 * float(1 + product.norm())
    write(module, theta)
    for _ in range(2):
        with torch.no_grad():
            step = 0.05 * plain_gradient_of(module, criterion, x, y)
        write(module, torch.cat([p.detach().flatten() for p in flow._loss.own]) - step)
    state = torch.cat([p.detach().flatten() for p in flow._loss.own])
    assert relative(path.ys[-1], state) <= tolerance


def plain_gradient_of(*case):
    with torch.enable_grad():
        return plain_gradient(*case)


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_is_refused_in_one_line(name):
    torch.manual_seed(0)
    build, message = REFUSED[name]
    module, criterion, x, y = build()
    stored = x.clone() if isinstance(x, torch.Tensor) else None
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=message) as caught:
            gflow.NetworkFlow(module, criterion, x, y)
    assert "\n" not in str(caught.value)
    assert torch.equal(state, torch.get_rng_state())
    assert stored is None or torch.equal(stored.nan_to_num(), x.nan_to_num())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name",
    [
        "an old autograd.Function",
        "one without a second derivative",
        "checkpointing",
        "a full backward hook",
    ],
)
def test_paths_of_modules_beyond_torch_func_are_certified(name):
    torch.manual_seed(0)
    flow = gflow.NetworkFlow(*RUNS[name]())
    path = gflow.integrate(flow, flow.pack(), [0.0, 0.2], rtol=1e-4)
    assert path.certificate.holds
    assert path.certificate.not_run == ()


def test_a_layer_that_is_not_registered_is_reported():
    module = mlp()
    stranger = nn.Linear(2, 2).double()
    with pytest.warns(UserWarning, match="not a parameter of the module"):
        gflow.NetworkFlow(module, lambda u, y: mse(stranger(u), y), X, Y)


def test_a_module_put_in_training_mode_later_is_refused():
    module = nn.Sequential(mlp(), nn.Dropout(0.5)).eval()
    flow = gflow.NetworkFlow(module, mse, X, Y)
    module.train()
    for run in (gflow.integrate, lambda *args: gflow.descend(*args[:2], 0.1, 3)):
        with pytest.raises(InputError, match=r"Dropout '1' in training mode"):
            run(flow, flow.pack(), [0.0, 0.1])


def test_parameters_that_are_not_the_flows_are_refused():
    flow = gflow.NetworkFlow(mlp(), mse, X, Y)
    theta = flow.pack()
    named = flow.parameters_dict(theta)
    for call, message in (
        (
            lambda: flow.pack({k: v[None].mT for k, v in named.items()}),
            r"must have shape \(\.\.\.",
        ),
        (lambda: flow.pack([theta]), "by name, got list"),
        (lambda: flow.pack({"a": theta}), r"by name, got \['a'\]"),
        (lambda: flow.parameters_dict(theta[:-1]), r"has shape \(..., 32\), got \(31,\)"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_losses_that_differentiate_inside_are_split_or_refused():
    module, criterion, x, y = RUNS["a penalty on the slopes by the inputs"]()
    chunked = gflow.NetworkFlow(module, criterion, x, y, chunk=2)
    theta = chunked.pack()
    whole = gflow.NetworkFlow(module, criterion, x, y)
    assert relative(chunked(0.0, theta), whole(0.0, theta)) <= 1e-12
    with pytest.raises(InputError, match="chunk needs a criterion that is a mean or a sum"):
        gflow.NetworkFlow(*RUNS["a penalty on the slopes of the loss"](), chunk=2)


def test_targets_that_are_broadcast_are_reported():
    own = lambda u, y: (u - y).square().mean()  # noqa: E731
    with pytest.warns(UserWarning, match=r"broadcasts targets of shape \(6, 1\) against outputs"):
        gflow.NetworkFlow(mlp(), own, X, Y[:, :1])


@pytest.mark.filterwarnings("error::UserWarning")
def test_tensors_made_inside_of_the_criterion_are_no_strangers():
    gflow.NetworkFlow(*RUNS["a penalty on the slopes by the inputs"]())
    gflow.NetworkFlow(mlp(), lambda u, y: u.square().mean() + 0 * y.sum(), X, Y[:, :1])


def test_weights_that_hooks_compute_are_left_as_they_were():
    module = nn.Sequential(prune.l1_unstructured(nn.Linear(3, 2).double(), "weight", 2))
    before = module[0].weight
    flow = gflow.NetworkFlow(module, mse, X, Y)
    flow(0.0, torch.stack([flow.pack(), 2 * flow.pack()]))
    assert module[0].weight is before


def test_attention_is_differentiated_twice():
    for name in ("TransformerEncoderLayer", "MultiheadAttention", "the same in eval mode"):
        assert gflow.NetworkFlow(*RUNS[name]())._loss.route.has_products


def test_contexts_without_gradients_or_precision_are_refused():
    flow = gflow.NetworkFlow(mlp(), mse, X, Y)
    theta = flow.pack()
    for context, message in (
        (torch.inference_mode(), "inference_mode forbids"),
        (torch.autocast("cpu"), "half precision"),
    ):
        for use in (
            lambda: gflow.integrate(flow, theta, [0.0, 1.0]),
            lambda: gflow.descend(flow, theta, 0.1, 2),
            lambda: gflow.NetworkFlow(mlp(), mse, X, Y),
        ):
            with context, pytest.raises(InputError, match=message):
                use()


def test_kernel_of_a_weight_in_a_list_is_refused():
    with pytest.raises(InputError, match="reaches a parameter by a list"):
        gflow.kernels.empirical_ntk(listed()[0], X)
