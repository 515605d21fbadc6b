r"""Regression in context on moments of the examples, in place of the examples.

Linear attention sees N examples of a context by their moments XᵀX/N alone, so a sample is the
moments and the query (`MomentAttention`), and the loss is that on sequences, to round-off.

Samples come in groups: of each context all 2D² pairs of a function ±√D·o_i and a query
√D·Λ^{1/2}p_j, where o and p are random orthonormal bases. The loss is quadratic in w and in x_q, so
its means over them are exact: of the sample's moments only those of the contexts' S = Σ_n x_nx_nᵀ/N
are left to chance.

Outputs are linear in the map Σ_h v_h ⊗ k_h ⊗ q_h of C³ numbers, so that the squared error of many
samples is that of C³ + 1 combinations of them, the rows of a triangle: one evaluation of 48,000
samples of C = 5 takes 25 ms, one of their 126 combinations a fraction of a millisecond
(`combined`, `MapAttention`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.networks.attention import LinearAttention

_MOST_FEATURES, _MOST_NUMBERS = 1000, 2**25  # of a triangle, and of the features of all samples


class Contexts(NamedTuple):
    """Samples of regression in context, by their moments.

    Attributes
    ----------
    rows : Tensor, shape (n, C² + C)
        Moments XᵀX/N of N examples and the query, C = D + 1, and the query (x_q, 0).
    targets : Tensor, shape (n, 1)
        w·x_q.
    second_moments : Tensor, shape (contexts, D, D)
        S of each context.
    covariance : Tensor, shape (D, D)
        Of the queries, Λ.
    """

    rows: Tensor
    targets: Tensor
    second_moments: Tensor
    covariance: Tensor


def draw_contexts(contexts: int, length: int, inputs: int, decay: float, seed: int) -> Contexts:
    """Draw contexts with x ~ N(0, Λ), and of each all pairs of 2D functions and D queries.

    Parameters
    ----------
    contexts, length, inputs : int
        Their number, the examples N in each, and the dimension D of x.
    decay : float
        Eigenvalues of Λ are proportional to 1, decay, decay², …, with the trace D.
    seed : int

    Returns
    -------
    Contexts

    Examples
    --------
    >>> found = draw_contexts(3, 8, 2, 0.5, 0)
    >>> found.rows.shape, found.targets.shape, found.covariance.diagonal().sum()
    (torch.Size([24, 12]), torch.Size([24, 1]), tensor(2., dtype=torch.float64))
    """
    rng, D, N = np.random.default_rng(seed), inputs, length
    spectrum = decay ** np.arange(D)
    spectrum *= D / spectrum.sum()
    x = np.sqrt(spectrum) * rng.standard_normal((contexts, N, D))
    bases = [np.linalg.qr(rng.standard_normal((contexts, D, D)))[0] for _ in range(2)]
    w = np.sqrt(D) * np.concatenate([bases[0], -bases[0]], axis=1)
    queries = np.sqrt(D * spectrum) * bases[1]
    S = x.transpose(0, 2, 1) @ x / N
    y = w @ S  # Σ_n y_n x_n/N
    moments = np.zeros((contexts, 2 * D, D, D + 1, D + 1))
    own = queries[..., :, None] * queries[..., None, :] / N  # the query is a row of X, too
    moments[..., :D, :D] = (S[:, None] + own)[:, None]
    moments[..., D, :D] = moments[..., :D, D] = y[:, :, None]
    moments[..., D, D] = (y * w).sum(-1)[..., None]
    last = np.zeros((contexts, 2 * D, D, D + 1))
    last[..., :D] = queries[:, None]
    rows = np.concatenate([moments.reshape(-1, (D + 1) ** 2), last.reshape(-1, D + 1)], axis=1)
    targets = (w @ queries.transpose(0, 2, 1)).reshape(-1, 1)
    arrays = rows, targets, S, np.diag(spectrum)
    return Contexts(*map(torch.as_tensor, arrays))


class MomentAttention(LinearAttention):
    """`LinearAttention` with the same parameters, on moments and a query.

    Parameters
    ----------
    channels : int
        C.
    heads, rank : int
        The number of heads, and of the rows of their keys and queries.

    Examples
    --------
    >>> MomentAttention(3, heads=2, rank=1)(torch.ones(4, 12)).shape
    torch.Size([4, 1])
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Return predictions (n, 1) of moments and queries in rows (n, C² + C)."""
        channels = self.value.shape[1]
        maps = torch.einsum("hc,hrd->cdhr", self.value, self.key).flatten(0, 1).flatten(1)
        keys = inputs[:, : channels**2] @ maps
        queries = inputs[:, channels**2 :] @ self.query.flatten(0, 1).mT
        return (keys * queries).sum(1, keepdim=True)


class MapAttention(LinearAttention):
    """`LinearAttention` with the same parameters, on moments times queries.

    Parameters
    ----------
    channels : int
        C.
    heads, rank : int
        The number of heads, and of the rows of their keys and queries.

    Examples
    --------
    >>> MapAttention(3, heads=2, rank=1)(torch.ones(4, 27)).shape
    torch.Size([4, 1])
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Return predictions (n, 1) of moments times queries, or combinations, (n, C³)."""
        keys = torch.einsum("hc,hrd->hrcd", self.value, self.key).flatten(2).flatten(0, 1)
        maps = keys.mT @ self.query.flatten(0, 1)
        return inputs @ maps.reshape(-1, 1)


class SummedSquares:
    """½ Σ (u − y)²/n, of combinations of n samples.

    Parameters
    ----------
    samples : int
        n.

    Examples
    --------
    >>> SummedSquares(4)(torch.tensor([[2.0]]), torch.tensor([[0.0]]))
    tensor(0.5000)
    """

    def __init__(self, samples: int):
        self.samples = samples

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs - targets).square().sum() / self.samples


def combined(contexts: Contexts) -> tuple[Tensor, Tensor] | None:
    """Return combinations of samples with the same squared errors, and the same distances.

    Parameters
    ----------
    contexts : Contexts

    Returns
    -------
    tuple of two Tensor, shapes (C³ + 1, C³) and (C³ + 1, 1), or None
        Inputs of `MapAttention`, and targets. The last row has what no map explains. None where
        there are hardly more samples than combinations, or too many numbers.

    Examples
    --------
    >>> found = draw_contexts(20, 8, 2, 0.5, 0)
    >>> inputs, targets = combined(found)
    >>> inputs.shape, bool((inputs.mT @ targets).norm() > 1)
    (torch.Size([28, 27]), True)
    >>> torch.allclose(targets.square().sum(), found.targets.square().sum())
    True
    """
    rows, targets = contexts.rows, contexts.targets
    channels = len(contexts.covariance) + 1
    count = channels**3
    if count > min(_MOST_FEATURES, len(rows) // 2) or len(rows) * count > _MOST_NUMBERS:
        return None
    moments, queries = rows[:, : channels**2], rows[:, channels**2 :]
    features = (moments[:, :, None] * queries[:, None, :]).flatten(1)
    Q, R = torch.linalg.qr(features)
    projected = Q.mT @ targets
    rest = (targets - Q @ projected).norm()
    return torch.cat([R, R.new_zeros(1, count)]), torch.cat([projected, rest.reshape(1, 1)])
