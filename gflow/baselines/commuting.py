r"""Where matrix sensing with commuting measurements ends.

For W = UUᵀ and symmetric A_i that commute, W(t) = e^{A*(s)} W_0 e^{A*(s)} (Gunasekar et al.
2017, arXiv:1705.09280): from W_0 = c·I it ends in their eigenbasis at the eigenvalues
w_j = c·e^{Σ_i ν_i a_ij} with Σ_j a_ij w_j = b_i, of least relative entropy to c; for c → 0 of
least trace. The excess falls as a power of c that a linear program has: `commuting_rate`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.baselines.arguments import as_given, require_data, require_precision, round_off
from gflow.baselines.constraints import independent_rows, unit_rows
from gflow.baselines.entropy import entropy_minimiser, exponential
from gflow.checks import require_float, require_positive
from gflow.errors import InputError

_COMMUTE, _ROUND_OFF = 1e-10, 1e3  # relative size off the diagonal: at least; in round-offs
_TRIALS = 5  # combinations of measurements whose eigenvectors are tried
_NO_SLACK = 1e-7  # above what linear programs leave of a slack that is 0


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
    A, b = _constraints(measurements, values)
    scale = require_positive("scale", scale)
    diagonal, b, Q = _diagonals(A, b)
    w = entropy_minimiser(diagonal, b, math.log(scale), exponential)
    return as_given((Q * w) @ Q.mT, A)


@dataclass(frozen=True)
class CommutingRate:
    """How fast the limit's nuclear norm falls to the least of all W ⪰ 0 that fit, as c → 0.

    Attributes
    ----------
    value : float
        The least nuclear norm.
    exponent : float
        κ of ‖W‖_* − value ∝ c^κ, c the scale of the start; infinite where all W that fit have the
        least nuclear norm.
    slacks : Tensor, shape (d,)
        1 − Σ_i ν_i a_ij at the optimal ν with the largest least slack, in the order of the
        eigenbasis: an eigenvalue of the limit falls as c to the power of its slack.
    basis : Tensor, shape (d, d)
        The eigenbasis of the measurements, in columns.
    """

    value: float
    exponent: float
    slacks: Tensor
    basis: Tensor

    def excess(self, W: Tensor) -> Tensor:
        """Compute ‖W‖_* − value of W ⪰ 0 that fit, without the difference: Σ_j slack_j w_j.

        Parameters
        ----------
        W : Tensor, shape (..., d, d)

        Returns
        -------
        Tensor, shape (...)
        """
        W = require_float("W", W)
        Q = self.basis.to(W)
        return (Q.mT @ W @ Q).diagonal(dim1=-2, dim2=-1) @ self.slacks.to(W)


def commuting_rate(measurements: Tensor, values: Tensor) -> CommutingRate:
    """Compute the rate at which `commuting_limit` tends to the least nuclear norm.

    With w_j = c·e^{(Aᵀν)_j} and −ν/log c → ν*, w_j falls as c^{s_j}, s = 1 − Aᵀν* ≥ 0 the slacks of
    the linear program max bᵀν with Aᵀν ≤ 1, dual to min Σ_j w_j with A w = b, w ≥ 0. Of several
    optimal ν the limit takes the one with the largest least slack, over the j that are not 0 for
    all of them.

    Parameters
    ----------
    measurements : Tensor, shape (m, d, d)
        Symmetric A_i that commute.
    values : Tensor, shape (m,)
        b_i.

    Returns
    -------
    CommutingRate

    Raises
    ------
    InputError
        If the measurements are not symmetric or do not commute, or the program has no solution; to
        its tolerances, values below 1e-7 of the largest, of A_i of like size, may be any.

    Examples
    --------
    >>> import torch
    >>> A = torch.diag(torch.tensor([2.0, 1.0])).double()[None]      # 2w₁ + w₂ = 3
    >>> rate = commuting_rate(A, torch.tensor([3.0]).double())       # w → (1.5, 0), ν* = 1/2
    >>> round(rate.value, 9), round(rate.exponent, 9)
    (1.5, 0.5)
    """
    from scipy.optimize import linprog

    given, given_values = _constraints(measurements, values)
    diagonal, scaled, Q = _diagonals(given, given_values)
    # The tolerances of the programs are absolute.
    A, b = diagonal.cpu().numpy(), scaled.cpu().numpy()
    size = max(abs(b).tolist(), default=0.0) or 1.0
    b = b / size
    if len(b) == 0:  # W = c·I meets measurements of zeros
        A, b = np.zeros((1, A.shape[1])), np.zeros(1)
    m, d = A.shape
    free = [(None, None)] * m

    def solve(cost: np.ndarray, **more: Any) -> Any:
        found = linprog(cost, method="highs-ds", **more)
        if found.status != 0:
            raise InputError(
                "a matrix W ⪰ 0 must fit the values, and the least nuclear norm exist, but the "
                f"linear program says: {found.message.strip()}; change measurements or values"
            )
        return found

    value = -solve(-b, A_ub=A.T, b_ub=np.ones(d), bounds=free).fun
    optimal = {"A_eq": b[None], "b_eq": [value], "bounds": free}
    # The slack of j is 0 for all optimal ν exactly where some least solution has w_j > 0.
    largest = [1 - solve(A[:, j], A_ub=A.T, b_ub=np.ones(d), **optimal).fun for j in range(d)]
    zero = np.array(largest) <= _NO_SLACK
    if zero.all():
        slacks, exponent = np.zeros(d), math.inf
    else:
        # max τ with Aᵀν + τ ≤ 1 off the support, in the variables (ν, τ).
        rows = np.hstack([A.T, (~zero)[:, None].astype(float)])
        equal = {"A_eq": np.append(b, 0.0)[None], "b_eq": [value], "bounds": [*free, (None, None)]}
        found = solve(np.append(np.zeros(m), -1.0), A_ub=rows, b_ub=np.ones(d), **equal)
        slacks, exponent = np.where(zero, 0.0, 1 - found.x[:m] @ A), float(found.x[m])
    basis = as_given(Q, given)
    return CommutingRate(float(value) * size, exponent, torch.from_numpy(slacks).to(basis), basis)


def _constraints(measurements: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the arguments as tensors; raise InputError where they cannot be used."""
    A, b = require_float("measurements", measurements), require_float("values", values)
    if A.ndim != 3 or A.shape[1] != A.shape[2] or b.shape != A.shape[:1]:
        raise InputError(
            f"measurements must have shape (m, d, d) and values (m,), got {tuple(A.shape)} and "
            f"{tuple(b.shape)}; reshape them"
        )
    require_precision("measurements", A)  # in half precision any matrices seem to commute
    return require_data("measurements", A), require_data("values", b)


