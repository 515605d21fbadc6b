"""A flow on NumPy arrays: what a solver computes of one small state on the CPU, without torch.

A call of torch takes microseconds before its arithmetic begins, one of NumPy a few tenths. The
formulas are those of the flow, and `tests/flows/test_array_form.py` holds both together.

NumPy warns of overflow, which torch does not: call a form inside ``numpy.errstate(all="ignore")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class ArrayForm(NamedTuple):
    """A flow on arrays of one state, of the dtype of its data; the functions are pure.

    Attributes
    ----------
    velocity : callable
        Maps a state, shape (*state), to dy/dt: a new C-contiguous array of the same shape, NaN
        where a decomposition fails. The flow is autonomous.
    loss : callable
        Maps a state to φ.
    dissipation : callable
        Maps a state and dy/dt there to −dφ/dt.
    loss_and_velocity : callable
        Maps a state to φ and dy/dt, by one computation where they share work.
    many : bool
        Whether ``velocity`` maps the states of an ensemble, too, shape (members, *state): NumPy
        multiplies small matrices two to three times as fast as a thread of torch.
    """

    velocity: Callable[[np.ndarray], np.ndarray]
    loss: Callable[[np.ndarray], float]
    dissipation: Callable[[np.ndarray, np.ndarray], float]
    loss_and_velocity: Callable[[np.ndarray], tuple[float, np.ndarray]]
    many: bool = False


def squared_speed(state: np.ndarray, velocity: np.ndarray) -> float:
    """Compute ‖dy/dt‖², at which the loss of a flow of parameters falls.

    Parameters
    ----------
    state, velocity : np.ndarray, shape (*state)
        A state and dy/dt there.

    Returns
    -------
    float
        The rate −dφ/dt.

    Examples
    --------
    >>> squared_speed(np.zeros(2), np.array([3.0, 4.0]))
    25.0
    """
    vector = velocity.reshape(-1)
    return float(vector.dot(vector))


def reduced_form(loss: Any, velocity: Callable[[np.ndarray], np.ndarray]) -> ArrayForm:
    """Make the form of a flow of the matrix W itself, whose loss falls at −⟨∇ℓ(W), Ẇ⟩.

    Parameters
    ----------
    loss : object
        `Loss.on_arrays` of the loss ℓ.
    velocity : callable
        W ↦ Ẇ.

    Returns
    -------
    ArrayForm

    Examples
    --------
    >>> import torch
    >>> from gflow.losses import SquaredDistance
    >>> loss = SquaredDistance(torch.ones(1, 1)).on_arrays()
    >>> form = reduced_form(loss, lambda W: -2 * loss.gradient(W))
    >>> form.dissipation(np.zeros((1, 1)), form.velocity(np.zeros((1, 1))))
    2.0
    """

    def dissipation(W: np.ndarray, velocity: np.ndarray) -> float:
        return -float(np.vdot(loss.gradient(W), velocity))

    return ArrayForm(
        velocity,
        lambda W: float(loss(W)),
        dissipation,
        lambda W: (float(loss(W)), velocity(W)),
    )
