r"""The scale that a change of an invariant is relative to, where a flow does not give one.

An error of the state moves an invariant Q by J·e, J = ∂Q/∂y. Where every entry of the state is
off by its own relative error, that is about ‖J diag(y)‖_F, the scale of Q: for Q = u² − v² it is
2√(u⁴ + v⁴), which does not vanish where Q does. An error of ε‖y‖ in any direction is allowed to a
solver, too, and moves Q by ε‖J‖_F‖y‖; a thousandth of ‖J‖_F‖y‖ is added, so that an invariant of
entries that are zero, or far below ‖y‖, is not said to drift by what the tolerance allows.

Both norms are estimated by differences along a few fixed random directions, so that the invariant
need not be differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_DIRECTIONS = 4
_ANY_DIRECTION = 1e-3  # weight of errors in any direction against those of each entry


def response_scales(
    invariants: Callable[[Tensor], Mapping[str, Tensor]], y: Tensor, state_ndim: int
) -> dict[str, Tensor]:
    """Estimate how far a relative error of the state moves each invariant, per unit of the error.

    Parameters
    ----------
    invariants : callable
        State or ensemble ↦ tensors by name, with the ensemble's dimensions first.
    y : Tensor, shape (..., *state)
        A state or an ensemble.
    state_ndim : int
        Number of dimensions of one state.

    Returns
    -------
    dict of str to Tensor, shape (...)
        A scale for each invariant.

    Examples
    --------
    >>> import torch
    >>> difference = lambda y: {"difference": y[..., 0] ** 2 - y[..., 1] ** 2}
    >>> scale = response_scales(difference, torch.ones(2).double(), 1)["difference"]
    >>> 1.5 < float(scale) < 6   # 2√2
    True
    """
    values = invariants(y)
    if not values:
        return {}
    batch_ndim = y.ndim - state_ndim
    size = y.reshape(*y.shape[:batch_ndim], -1).norm(dim=-1)
    size = size.reshape(*size.shape, *[1] * state_ndim)
    step = torch.finfo(y.dtype).eps ** 0.5
    noise = torch.Generator().manual_seed(0)
    squares = {name: torch.zeros((), dtype=y.dtype, device=y.device) for name in values}
    for _ in range(_DIRECTIONS):
        direction = torch.randn(y.shape[batch_ndim:], generator=noise, dtype=torch.float64).to(y)
        for weight, along in ((1.0, y * direction), (_ANY_DIRECTION, size * direction)):
            moved = invariants(y + step * along)
            for name, value in values.items():
                change = (moved[name] - value).reshape(*value.shape[:batch_ndim], -1)
                squares[name] = squares[name] + (weight * change.norm(dim=-1) / step).square()
    return {name: (square / _DIRECTIONS).sqrt() for name, square in squares.items()}
