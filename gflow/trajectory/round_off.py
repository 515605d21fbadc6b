r"""What round-off does to a flow that is affine in its state, ẏ = −A(y − ȳ), at late times.

A mode with eigenvalue λ moves at t = 1/λ. The products of A with such a slow direction w are sums
that cancel, to an error near eps·λ_max for a dense A and far less for one that is graded or
diagonal. So the error is measured, for a generic unit vector g, as

    δ = |⟨w, A(w + g) − A w − A g⟩|,

and changes the residual by about t·δ of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gflow.flows.base import Flow
from gflow.linalg.arrays import to_numpy

_SAMPLES = 5  # states at which the products are measured


def round_off_bound(rtol: float, dtype: torch.dtype) -> float:
    """Return the largest error by round-off, relative to the largest state, that is acceptable.

    Parameters
    ----------
    rtol : float
        The relative tolerance of the solve.
    dtype : torch.dtype
        Of its states.

    Returns
    -------
    float

    Examples
    --------
    >>> round_off_bound(1e-6, torch.float64)
    1e-06
    """
    return max(rtol, 1e4 * torch.finfo(dtype).eps)


def product_round_off(flow: Flow, ts: Sequence[float], ys: Tensor, bound: float) -> float:
    """Estimate the error that round-off of the products causes on the path of an affine flow.

    Parameters
    ----------
    flow : Flow
        Affine in its state.
    ts : sequence of float, shape (T,)
        Times since the start.
    ys : Tensor, shape (T, ..., *state)
        States at them.
    bound : float
        An error that is acceptable: where it cannot be reached, one product is all.

    Returns
    -------
    float
        Relative to the largest state of each member; the largest over members.

    Examples
    --------
    >>> import gflow
    >>> H = torch.diag(torch.tensor([1.0, 1e-13], dtype=torch.float64))
    >>> flow = gflow.KernelFlow(H, torch.ones(2, dtype=torch.float64))
    >>> ys = flow.exact(torch.tensor([0.0, 1e13]), torch.zeros(2, dtype=torch.float64))
    >>> product_round_off(flow, [0.0, 1e13], ys, 1e-6) < 1e-9
    True
    """
    eps, n = torch.finfo(ys.dtype).eps, ys[0].numel()
    g = torch.cos(torch.arange(n, dtype=ys.dtype, device=ys.device) ** 2).reshape(ys[0].shape)
    g = g / _spread(flow, flow.norm(g))
    Ag = flow.jvp(ys[0], g)
    speed = float(flow.norm(Ag).max())
    if not ts[-1] * speed * eps * n > 0.1 * bound:
        return 0.0
    size = to_numpy(flow.norm(ys)).max(axis=0)
    at = sorted({round(i * (len(ts) - 1) / _SAMPLES) for i in range(1, _SAMPLES + 1)})
    worst = 0.0
    for i in at:
        y, rest = ys[i], flow.stationary_state
        w = flow(0.0, y) if rest is None else y - rest
        length = flow.norm(w)
        w = w / _spread(flow, length.clamp_min(torch.finfo(ys.dtype).tiny))
        defect = flow.jvp(y, w + g) - flow.jvp(y, w) - Ag
        rate = to_numpy(flow.inner(w, defect).abs())
        residual = to_numpy(length) if rest is not None else size
        change = residual * -np.expm1(-ts[i] * rate)
        worst = max(worst, float(np.max(change / np.where(size > 0, size, 1.0))))
    return worst


def _spread(flow: Flow, values: Tensor) -> Tensor:
    """Return one number for each member in a shape that broadcasts against states."""
    return values.reshape(*values.shape, *[1] * flow.state_ndim)
