r"""The maximum-margin direction: w of least ‖w‖₂ with y_i x_i·w ≥ 1.

Its dual is the point of least norm in the convex hull of z_i = y_i x_i: w is in its direction. It
is found by nonnegative least squares on (Zᵀa, 1ᵀa) = (0, 1) (Lawson & Hanson's active sets), exact
up to round-off.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.checks import require_finite, require_float, require_nonempty, require_tensor
from gflow.errors import InputError
from gflow.text import brief


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
    import numpy as np
    from scipy.optimize import nnls

    X, y = require_float("inputs", inputs), require_tensor("labels", labels)
    if X.ndim != 2 or y.reshape(-1).shape != X.shape[:1]:
        raise InputError(
            f"inputs must have shape (n, d) and labels (n,), got {tuple(X.shape)} and "
            f"{tuple(y.shape)}; reshape them"
        )
    require_nonempty("inputs", X)
    require_finite("inputs", X)
    known = set(y.unique().tolist())
    if not (known <= {0, 1} or known <= {-1, 1}):
        raise InputError(
            f"labels must be 0 and 1, or -1 and 1, got {brief(sorted(known))}; take two classes"
        )
    signs = torch.where(y.reshape(-1) > 0, 1.0, -1.0).double()
    Z = X.double() * signs[:, None].to(X.device)
    size = float(Z.norm(dim=1).max())
    if size == 0:
        raise InputError("inputs must not all be zero; no direction separates them")
    scaled = (Z / size).cpu().numpy()
    system = np.vstack([scaled.T, np.ones(len(scaled))])
    multipliers, _ = nnls(system, np.append(np.zeros(X.shape[1]), 1.0), maxiter=30 * len(scaled))
    w = torch.from_numpy(scaled.T @ multipliers).to(Z)
    margins = Z @ w
    least = float(margins.min())
    if not least > 1e-9 * size * float(w.norm()) or float(w.norm()) < 1e-9:
        raise InputError(
            "samples must be separable by a direction through the origin, got none that does; "
            "append a column of ones to the inputs for an offset, or remove samples"
        )
    w = w / least
    support = torch.from_numpy(np.flatnonzero(multipliers > 0))
    return MaxMargin(w.to(X), 1 / float(w.norm()), support)
