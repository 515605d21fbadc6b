"""The members of an ensemble that are still integrated, and the loop's data on each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import on_device
from gflow.solvers.loop.growth_rate import random_vectors

_ON_DEVICE = ("y", "f", "vector", "modes", "older_y", "older_f", "oldest_y", "oldest_f")


@dataclass
class Members:
    """One row per member. Tensors live on the solve's device, arrays on the host."""

    index: np.ndarray  #: of the member in the ensemble
    y: Tensor  #: the state, (members, size)
    f: Tensor  #: dy/dt there
    vector: Tensor  #: dominant eigenvector of the Jacobian, (members, size)
    modes: Tensor  #: that may grow, followed by growth_rate.py, (members, 2, size)
    older_y: Tensor  #: y at the start of the last accepted step, for dense output
    older_f: Tensor  #: f there
    oldest_y: Tensor  #: y at the start of the step before, for dense output
    oldest_f: Tensor  #: f there
    t: np.ndarray
    older_t: np.ndarray  #: the start of the last accepted step; NaN before the first
    oldest_t: np.ndarray  #: the start of the step before; NaN before the second
    h: np.ndarray  #: length of the step to try next
    loss: np.ndarray
    rate: np.ndarray  #: −dφ/dt
    speed: np.ndarray  #: ‖dy/dt‖ at the end of the last step; NaN before the first
    energy: np.ndarray  #: dissipated so far
    size: np.ndarray  #: ‖y‖
    next: np.ndarray  #: number of the first requested time not reached
    method: np.ndarray  #: number of the method in the solve's `MethodSet`
    last_step: np.ndarray  #: length of the last accepted step; NaN before the first
    error_before: np.ndarray  #: its error, relative to the tolerance
    radius: np.ndarray  #: max(−Re λ) of the Jacobian; NaN where not estimated
    age: np.ndarray  #: accepted steps since the radius was estimated
    due: np.ndarray  #: whether to estimate the radius before the next step
    growth: np.ndarray  #: rate at which a perturbation may grow; 0 where none does
    growth_blind: np.ndarray  #: rate below which differences find none; −1 without products
    growth_t: np.ndarray  #: the time at which it was estimated
    growth_h: np.ndarray  #: the next step's length then; NaN before the first estimate
    growth_evals: np.ndarray  #: evaluations until then
    growth_spent: np.ndarray  #: evaluations of all these estimates
    gain: np.ndarray  #: log of the growth of a perturbation since it was smallest
    total_gain: np.ndarray  #: the same that loses nothing where another mode becomes the fastest
    speed_gain: np.ndarray  #: log of the largest growth of the velocity
    slowest: np.ndarray  #: the least ‖f‖ since a mode grows; infinite where none does
    votes: np.ndarray  #: votes for another method
    nonstiff_steps: np.ndarray  #: steps in a row that the explicit method could have taken
    pause: np.ndarray  #: votes of rkc2's steps before the high-order method is tried again
    fault: np.ndarray  #: of the last step, in `control.FAULTS`; 0 without one
    retried: np.ndarray  #: whether the last step was rejected: the next one does not grow
    evals: np.ndarray  #: evaluations of the right-hand side
    good: np.ndarray  #: accepted steps
    bad: np.ndarray  #: rejected steps
    next_check: np.ndarray  #: accepted steps at the next look at the rank (rank_watch.py)
    next_check_t: np.ndarray  #: its time, where that comes first; NaN before the first
    last_check: np.ndarray  #: accepted steps at the last one
    check_t: np.ndarray  #: its time; NaN before the first
    rest_check: np.ndarray  #: evaluations at the next look for rest (rest.py)
    rest_loss: np.ndarray  #: the loss at the last one; NaN before the first
    short_h: np.ndarray  #: limit on the steps until then; NaN for none
    margin: np.ndarray  #: of the guard then; NaN before the first
    evals_at_last_accept: np.ndarray  #: evals at the end of the last accepted step
    event: np.ndarray  #: the event's value, positive; NaN without one
    low: np.ndarray  #: a step length that ends before the event
    high: np.ndarray  #: one that ends after it; NaN while no event is bracketed
    event_low: np.ndarray  #: the event's values at both
    event_high: np.ndarray
    side: np.ndarray  #: which end of the bracket moved last, −1 low or 1 high

    @classmethod
    def start(cls, y: Tensor, vector: Tensor, t: float) -> Members:
        """Return all members at their start; numbers that are measured later are NaN."""
        B = len(y)
        integers = {
            "index",
            "next",
            "method",
            "age",
            "due",
            "votes",
            "nonstiff_steps",
            "evals_at_last_accept",
            "pause",
            "fault",
            "retried",
            "evals",
            "good",
            "bad",
            "next_check",
            "last_check",
            "rest_check",
            "side",
            "growth_evals",
            "growth_spent",
        }
        arrays: dict[str, Any] = {
            field.name: np.zeros(B, np.int64) if field.name in integers else np.full(B, np.nan)
            for field in dataclasses.fields(cls)
            if field.name not in _ON_DEVICE
        }
        arrays |= {"index": np.arange(B), "t": np.full(B, t), "next": np.ones(B, np.int64)}
        for name in ("energy", "growth", "gain", "total_gain", "speed_gain"):
            arrays[name] = np.zeros(B)
        arrays["slowest"] = np.full(B, np.inf)
        modes = random_vectors(y, 0)
        tensors: dict[str, Any] = dict.fromkeys(_ON_DEVICE, y) | {"vector": vector, "modes": modes}
        return cls(**tensors, **arrays)

    def __len__(self) -> int:
        return len(self.index)

    def only(self, mask: np.ndarray) -> Members:
        """Return the members where the mask is true."""
        rows = on_device(np.flatnonzero(mask), self.y.device)
        fields: dict[str, Any] = {
            name: value[rows] if isinstance(value, Tensor) else value[mask]
            for name, value in vars(self).items()
        }
        return Members(**fields)

    def tensors(self) -> dict[str, Tensor]:
        """Return all fields as tensors that the solve does not write to again."""
        return {
            name: value if isinstance(value, Tensor) else torch.tensor(value)
            for name, value in vars(self).items()
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], like: Tensor) -> Members:
        """Return members from the result of `tensors`, on the device of like."""
        fields: dict[str, Any] = {
            field.name: tensors[field.name].to(like)
            if field.name in _ON_DEVICE
            else tensors[field.name].numpy().copy()
            for field in dataclasses.fields(cls)
        }
        return cls(**fields)
