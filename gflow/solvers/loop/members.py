"""What the stepping loop knows of every member of an ensemble that still runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ON_DEVICE = ("y", "f", "vector", "older_y", "older_f")


@dataclass
class Members:
    """One row a member. Tensors live on the solve's device, arrays on the host."""

    index: np.ndarray  #: which member of the ensemble
    y: Tensor  #: the state, (members, size)
    f: Tensor  #: dy/dt there
    vector: Tensor  #: dominant eigenvector of the Jacobian, (members, size)
    older_y: Tensor  #: y and f at the start of the last step, for dense output
    older_f: Tensor
    t: np.ndarray
    older_t: np.ndarray  #: NaN before the first step
    h: np.ndarray  #: the step to try next
    loss: np.ndarray
    rate: np.ndarray  #: −dφ/dt
    energy: np.ndarray  #: dissipated so far
    size: np.ndarray  #: ‖y‖
    next: np.ndarray  #: the first requested time not reached
    method: np.ndarray  #: which of the loop's steppers
    before: np.ndarray  #: the last good step and its error, NaN at first
    error_before: np.ndarray
    radius: np.ndarray  #: of the Jacobian's negative end; NaN where not measured
    age: np.ndarray  #: good steps since the radius was measured
    due: np.ndarray  #: whether to measure the radius before the next step
    signs: np.ndarray  #: votes and steps that speak for another stepper
    calm: np.ndarray  #: steps in a row that speak for the explicit one
    pause: np.ndarray  #: steps of the rival before the second stepper is tried again
    fault: np.ndarray  #: what was wrong with the last step: 0 error, 1 not finite, 2 a rise
    retried: np.ndarray  #: whether the last step was bad: the next one does not grow
    evals: np.ndarray
    good: np.ndarray  #: steps
    bad: np.ndarray
    mark: np.ndarray  #: evals at the end of the last good step
    event: np.ndarray  #: the event's value, positive; NaN without one
    low: np.ndarray  #: bracket of the step that ends on an event; high is NaN where none
    high: np.ndarray
    event_low: np.ndarray
    event_high: np.ndarray
    side: np.ndarray  #: which end of the bracket moved last, −1 low or 1 high

    @classmethod
    def start(cls, y: Tensor, vector: Tensor, t: float) -> Members:
        """All members at their start; the loop fills in what it measures."""
        B = len(y)
        whole = {
            "index",
            "next",
            "method",
            "age",
            "due",
            "signs",
            "calm",
            "mark",
            "pause",
            "fault",
            "retried",
            "evals",
            "good",
            "bad",
            "side",
        }
        arrays: dict[str, np.ndarray] = {
            field.name: np.zeros(B, np.int64) if field.name in whole else np.full(B, np.nan)
            for field in dataclasses.fields(cls)
            if field.name not in _ON_DEVICE
        }
        arrays |= {"index": np.arange(B), "t": np.full(B, t), "next": np.ones(B, np.int64)}
        arrays["energy"] = np.zeros(B)
        return cls(y=y, f=y, vector=vector, older_y=y, older_f=y, **arrays)

    def __len__(self) -> int:
        return len(self.index)

    def only(self, keep: np.ndarray) -> Members:
        """The members where keep is true."""
        rows = torch.as_tensor(np.flatnonzero(keep), device=self.y.device)
        fields: dict[str, Any] = {
            name: value[rows] if isinstance(value, Tensor) else value[keep]
            for name, value in vars(self).items()
        }
        return Members(**fields)

    def tensors(self) -> dict[str, Tensor]:
        """All of it as tensors that the solve does not write to again."""
        return {
            name: value if isinstance(value, Tensor) else torch.tensor(value)
            for name, value in vars(self).items()
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], like: Tensor) -> Members:
        """The inverse of `tensors`, on the device of like."""
        fields: dict[str, Any] = {
            field.name: tensors[field.name].to(like)
            if field.name in _ON_DEVICE
            else tensors[field.name].numpy().copy()
            for field in dataclasses.fields(cls)
        }
        return cls(**fields)
