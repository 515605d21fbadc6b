"""Carry a solve of a single start on in other coordinates, without a new start.

Where a mode is left out the path stays the same, so what is known of it does: the method, the
length and the error of the last step, the rates of the fastest modes, and the past states of a
multistep method. Started anew, that method would first have to find its order and step again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.execution.checkpointing import Checkpoint
from gflow.solvers.loop.state import LoopState

#: Of `Members`: what holds in any coordinates.
_NUMBERS = (
    *("method", "h", "last_step", "error_before", "retried", "fault"),
    *("radius", "age", "due", "votes", "nonstiff_steps", "pause"),
    *("growth", "growth_blind", "growth_h"),
)
_OUTSIDE = 0.5  # norm of a unit vector in the coordinates: below it, it is mostly outside them


def carry(state: LoopState, from_states: Callable[[Tensor], Tensor]) -> Checkpoint:
    """Return what goes on in other coordinates.

    Parameters
    ----------
    state : LoopState
        Of a single start, between two steps.
    from_states : callable
        Maps states, with any leading dimensions, to the coordinates; linear.

    Returns
    -------
    Checkpoint
        For `carry_on`.

    Examples
    --------
    >>> import gflow
    >>> from gflow.solvers.explicit import Tsit5
    >>> from gflow.solvers.problem import Problem
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> problem = Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    >>> state = LoopState.initial(problem, (Tsit5(),), starter=False)
    >>> carry(state, lambda U: U[..., :2]).tensors["modes"].shape  # of two columns of three
    torch.Size([2, 8])
    """
    m, past = state.members, state.past

    def mapped(rows: Tensor) -> Tensor:
        states = rows.reshape(-1, *state.problem.y0.shape)
        return from_states(states).reshape(len(states), -1)

    tensors = {"vector": mapped(m.vector), "modes": mapped(m.modes[0])}
    if past is not None:
        tensors["past"] = mapped(past.stacked())
    now, energy = float(m.t[0]), float(m.energy[0])
    numbers = [float(getattr(m, name)[0]) for name in _NUMBERS]
    numbers.append(float(m.growth_t[0]) - now)
    tensors["numbers"] = torch.tensor(numbers, dtype=torch.float64)
    meta: dict[str, Any] = {}
    if past is not None:
        times, energies, *rest = past.meta
        meta["past"] = [[t - now for t in times], [e - energy for e in energies], *rest]
    return Checkpoint(tensors, meta)


def carry_on(state: LoopState, carried: Checkpoint) -> None:
    """Go on from the start of a solve as from the state that `carry` was called with.

    Parameters
    ----------
    state : LoopState
        Of the same solve in other coordinates, evaluated at its start.
    carried : Checkpoint
        From `carry`.

    Examples
    --------
    >>> import gflow
    >>> from gflow.solvers.explicit import Tsit5
    >>> from gflow.solvers.problem import Problem
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> wide, narrow = (
    ...     LoopState.initial(
    ...         Problem(flow, U, [0.0, 1.0], rtol=1e-6, atol=1e-9), (Tsit5(),), starter=False
    ...     )
    ...     for U in (y0, y0[:, :2].contiguous())
    ... )
    >>> wide.members.h[:] = 0.1
    >>> carry_on(narrow, carry(wide, lambda U: U[..., :2]))
    >>> float(narrow.members.h[0])
    0.1
    """
    m, tensors, meta = state.members, carried.tensors, carried.meta
    for name, number in zip((*_NUMBERS, "growth_t"), tensors["numbers"].tolist(), strict=True):
        getattr(m, name)[0] = number
    vectors = {name: tensors[name].to(m.y) for name in ("vector", "modes")}
    length = {name: vector_norm(rows, dim=1, keepdim=True) for name, rows in vectors.items()}
    if bool(length["vector"] > _OUTSIDE):
        m.vector = vectors["vector"] / length["vector"]
    if bool(length["modes"][0] > _OUTSIDE):
        known = length["modes"] > _OUTSIDE
        m.modes = torch.where(known, vectors["modes"] / length["modes"], 0.0)[None]
    else:  # the mode that was followed is left out
        m.growth[0], m.growth_h[0], m.growth_t[0] = 0.0, np.nan, np.nan
    if state.past is not None and "past" in tensors:
        state.past.restore(state.system.native(tensors["past"].to(m.y)), meta["past"])
