r"""The maximum-margin direction: w of least ‖w‖₂ with y_i x_i·w ≥ 1.

Its dual is the point of least norm in the convex hull of z_i = y_i x_i: w is in its direction. In
directions ẑ_i = z_i/‖z_i‖ and h_i = min ‖z‖/‖z_i‖, w is the combination Ẑᵀa of nonnegative least
squares on (Ẑᵀa, τ hᵀa) = (0, 1) for any τ > 0 (Lawson & Hanson's active sets): accurate where τ is
the margin, which is found in a few rounds. The units of the inputs do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gflow.baselines.arguments import as_given, require_data
from gflow.checks import require_float, require_tensor
from gflow.errors import InputError
from gflow.text import brief

_ROUNDS = 6  # of the scale τ
_GAP = 1e-13  # of ‖w‖ and its lower bound, relative
_SEPARATED = 1e-15  # of a margin, relative to its terms
_RAISED = 1e-13  # least offset


@dataclass(frozen=True)
class MaxMargin:
    """The maximum-margin separation through the origin.

    Attributes
    ----------
    solution : Tensor, shape (d,)
        w of least norm with all margins at least 1.
    margin : float
        γ = 1/‖w‖, the distance of the nearest sample.
    support : Tensor of int64
        The samples with a positive multiplier.
    """

    solution: Tensor
    margin: float
    support: Tensor

    @property
    def direction(self) -> Tensor:
        """The unit vector w/‖w‖."""
        return self.solution * self.margin


def max_margin(inputs: Tensor, labels: Tensor) -> MaxMargin:
    """Find the direction of largest margin through the origin.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        Inputs X.
    labels : Tensor, shape (n,)
        0 and 1, or −1 and 1.

    Returns
    -------
    MaxMargin

    Raises
    ------
    InputError
        If shapes do not fit, labels are others, or no direction separates the samples.

    Examples
    --------
    >>> import torch
    >>> X = torch.tensor([[2.0, 1.0], [-1.0, -2.0]], dtype=torch.float64)
    >>> found = max_margin(X, torch.tensor([1, 0]))
    >>> [round(x, 9) for x in found.solution.tolist()], round(found.margin, 4)
    ([0.333333333, 0.333333333], 2.1213)
    """
    X, y = require_float("inputs", inputs), require_tensor("labels", labels)
    if X.ndim != 2 or y.reshape(-1).shape != X.shape[:1]:
        raise InputError(
            f"inputs must have shape (n, d) and labels (n,), got {tuple(X.shape)} and "
            f"{tuple(y.shape)}; reshape them"
        )
    X = require_data("inputs", X)
    known = set(y.unique().tolist())
    if not (known <= {0, 1} or known <= {-1, 1}):
        raise InputError(
            f"labels must be 0 and 1, or -1 and 1, got {brief(sorted(known))}; take two classes"
        )
    signs = torch.where(y.reshape(-1) > 0, 1.0, -1.0).double()
    Z = X.double() * signs.to(X.device)[:, None]
    largest = Z.abs().amax(1, keepdim=True)
    if not bool((largest > 0).all()):
        row = int((largest[:, 0] == 0).nonzero()[0])
        raise InputError(
            f"inputs must not be zero in all of a row, but row {row} (counted from 0) is; no "
            "direction separates it; remove it"
        )
    norms = (Z / largest).norm(dim=1)
    sizes = largest[:, 0] * norms
    rows, least = (Z / largest / norms[:, None]).cpu().numpy(), float(sizes.min())
    w, support = _separation(rows, (least / sizes).cpu().numpy())
    solution = as_given(torch.from_numpy(w / least).to(X.device), X)
    return MaxMargin(solution, least / float(np.linalg.norm(w)), torch.from_numpy(support))


def _separation(rows: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the least w with rows·w ≥ offsets for rows of norm 1, and where the two are equal."""
    # Where an offset is below round-off, a larger one keeps its row on the right side.
    for raised in (offsets, np.maximum(offsets, _RAISED)):
        best, support = np.full(rows.shape[1], np.inf), np.zeros(0, dtype=int)
        scale = 1.0
        for _ in range(_ROUNDS):
            a = _multipliers(rows, scale * raised)
            combination, total = rows.T @ a, float(raised @ a)
            active = np.flatnonzero(a > 0)
            tight = np.linalg.lstsq(rows[active], raised[active])[0]
            for w in (combination, tight):
                margins = rows @ w
                if (margins > _SEPARATED * (abs(rows) @ abs(w))).all():
                    w = w * (offsets / margins).max()
                    if np.linalg.norm(w) < np.linalg.norm(best):
                        best, support = w, active
            # No w is shorter than total/‖combination‖.
            norm = float(np.linalg.norm(combination))
            if norm <= _SEPARATED * total or np.linalg.norm(best) * norm <= (1 + _GAP) * total:
                break
            scale = norm / total
        if len(support):
            return best, support
    raise InputError(
        "samples must be separable by a direction through the origin, got none that does; "
        "append a column of ones to the inputs for an offset, or remove samples"
    )


def _multipliers(rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return a ≥ 0 of least ‖rowsᵀa‖² + (offsets·a − 1)²."""
    from scipy.optimize import nnls

    system, most = np.vstack([rows.T, offsets]), 30 * len(rows)
    try:
        a: np.ndarray = nnls(system, np.append(np.zeros(rows.shape[1]), 1.0), maxiter=most)[0]
    except RuntimeError:
        raise InputError(
            f"the margin must be found in {most} changes of the active set, but is not; remove "
            "samples that nearly repeat others"
        ) from None
    return a
