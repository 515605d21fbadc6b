r"""Networks on sequences: one transformer block, and linear attention.

The transformer reads tokens or vectors, adds learned positions, applies one block with the
normalisation in front of each part (Xiong et al. 2020, arXiv:2002.04745), and gives outputs at the
last position:

    x ← E + P,   x ← x + attention(norm(x)),   x ← x + mlp(norm(x)),   out = W norm(x)_last

Linear attention reads N examples and a query, X ∈ R^{(N+1)×C} with the last entry of the query 0,
and predicts that entry (Zhang, Singh, Latham & Saxe 2025, arXiv:2501.16265, equation 4, of which
this keeps the row that the prediction reads):

    out = Σ_h v_hᵀ (XᵀX/N) K_hᵀQ_h x_query,   v_h ∈ R^C,  K_h, Q_h ∈ R^{rank×C}
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Transformer(nn.Module):
    """One transformer block on tokens, or on vectors, with the outputs at the last position.

    Parameters
    ----------
    shape : tuple of int
        Of a sample: (length,) for tokens, (length, channels) for vectors.
    symbols : int or None
        The number of different tokens; None for vectors.
    outputs, width, heads : int
        The heads must divide the width.
    activation : nn.Module
        Of the hidden layer, which is four times as wide.

    Examples
    --------
    >>> model = Transformer((2,), 5, 5, width=8, heads=2, activation=nn.ReLU())
    >>> model(torch.tensor([[0, 4], [3, 1]])).shape
    torch.Size([2, 5])
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        symbols: int | None,
        outputs: int,
        width: int,
        heads: int,
        activation: nn.Module,
    ):
        super().__init__()
        if symbols is None:
            self.embedding: nn.Module = nn.Linear(shape[1], width)
        else:
            self.embedding = nn.Embedding(symbols, width)
        self.positions = nn.Parameter(width**-0.5 * torch.randn(shape[0], width))
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp_norm = nn.LayerNorm(width)
        hidden = 4 * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), activation, nn.Linear(hidden, width))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs (n, outputs) of sequences (n, length) or (n, length, channels)."""
        x = self.embedding(inputs) + self.positions
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        x = x + self.mlp(self.mlp_norm(x))
        return self.readout(self.norm(x)[:, -1])


class LinearAttention(nn.Module):
    """Attention without softmax, which predicts the last entry of a sequence's last vector.

    Parameters
    ----------
    channels : int
        C.
    heads, rank : int
        The number of heads, and of the rows of their keys and queries.

    Examples
    --------
    >>> LinearAttention(3, heads=2, rank=1)(torch.ones(4, 7, 3)).shape
    torch.Size([4, 1])
    """

    def __init__(self, channels: int, heads: int, rank: int):
        super().__init__()
        size = channels**-0.5
        self.value = nn.Parameter(size * torch.randn(heads, channels))
        self.key = nn.Parameter(size * torch.randn(heads, rank, channels))
        self.query = nn.Parameter(size * torch.randn(heads, rank, channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return predictions (n, 1) of sequences (n, N + 1, C)."""
        # The moments first: they do not depend on parameters, and are small.
        moments = inputs.mT @ inputs / (inputs.shape[1] - 1)
        queries = torch.einsum("nc,hrc->nhr", inputs[:, -1], self.query)
        keys = torch.einsum("hc,ncd,hrd->nhr", self.value, moments, self.key)
        return (keys * queries).sum((1, 2))[:, None]