def _diagonals(A: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues a_ij and values b_i of independent A_i, and the common eigenbasis."""
    eps = round_off(A, b)
    tolerance = max(_COMMUTE, _ROUND_OFF * eps)
    A, b = unit_rows(A, b)
    symmetric, sizes = 0.5 * (A + A.mT), A.flatten(1).norm(dim=1).clamp_min(1.0)
    least = math.inf
    for trial in range(1, _TRIALS + 1):
        # A generic combination has the eigenvectors of all; in a special one, terms cancel.
        weights = torch.cos(trial + torch.arange(len(A), dtype=A.dtype, device=A.device) ** 2)
        _, Q = torch.linalg.eigh(torch.einsum("m,mij->ij", weights, symmetric))
        rotated = Q.mT @ A @ Q
        diagonal = rotated.diagonal(dim1=-2, dim2=-1)
        off_diagonal = (rotated - torch.diag_embed(diagonal)).flatten(1).norm(dim=1)
        rest = float((off_diagonal / sizes).max())
        if rest <= tolerance:
            return *independent_rows("values", diagonal, b, eps), Q
        least = min(least, rest)
    raise InputError(
        "measurements must be symmetric and commute, but in the eigenbasis of a combination of "
        f"them {least:.2g} of the norm of one is off the diagonal; symmetrise them, or leave some "
        "out"
    )
