"""The step size below which descent is stable along a path."""

from __future__ import annotations

import math

from torch import Tensor

from gflow.flows.base import Flow
from gflow.flows.sharpness import sharpness_along
from gflow.linalg.blocks import spread

_TOL = 1e-6  # of the eigenvalue's residual


def stability_limit(flow: Flow, ys: Tensor, samples: int = 5) -> float:
    """Compute 2/λ_max, the least over some states of a path.

    λ_max is the largest Hessian eigenvalue of the objective of the parameters, from
    Jacobian-vector products.

    Parameters
    ----------
    flow : Flow
    ys : Tensor, shape (T, *state)
        States of one path.
    samples : int
        The number of states to compute it at, spread along the path.

    Returns
    -------
    float
        Infinite where no Hessian has a positive eigenvalue.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.tensor([[4.0]], dtype=torch.float64)
    >>> flow = gflow.KernelFlow(H, torch.ones(1, dtype=torch.float64))
    >>> stability_limit(flow, torch.zeros(1, 1, dtype=torch.float64))
    0.5
    """
    values, _ = sharpness_along(flow, ys[spread(len(ys), samples)], tol=_TOL)
    largest = float(values.max())
    return 2 / largest if largest > 0 else math.inf
