r"""The saddles that a diagonal linear network of depth 2 visits from an infinitesimal start.

With L(w) = 1/(2n)‖Xw − y‖² and α → 0 the weights jump from saddle to saddle at times that are fixed
in units of log(1/α)/2 (Pesme & Flammarion 2023, arXiv:2304.00488, algorithm 1). Between jumps
s = z/(2 log(1/α)), z as in `gflow.flows.diagonal_dual`, moves on a line, ṡ = −∇L(w); where an
entry meets ±1, w becomes the minimiser of L over the weights that have the sign of s where |s| = 1
and are zero elsewhere: entries are switched on, and off again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.baselines.arguments import require_samples
from gflow.checks import require_count
from gflow.errors import InputError

_AT_BOUND = 1e-9  # distance of |s| from 1 that counts as none
_STATIONARY = 1e-12  # gradient, relative to its terms


@dataclass(frozen=True)
class SaddleSequence:
    """Saddles and the times of the jumps to them.

    Attributes
    ----------
    times : Tensor, shape (k,)
        The times at which the flow jumps, in units of log(1/α)/2.
    weights : Tensor, shape (k + 1, d)
        0, and w after each jump.
    losses : Tensor, shape (k + 1,)
        1/(2n)‖Xw − y‖² of each.

    All are float64, on the CPU.
    """

    times: Tensor
    weights: Tensor
    losses: Tensor


def saddle_sequence(inputs: Tensor, targets: Tensor, max_jumps: int = 1000) -> SaddleSequence:
    """Compute the saddles of a diagonal linear network and the times of its jumps.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        X.
    targets : Tensor, shape (n,)
        y.
    max_jumps : int
        The largest number of jumps.

    Returns
    -------
    SaddleSequence
        To a minimum of L, or up to the largest number of jumps.

    Raises
    ------
    InputError
        If shapes do not fit, or an argument is empty or not finite.

    Examples
    --------
    >>> import torch
    >>> X = torch.eye(2, dtype=torch.float64)
    >>> found = saddle_sequence(X, torch.tensor([2.0, -1.0], dtype=torch.float64))
    >>> found.times.tolist(), found.weights.tolist()       # s_j meets ±1 at n/|y_j|
    ([1.0, 2.0], [[0.0, 0.0], [2.0, 0.0], [2.0, -1.0]])
    """
    X, y = (x.cpu().double() for x in require_samples(inputs, targets))
    max_jumps = require_count("max_jumps", max_jumps)
    n, d = X.shape
    # In units of their largest entries no square or product of data overflows, or underflows.
    size_X, size_y = (float(x.abs().max()) or 1.0 for x in (X, y))
    X, y = X / size_X, y / size_y
    s, w = torch.zeros(d).double(), torch.zeros(d).double()
    time, times, weights = 0.0, [], [w]
    for _ in range(max_jumps):
        gradient = X.T @ (X @ w - y) / n
        terms = X.abs().T @ (X.abs() @ w.abs() + y.abs()) / n
        moving = gradient.abs() > _STATIONARY * terms
        # Entries at a bound are held there, or return from it.
        towards = torch.where(gradient < 0, 1.0 - s, 1.0 + s)
        free = moving & (towards > _AT_BOUND)
        if not bool(free.any()):
            break
        steps = torch.where(free, towards / gradient.abs().clamp_min(1e-300), torch.inf)
        step = float(steps.min())
        time += step
        s = (s - step * torch.where(free, gradient, torch.zeros(d).double())).clamp(-1, 1)
        w = _constrained(X, y, s)
        times.append(time)
        weights.append(w)
    stacked = torch.stack(weights)
    losses = (stacked @ X.T - y).square().sum(-1) / (2 * n) * size_y * size_y
    ends = torch.tensor(times, dtype=torch.float64) / size_X / size_y
    stacked = stacked * (size_y / size_X)
    if not all(bool(x.isfinite().all()) for x in (ends, stacked, losses)):
        raise InputError(
            "times, weights and losses must fit in float64, but overflow with inputs and targets "
            f"of at most {size_X:.2g} and {size_y:.2g}; change their units"
        )
    return SaddleSequence(ends, stacked, losses)


def _constrained(X: Tensor, y: Tensor, s: Tensor) -> Tensor:
    """Minimise ‖Xw − y‖ over w with the sign of s where |s| = 1, and 0 elsewhere."""
    from scipy.optimize import nnls

    w, active = torch.zeros_like(s), s.abs() >= 1 - _AT_BOUND
    signs = s[active].sign()
    columns = (X[:, active] * signs).numpy()
    w[active] = torch.from_numpy(nnls(columns, y.numpy(), maxiter=100 * len(signs))[0]) * signs
    return w
