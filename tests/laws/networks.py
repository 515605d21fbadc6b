"""Networks whose laws the tests look at, with inputs for each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gflow.networks.attention import LinearAttention


class Residual(nn.Module):
    """A residual stream with a gain in its branch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(3, 5), nn.Linear(5, 2)
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 5)
        self.gain = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        return self.out(h + self.b(torch.relu(self.a(h)) * self.gain))


class Attention(nn.Module):
    """One head by hand; `linear`: without softmax."""

    def __init__(self, linear: bool = False) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 3, bias=False) for _ in range(3))
        self.out = nn.Linear(3, 2)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        logits = q @ k.transpose(-2, -1) / 2.0
        return self.out((logits if self.linear else torch.softmax(logits, -1)) @ v)


class Heads(nn.Module):
    """Multi-head attention of torch."""

    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Gated(nn.Module):
    """A product of two streams."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.a(x)) * self.b(x))


class ByHand(nn.Module):
    """Weights and a bias that are used without layers, on the right and by functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(3, 4))
        self.offset = nn.Parameter(torch.randn(4))
        self.second = nn.Parameter(torch.randn(2, 4))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.square(torch.relu(x @ self.first + self.offset))
        return nn.functional.linear(hidden, self.second)


class Tokens(nn.Module):
    """Embedding, one block of a transformer with the norm first, and logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 7)
        self.block = nn.TransformerEncoderLayer(
            4, 2, 6, dropout=0.0, batch_first=True, norm_first=True
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.block(self.embed(x))))


class TiedEmbedding(nn.Module):
    """The table of tokens is that of the logits, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.hidden = nn.Embedding(5, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(torch.relu(self.hidden(self.embed(x))), self.embed.weight)


def linear(
    *widths: int, bias: bool = False, act: Callable[[], nn.Module] | None = None
) -> nn.Module:
    """Make a fully connected network."""
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers.append(nn.Linear(widths[i], widths[i + 1], bias=bias))
        if act is not None and i < len(widths) - 2:
            layers.append(act())
    return nn.Sequential(*layers)


def tied() -> nn.Module:
    """Use one layer twice, between ReLUs."""
    layer = nn.Linear(4, 4)
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(3, 4), relu, layer, relu, layer, relu, nn.Linear(4, 2))


def images(*, pool: nn.Module, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    """Make a convolutional network for images of 5 × 5."""
    layers = [nn.Conv2d(1, 2, 2), act(), pool, nn.Conv2d(2, 2, 2), act(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(2, 1))


def grouped() -> nn.Module:
    """Make a network with a grouped convolution."""
    layers = [nn.Conv1d(2, 2, 2), nn.ReLU(), nn.Conv1d(2, 4, 2, groups=2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 1))


def normalised(norm: nn.Module) -> nn.Module:
    """Put a norm between two layers."""
    return nn.Sequential(nn.Linear(3, 4), norm, nn.ReLU(), nn.Linear(4, 2))


def noise(*shape: int) -> Tensor:
    """Draw inputs in float64."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


TOKENS = torch.randint(0, 5, (12, 3), generator=torch.Generator().manual_seed(3))
# 30 sequences with all seven tokens in them.
ALL_TOKENS = torch.cat([torch.arange(7).repeat(3), TOKENS.flatten(), TOKENS[:11].flatten()])
ALL_TOKENS = ALL_TOKENS.reshape(30, 3)
BATCH = nn.BatchNorm1d(4, track_running_stats=False)

#: Network, inputs, and the number of independent laws among those that are found.
CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, int]] = {
    "linear 1-3-1": (lambda: linear(1, 3, 1), noise(8, 1), 5),
    "linear 2-2-2": (lambda: linear(2, 2, 2), noise(9, 2), 3),
    "linear 3-2-3": (lambda: linear(3, 2, 3), noise(9, 3), 3),
    "linear 2-4-1": (lambda: linear(2, 4, 1), noise(9, 2), 9),
    "linear with bias 2-2-2": (lambda: linear(2, 2, 2, bias=True), noise(9, 2), 3),
    "linear 2-3-3-2": (lambda: linear(2, 3, 3, 2), noise(9, 2), 12),
    "ReLU 2-3-1": (lambda: linear(2, 3, 1, act=nn.ReLU), noise(40, 2), 3),
    "ReLU with biases 2-3-1": (lambda: linear(2, 3, 1, bias=True, act=nn.ReLU), noise(40, 2), 3),
    "ReLU 2-3-3-1": (lambda: linear(2, 3, 3, 1, bias=True, act=nn.LeakyReLU), noise(60, 2), 6),
    "tanh 2-3-1": (lambda: linear(2, 3, 1, act=nn.Tanh), noise(40, 2), 0),
    "images": (lambda: images(pool=nn.MaxPool2d(2)), noise(60, 1, 5, 5), 4),
    "linear images": (lambda: images(pool=nn.AvgPool2d(2), act=nn.Identity), noise(60, 1, 5, 5), 6),
    "grouped": (grouped, noise(60, 2, 4), 6),
    "tied": (tied, noise(60, 3), 4),
    "residual": (Residual, noise(40, 3), 23),
    "attention": (Attention, noise(10, 5, 4), 12),
    "linear attention": (lambda: Attention(linear=True), noise(10, 5, 4), 13),
    "linear attention, value and rows": (
        lambda: LinearAttention(3, heads=2, rank=2),
        noise(40, 5, 3),
        8,
    ),
    "heads": (Heads, noise(10, 5, 4), 16),
    "gated": (Gated, noise(40, 4), 6),
    "by hand": (ByHand, noise(40, 3), 4),
    "layer norm": (lambda: normalised(nn.LayerNorm(4)), noise(40, 3), 8),
    "layer norm without ε": (lambda: normalised(nn.LayerNorm(4, eps=0)), noise(40, 3), 9),
    "batch norm": (lambda: normalised(BATCH), noise(40, 3), 8),
    "root mean square norm": (lambda: normalised(nn.RMSNorm(4, eps=0)), noise(40, 3), 5),
    "group norm": (lambda: normalised(nn.GroupNorm(2, 4)), noise(40, 3), 12),
    "tokens, flattened": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2)),
        noise(20, 5, 3),
        4,
    ),
    "layer norm, linear": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        noise(40, 3),
        8,
    ),
    "transformer block": (Tokens, ALL_TOKENS, 53),
    "tied embedding": (TiedEmbedding, TOKENS, 3),
}
