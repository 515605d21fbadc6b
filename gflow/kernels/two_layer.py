r"""H* of a two-layer ReLU network with only the first layer trained.

f(x) = m^{-1/2} Σ_r a_r σ(w_r·x), w_r ~ N(0, I), a_r = ±1 fixed, m → ∞:

    H*(x, x') = x·x' (π − θ)/(2π),   θ the angle between x and x'

(Du et al. 2019, arXiv:1810.02054, eq. 3). Kernel flow with it is the flow of the
**sum** ½Σ(u − y)², t = k·step_size. Nothing is divided by the input dimension: it is `ntk`
with depth=1, w_std=(√d, 1), no biases and trained=[0].
"""

from __future__ import annotations

import math

from torch import Tensor

from gflow.kernels.analytic import ntk
from gflow.kernels.layers import checked_points


def two_layer_relu_gram(x1: Tensor, x2: Tensor | None = None) -> Tensor:
    """Compute the Gram matrix of H*(x, x') = x·x' (π − arccos(x·x'/‖x‖‖x'‖))/(2π).

    Parameters
    ----------
    x1 : Tensor, shape (n1, d)
        Points, one a row; any norm (the theory takes ‖x‖ = 1).
    x2 : Tensor, shape (n2, d), optional
        Further points; x1 itself by default, then exactly symmetric, its diagonal ‖x‖²/2.

    Returns
    -------
    Tensor, shape (n1, n2)

    Raises
    ------
    InputError
        If the points are not finite matrices with the same number of columns.

    Examples
    --------
    >>> import torch
    >>> two_layer_relu_gram(torch.eye(2, dtype=torch.float64)).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    x1, x2 = checked_points(x1, x2, "(n, d)")
    return ntk(x1, x2, depth=1, w_std=(math.sqrt(x1.shape[1]), 1.0), trained=[0])
