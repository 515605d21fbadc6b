"""A flow on NumPy arrays: what a solver computes of one small state on the CPU, without torch.

A call of torch takes microseconds before its arithmetic begins, one of NumPy a few tenths. The
formulas are those of the flow, and `tests/flows/test_array_form.py` holds both together.

NumPy warns of overflow, which torch does not: call a form inside ``numpy.errstate(all="ignore")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.flows.jacobian import in_transform
from gflow.linalg.arrays import shared_array

_FEW_NUMBERS = 1 << 14  # in all states: NumPy is faster than any number of threads
_FEW_THREADS = 2  # NumPy multiplies small matrices two to three times as fast as one of torch


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
    """

    velocity: Callable[[np.ndarray], np.ndarray]
    loss: Callable[[np.ndarray], float]
    dissipation: Callable[[np.ndarray, np.ndarray], float]
    loss_and_velocity: Callable[[np.ndarray], tuple[float, np.ndarray]]


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
    return float(vector @ vector)


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


def ensemble_as_array(y: Tensor, ndim: int) -> np.ndarray | None:
    """Return the states of an ensemble as an array on the same memory, where that is faster.

    Parameters
    ----------
    y : Tensor, shape (..., *state)
        A state or an ensemble.
    ndim : int
        The dimensions of a state.

    Returns
    -------
    np.ndarray, shape (..., *state), or None
        None for one state, on other devices, with many numbers for many threads, and where torch
        records or transforms operations: gradients, torch.func, modes, compilation.

    Examples
    --------
    >>> import torch
    >>> ensemble_as_array(torch.zeros(2, 3), 1).shape
    (2, 3)
    >>> ensemble_as_array(torch.zeros(3), 1), ensemble_as_array(torch.zeros(2, 3), 2)
    (None, None)
    """
    if type(y) is not Tensor or y.ndim <= ndim or y.requires_grad or not y.numel():
        return None
    if y.numel() > _FEW_NUMBERS and torch.get_num_threads() > _FEW_THREADS:
        return None
    is_recorded = (
        in_transform()
        or torch.autograd.forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch.compiler.is_compiling()
    )
    return None if is_recorded else shared_array(y)
