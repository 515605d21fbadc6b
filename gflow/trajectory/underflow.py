r"""Whether the loss at the end of a path is still resolved, or lost to round-off.

The cross-entropy log Σ_j e^{z_j} − z_y of separable data falls as 1/t, but once it is below eps a
computer has 0; so have squared errors of a saturated tanh or sigmoid. Its gradient is then wrong
in part or zero, and the path stands still where the true one moves for ever. A resolved loss obeys

    ±δ⟨∇φ(y), d⟩ ≈ ±(φ(y ± δd) − φ(y ∓ δd))/2,    d = y − y₀, for some small δ.

Near a minimum in the interior the loss rises by far more than its value within a thousandth of d,
which proves it resolved. A loss that is exactly zero all around is one with a flat minimum (a
hinge) if it rises at once where it is left, and a saturated one if it rises from round-off.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gflow.flows.base import Flow, gradient_of
from gflow.linalg.arrays import to_numpy

_SMALL = 1e4  # of eps: losses that have not fallen by more are resolved
_STEPS = (1e-2, 3e-3, 1e-3, 1e-4)  # δ
# Of the way: a gradient that is rounded, as σ(z) − 1 is, may agree with the loss by chance.
_SHIFTS = (0.0, 0.03, -0.03)
_FLAT_STEP, _FLAT = 2, 10.0  # growth of the loss within this δ that is no sign of a minimum
_AGREES = 0.002  # relative difference of slopes
_SMOOTH = 5.0  # by which it falls at least from one δ to the next, if it is of higher order
_NEAR = 100.0  # times the loss at the end: the loss beside it
_ROUND_OFF = 1e3  # of eps: a loss that rises from this level was rounded to zero before
_POINTS = 256  # on the way back to the start
_MEMORY = 2**20  # numbers in the states whose losses are computed at once


def underflow(flow: Flow, start: Tensor, end: Tensor) -> str | None:
    """Say how the loss has underflowed at the end of a path; None where it is resolved.

    Parameters
    ----------
    flow : Flow
    start, end : Tensor, shape (..., *state)
        The first and the last states of a path.

    Returns
    -------
    str or None

    Examples
    --------
    >>> import gflow
    >>> x, y = torch.tensor([[0.0], [1.0]]).double(), torch.tensor([0, 1])
    >>> linear = torch.nn.Linear(1, 2, bias=False).double()
    >>> flow = gflow.NetworkFlow(linear, torch.nn.functional.cross_entropy, x[1:], y[1:])
    >>> w = torch.tensor([0.0, 0.0], dtype=torch.float64)
    >>> underflow(flow, w, torch.tensor([-10.0, 10.0]).double()) is None
    True
    >>> underflow(flow, w, torch.tensor([-20.0, 20.0]).double())
    'the loss has underflowed: 0 at the end, from 0.69 at the start, is lost to round-off'
    """
    first, last = to_numpy(flow.loss(torch.stack([start, end]))).reshape(2, -1)
    eps = torch.finfo(end.dtype).eps
    with np.errstate(invalid="ignore"):
        small = np.abs(last) <= _SMALL * eps * np.abs(first)
    if not small.any():
        return None
    way = end - start
    factors = [sign * step for step in _STEPS for sign in (1.0, -1.0)]
    lost = np.zeros_like(small)
    for shift in _SHIFTS:
        centre = end + shift * way
        value = to_numpy(flow.loss(centre)).reshape(-1)
        beside = _losses(flow, centre, way, factors).reshape(len(_STEPS), 2, -1)
        along = to_numpy(flow.inner(gradient_of(flow.loss, centre), way)).reshape(-1)
        # A short way in logarithms of a state leads far from where its loss is small.
        near = np.abs(value) <= np.maximum(_NEAR * np.abs(last), _SMALL * eps * np.abs(first))
        lost |= small & near & _disagree(value, beside, along, eps)
        if shift == 0:
            around, slope = beside, along
    flat = small & (last == 0) & (around == 0).all(axis=(0, 1)) & (slope == 0)
    if flat.any() and bool((way != 0).any()):
        back = _losses(flow, end, way, [-i / _POINTS for i in range(1, _POINTS + 1)])
        rises = np.abs(np.where(back == 0, np.inf, back)).min(axis=0)
        lost |= flat & (rises <= _ROUND_OFF * eps * np.abs(first))
    if not lost.any():
        return None
    i = int(lost.argmax())
    return (
        f"the loss has underflowed: {last[i]:.2g} at the end, from {first[i]:.2g} at the start, "
        "is lost to round-off"
    )


def _disagree(last: np.ndarray, around: np.ndarray, slope: np.ndarray, eps: float) -> np.ndarray:
    """Return where the loss is flat around the end, and its differences are not its slope."""
    size = np.abs(slope)
    largest = np.abs(around[_FLAT_STEP]).max(axis=0)
    flat = largest <= _FLAT * np.where(last != 0, np.abs(last), size)
    steps = np.array(_STEPS)[:, None]
    difference = (around[:, 0] - around[:, 1]) / (2 * steps)
    noise = 10 * eps * np.abs(around).max(axis=1) / steps
    apart = np.abs(difference - slope)
    wrong = apart > _AGREES * np.maximum(np.abs(difference), size) + noise
    # The error of differences of a resolved loss falls as δ², until they are round-off.
    wrong &= ~(_SMOOTH * apart[1:3] < apart[:2]).all(axis=0)
    return flat & wrong.all(axis=0)


def _losses(flow: Flow, end: Tensor, way: Tensor, factors: list[float]) -> np.ndarray:
    """Return φ(end + factor·way) for each factor, (factors, members)."""
    at_once = max(1, _MEMORY // max(1, end.numel()))
    losses = []
    for i in range(0, len(factors), at_once):
        states = [end + factor * way for factor in factors[i : i + at_once]]
        losses.append(to_numpy(flow.loss(torch.stack(states))).reshape(len(states), -1))
    return np.concatenate(losses)
