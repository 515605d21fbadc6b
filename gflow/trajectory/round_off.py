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

_SAMPLES = 5  # states at which products and velocities are measured
_DIFFERENCE = 1e-3  # of ‖y‖, for the speed of the fastest modes
_WIDTHS = (1e-3, 1e-4)  # of ‖y‖: a kink shows less in the shorter one
_CAUTION = 0.1  # errors of many steps are not all of one sign
_PLACES = (-1.0, -0.81, -0.53, -0.36, -0.11, 0.17, 0.42, 0.64, 0.93)  # beside a state, of the width


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


def velocity_round_off(
    flow: Flow,
    ts: Sequence[float],
    ys: Tensor,
    bound: float,
    *,
    before: Tensor | None = None,
    rest: np.ndarray | None = None,
) -> float:
    r"""Estimate the error that round-off of the velocity causes along the path of any flow.

    At late times a path moves slowly along some direction w. The round-off η of ⟨w, f⟩ is what is
    left of its values beside a state when a smooth function is taken from them, or what their
    differences are short of ⟨w, (∂f/∂y)w⟩ = λ; it changes the state by up to
    η·min(t, 1/|λ|), by some tenth of it as a rule.

    Parameters
    ----------
    flow : Flow
    ts : sequence of float, shape (T,)
        Times since the start.
    ys : Tensor, shape (T, ..., *state)
        States at them.
    bound : float
        An error that is acceptable: where it cannot be reached, a few evaluations are all.
    before : Tensor, shape (..., *state), optional
        A state shortly before the last one: the velocity may point anywhere, as fast modes have
        errors of the size of the tolerance.
    rest : np.ndarray, shape (members,), optional
        The time from which each member is at rest.

    Returns
    -------
    float
        Relative to the largest state of each member; the largest over members.

    Examples
    --------
    >>> import gflow
    >>> Q = torch.linalg.qr(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double())[0]
    >>> H = Q @ torch.diag(torch.tensor([1.0, 1e-14]).double()) @ Q.T   # a fast and a slow mode
    >>> flow = gflow.flow_from_loss(lambda y: 0.5 * y @ H @ y, shape=(2,))
    >>> ys = torch.stack([Q.sum(1), Q[:, 1], Q[:, 1] / 2])
    >>> velocity_round_off(flow, [0.0, 1e3, 1e14], ys, 1e-6) > 1e-6
    True
    >>> velocity_round_off(flow, [0.0, 1e2, 1e3], ys, 1e-6)
    0.0
    """
    eps, n = torch.finfo(ys.dtype).eps, ys[0].numel()
    g = torch.cos(torch.arange(n, dtype=ys.dtype, device=ys.device) ** 2).reshape(ys[0].shape)
    size = to_numpy(flow.norm(ys)).max(axis=0)
    ends = ys[[0, -1]]  # what was computed of large numbers may be small at the end
    reach = _DIFFERENCE * flow.norm(ys).amax(dim=0) / flow.norm(g)
    change = flow.norm(flow(0.0, ends + _spread(flow, reach) * g) - flow(0.0, ends)).amax(dim=0)
    speed = to_numpy(change / reach.clamp_min(torch.finfo(ys.dtype).tiny))
    if not ts[-1] * float(np.max(speed)) * eps * n > 0.1 * bound:
        return 0.0
    last = np.inf if rest is None else rest.reshape(size.shape)
    at = sorted({round(i * (len(ts) - 1) / _SAMPLES) for i in range(1, _SAMPLES + 1)})
    ways = [(i, ys[i] - ys[i - 1]) for i in at]
    if before is not None:
        ways.append((len(ts) - 1, ys[-1] - before))
    worst = 0.0
    for i, way in ways:
        noise, rate = _noise_along(flow, ys[i], way)
        with np.errstate(divide="ignore"):
            lasts = np.minimum(np.minimum(ts[i], last), 1 / np.abs(rate))
        error = _CAUTION * noise * lasts
        worst = max(worst, float(np.max(error / np.where(size > 0, size, 1.0))))
    return worst


def _noise_along(flow: Flow, y: Tensor, way: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the round-off of the velocity along the direction w of a way, and ⟨w, (∂f/∂y)w⟩."""
    f = flow(0.0, y)
    w = way / _spread(flow, flow.norm(way).clamp_min(torch.finfo(y.dtype).tiny))
    rate = to_numpy(flow.inner(w, flow.jvp(y, w)))
    noises = []
    for width in _WIDTHS:
        reach = width * flow.norm(y)
        at = [_spread(flow, x * reach) * w for x in _PLACES]
        values = np.stack([to_numpy(flow.inner(w, flow(0.0, y + step) - f)) for step in at])
        values = values.reshape(len(_PLACES), -1)
        smooth = np.linalg.qr(np.vander(_PLACES, 4))[0]
        rough = values - smooth @ (smooth.T @ values)
        left = np.sqrt((rough**2).sum(axis=0) / (len(_PLACES) - 4))
        slope = np.polynomial.polynomial.polyfit(_PLACES, values, 3)[1]
        noises.append(
            np.maximum(left, np.abs(slope - rate.reshape(-1) * to_numpy(reach).reshape(-1)))
        )
    return np.minimum(*noises).reshape(rate.shape), rate


def _spread(flow: Flow, values: Tensor) -> Tensor:
    """Return one number for each member in a shape that broadcasts against states."""
    return values.reshape(*values.shape, *[1] * flow.state_ndim)
