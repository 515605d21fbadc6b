"""Descent step by step: its losses, its sharpness, and how it oscillates.

The oscillation at step k is the part that alternates, δ_k = (2θ_k − θ_{k−1} − θ_{k+1})/4: for
θ_k = θ̄_k + (−1)^k·w it is ±w, and the drift of θ̄_k cancels to second order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gflow.callbacks import Progress, as_progress
from gflow.checks import require_count, require_numbers, require_positive, shown
from gflow.descent import Descent, descend_to
from gflow.display import Display
from gflow.errors import InputError
from gflow.execution import current
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Flow
from gflow.flows.sharpness import hessian_eigenpairs
from gflow.flows.starts import single_start

_EXPLODED = 1e6  # growth of the loss that counts as divergence


@dataclass(frozen=True, repr=False)
class OscillatingDescent(Display):
    """Descent at S of its steps, with its losses and oscillation at all K of them.

    Attributes
    ----------
    descent : Descent
    sharpness : Tensor, shape (S,)
    losses : Tensor, shape (K,)
    oscillation : Tensor, shape (K,)
        ⟨δ_k, v_1⟩, v_1 the top eigenvector at the last of the S steps; NaN at both ends.
    variances : Tensor, shape (K,)
        ‖δ_k‖², over all directions; NaN at both ends.
    """

    descent: Descent
    sharpness: Tensor
    losses: Tensor
    oscillation: Tensor
    variances: Tensor

    def __repr__(self) -> str:
        return f"OscillatingDescent({self.descent!r}, sharpness to {float(self.sharpness[-1]):.3g})"

    @property
    def step_ts(self) -> Tensor:
        """Times of the K steps."""
        return torch.arange(len(self.losses), dtype=torch.float64) * self.descent.step_size


def oscillating_descent(
    flow: Flow,
    y0: Tensor,
    step_size: float,
    steps: Sequence[int],
    progress: Progress | bool | None = None,
) -> OscillatingDescent:
    """Run descent and measure its sharpness and oscillation.

    Only the states at the requested steps, and all between two of them, are in memory.

    Parameters
    ----------
    flow : ParameterFlow
    y0 : Tensor, shape (*state)
    step_size : float
    steps : sequence of int
        The steps to save and to measure the sharpness at, ascending from 0.
    progress : callable or bool, optional
        ``progress(t, loss)`` at the requested steps; True shows a bar.

    Returns
    -------
    OscillatingDescent
        It ends early where descent diverges.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.tensor([[1.0]], dtype=torch.float64)   # (1 − ηλ)^k at the edge: ηλ = 2
    >>> flow = gflow.FactorFlow(gflow.losses.SquaredDistance(H))
    >>> oscillating = oscillating_descent(flow, 0.9 * H, 0.1, [0, 2, 4])
    >>> len(oscillating.losses), oscillating.descent.steps.tolist()
    (5, [0, 2, 4])
    """
    usage = "oscillating_descent(flow, y0, step_size, steps)"
    flow, y0 = single_start("a descent with its oscillation", flow, y0, usage)
    step_size = require_positive("step_size", step_size)
    steps = [require_count("each of steps", k, 0) for k in require_numbers("steps", steps)]
    if steps[0] != 0 or any(b <= a for a, b in itertools.pairwise(steps)):
        raise InputError(f"steps must ascend from 0, got {shown(steps)}; sort them")
    progress = as_progress(progress, "descent", steps[-1] * step_size)
    inputs: dict[str, Any] = {"step_size": step_size, "steps": list(steps)}
    with current().resumable("oscillating descent", start=y0, **inputs) as piece:
        if piece.finished is not None:
            state = _OscillationState.from_checkpoint(piece.finished, y0)
        else:
            if piece.resumed is not None:
                state = _OscillationState.from_checkpoint(piece.resumed, y0)
            else:
                state = _OscillationState(y0, flow.loss(y0))
            for first, last in itertools.islice(
                itertools.pairwise(steps), len(state.saved) - 1, None
            ):
                if not state.advance(flow, step_size, first, last):
                    break
                if progress is not None:
                    progress(last * step_size, float(state.losses[-1][-1]))
                piece.step(state.checkpoint)
            else:
                state.tops.append(
                    hessian_eigenpairs(flow, state.saved[-1], 2, state.vectors).values[0]
                )
            piece.finish(state.checkpoint)
    parameters = torch.stack(state.saved)
    count = torch.tensor(list(steps)[: len(parameters)])
    nan = torch.full((1,), torch.nan, dtype=y0.dtype, device=y0.device)
    return OscillatingDescent(
        descent=Descent(
            ts=count.double() * step_size,
            steps=count,
            parameters=parameters,
            ys=parameters,
            flow=flow,
            step_size=step_size,
            momentum=0.0,
            diverged_at=state.diverged_at,
        ),
        sharpness=torch.stack(state.tops),
        losses=torch.cat(state.losses),
        oscillation=torch.cat([nan, *state.along, nan]),
        variances=torch.cat([nan, *state.variances, nan]),
    )


class _OscillationState:
    """An oscillating descent between two of its requested steps."""

    def __init__(self, y0: Tensor, loss: Tensor):
        self.saved = [y0]
        self.losses = [loss[None]]
        self.tops: list[Tensor] = []
        self.along: list[Tensor] = []
        self.variances: list[Tensor] = []
        self.before: Tensor | None = None
        self.vectors: Tensor | None = None
        self.diverged_at: int | None = None

    def advance(self, flow: Flow, step_size: float, first: int, last: int) -> bool:
        """Descend from one step to another; return whether descent is still finite."""
        start, before, vectors = self.saved[-1], self.before, self.vectors
        segment = descend_to(flow, start, step_size, list(range(last - first + 1)))
        states = segment.ys
        top = hessian_eigenpairs(flow, start, 2, vectors)
        self.tops.append(top.values[0])
        v = top.vectors[0]
        if vectors is not None and float(v @ vectors[0]) < 0:
            v = -v  # a consistent sign shows what alternates
        self.vectors = torch.cat([v[None], top.vectors[1:]])
        losses = flow.loss(states[1:])
        self.losses.append(losses)
        delta = _alternating(states if before is None else torch.cat([before[None], states]))
        self.along.append(delta @ v)
        self.variances.append(delta.square().sum(1))
        self.before = states[-2] if len(states) > 1 else before
        ended = segment.diverged_at is not None or len(states) <= last - first
        if ended or not float(losses[-1]) < _EXPLODED * float(self.losses[0]):
            self.diverged_at = first + (segment.diverged_at or 0)
            return False
        self.saved.append(states[-1].clone())
        return True

    def checkpoint(self) -> Checkpoint:
        """Return the whole state."""
        curves = {
            "losses": torch.cat(self.losses),
            "along": torch.cat(self.along),
            "variances": torch.cat(self.variances),
        }
        optional = {"before": self.before, "vectors": self.vectors}
        present = {name: value for name, value in optional.items() if value is not None}
        saved = {"saved": torch.stack(self.saved), "tops": torch.stack(self.tops)}
        return Checkpoint({**present, **saved, **curves}, {"diverged_at": self.diverged_at})

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, like: Tensor) -> _OscillationState:
        """Return the state of a checkpoint, on the device of another tensor."""
        tensors = {name: value.to(like.device) for name, value in checkpoint.tensors.items()}
        state = cls(tensors["saved"][0], tensors["losses"][0])
        state.saved, state.tops = [y.clone() for y in tensors["saved"]], list(tensors["tops"])
        state.losses = [tensors["losses"][:1], tensors["losses"][1:]]
        state.along, state.variances = [tensors["along"]], [tensors["variances"]]
        state.before, state.vectors = tensors.get("before"), tensors.get("vectors")
        state.diverged_at = checkpoint.meta["diverged_at"]
        return state


def _alternating(states: Tensor) -> Tensor:
    """Return δ of all states (n, *state) but the first and the last, (n − 2, p)."""
    flat = states.flatten(1)
    return (2 * flat[1:-1] - flat[:-2] - flat[2:]) / 4


def moving_mean(values: Tensor, half: int) -> Tensor:
    """Average each value with up to half a window of neighbours on both sides.

    Near the ends the window shrinks on both sides alike. NaN is left out.

    Parameters
    ----------
    values : Tensor, shape (K,)
    half : int
        The number of neighbours on each side.

    Returns
    -------
    Tensor, shape (K,)

    Examples
    --------
    >>> import torch
    >>> moving_mean(torch.tensor([0.0, 3.0, 6.0, 0.0]), 1).tolist()
    [0.0, 3.0, 3.0, 0.0]
    """
    known = torch.isfinite(values)
    zero = values.new_zeros(1)
    total = torch.cat([zero, torch.where(known, values, 0 * zero).cumsum(0)])
    count = torch.cat([zero, known.to(values.dtype).cumsum(0)])
    k = torch.arange(len(values), device=values.device)
    reach = torch.minimum(torch.minimum(k, k.flip(0)), torch.tensor(half))
    low, high = k - reach, k + reach + 1
    return (total[high] - total[low]) / (count[high] - count[low])
