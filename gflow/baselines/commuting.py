r"""Where matrix sensing with commuting measurements ends.

For W = UUᵀ and symmetric A_i that commute, W(t) = e^{A*(s)} W_0 e^{A*(s)} (Gunasekar et al.
2017, arXiv:1705.09280): from W_0 = c·I it ends in their eigenbasis at the eigenvalues
w_j = c·e^{Σ_i ν_i a_ij} with Σ_j a_ij w_j = b_i, of least relative entropy to c; for c → 0 of
least trace.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gflow.baselines.entropy import entropy_minimiser, exponential
from gflow.checks import require_finite, require_float, require_positive
from gflow.errors import InputError

_COMMUTE = 1e-10  # relative size of what is left off the diagonal


def commuting_limit(measurements: Tensor, values: Tensor, scale: float) -> Tensor:
    """Compute the W to which the flow of W = UUᵀ tends from W_0 = scale·I.

    Parameters
    ----------
    measurements : Tensor, shape (m, d, d)
        Symmetric A_i that commute.
    values : Tensor, shape (m,)
        b_i.
    scale : float
        c > 0.

    Returns
    -------
    Tensor, shape (d, d)
        W ⪰ 0 with ⟨A_i, W⟩ = b_i.

    Raises
    ------
    InputError
        If the measurements are not symmetric or do not commute, or no such W exists.

    Examples
    --------
    >>> import torch
    >>> A = torch.eye(2).double()[None]
    >>> limit = commuting_limit(A, torch.tensor([3.0]).double(), 1e-6)
    >>> [round(x, 9) for x in limit.diagonal().tolist()]
    [1.5, 1.5]
    """
    A, b = require_float("measurements", measurements), require_float("values", values)
    if A.ndim != 3 or A.shape[1] != A.shape[2] or b.shape != A.shape[:1]:
        raise InputError(
            f"measurements must have shape (m, d, d) and values (m,), got {tuple(A.shape)} and "
            f"{tuple(b.shape)}; reshape them"
        )
    for name, value in (("measurements", A), ("values", b)):
        require_finite(name, value)
    scale = require_positive("scale", scale)
    # A generic combination has the eigenvectors of all.
    weights = torch.cos(1 + torch.arange(len(A), dtype=A.dtype, device=A.device) ** 2)
    _, Q = torch.linalg.eigh(torch.einsum("m,mij->ij", weights, 0.5 * (A + A.mT)))
    rotated = Q.mT @ A @ Q
    diagonal = rotated.diagonal(dim1=-2, dim2=-1)
    rest = float((rotated - torch.diag_embed(diagonal)).norm())
    if rest > _COMMUTE * float(A.norm()):
        raise InputError(
            "measurements must be symmetric and commute, but in the eigenbasis of a combination "
            f"of them {rest / float(A.norm()):.2g} of their norm is off the diagonal"
        )
    w = entropy_minimiser(diagonal, b, math.log(scale), exponential).to(A)
    return (Q * w) @ Q.mT
