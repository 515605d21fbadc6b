"""The result of an integration: states, statistics, and the certificate; or its failure."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gflow.display import Display
from gflow.errors import GflowError
from gflow.flows.base import Flow, Observables
from gflow.trajectory.certificate import Certificate

if TYPE_CHECKING:
    from pathlib import Path

    from gflow.execution.checkpointing import Checkpoint


@dataclass(frozen=True)
class Stats:
    """The method and the cost of a solve.

    Attributes
    ----------
    method : str
        The method that ran; where ``auto`` changed methods, the one that took most steps.
    reason : str
        Why it was chosen, where that was automatic, and what happened on the way.
    rhs_evals, jvp_evals : int
        Right-hand sides and Jacobian-vector products.
    accepted : int
        Accepted steps.
    rejected : int or None
        Rejected steps; None where the library that took the steps does not report them.
    wall_seconds : float
        Wall time of the solve, certificate excluded.
    certificate_evals : int
        Right-hand sides that the certificate took to measure what the path amplified, beyond
        ``rhs_evals``.
    """

    method: str
    reason: str
    rhs_evals: int
    jvp_evals: int
    accepted: int
    rejected: int | None
    wall_seconds: float
    certificate_evals: int = 0


@dataclass(frozen=True, repr=False)
class Trajectory(Display):
    """States of a flow at the requested times.

    Attributes
    ----------
    ts : Tensor, shape (T,)
        Times, float64 on the host, in units of step_size × steps of descent.
    ys : Tensor, shape (T, ..., *state)
        States on the device and in the dtype of the start.
    flow : Flow
        The flow that was integrated.
    stats : Stats
        The method and the cost of the solve.
    certificate : Certificate
        Measured evidence that the path is right.
    ends : Tensor, shape (..., *state)
        The last state of each member. Where an event or a failure stopped a member of an
        ensemble before the last time, its ``ys`` are NaN from there on; for a single start the
        last state is the last of ``ys``.
    event_times : mapping of int to float
        The time at which an event stopped a member, by its index in ``y0.reshape(-1, *state)``.
    failures : mapping of int to str
        Why a member failed, by the same index. The certificate covers the other members.
    sharpness : Tensor, shape (T, k)
        The k largest eigenvalues of the Hessian at every time, descending, as
        `gflow.spectra.sharpness` computes them; k is ``sharpness`` of `gflow.integrate`.
    """

    ts: Tensor
    ys: Tensor
    flow: Flow
    stats: Stats
    certificate: Certificate
    ends: Tensor
    event_times: Mapping[int, float] = field(default_factory=dict)
    failures: Mapping[int, str] = field(default_factory=dict)
    sharpness: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    @functools.cached_property
    def losses(self) -> Tensor:
        """φ at every time, shape (T, ...); computed once."""
        return self.flow.loss(self.ys)

    def observables(self) -> Observables:
        """Measure the flow's observables at every time, time first."""
        return self.flow.observables(self.ys)

    def __repr__(self) -> str:
        failed = f"{len(self.failures)} members FAILED, " if self.failures else ""
        return (
            f"Trajectory({failed}{type(self.flow).__name__}, t = {float(self.ts[0]):g} … "
            f"{float(self.ts[-1]):g} at {len(self.ts)} times, {self.stats.method}, "
            f"{self.stats.rhs_evals} evaluations, {self.certificate!r})"
        )


class IntegrationError(GflowError, RuntimeError):
    """A solver stopped before the last requested time.

    Attributes
    ----------
    reason : str
        Why it stopped, in one line.
    t : float
        The last time at which the state was good.
    y : Tensor
        The state at that time.
    trajectory : Trajectory
        The requested times reached before the stop, with the last good state
        appended, and the statistics up to there.
    checkpoint : Checkpoint or None
        For gflow's own methods: ``gflow.integrate(…, resume=checkpoint)`` continues from there,
        for example with a larger ``max_evals``.
    folder : Path or None
        The folder of the run in which the solve failed, if any.
    """

    def __init__(
        self,
        reason: str,
        t: float,
        y: Tensor,
        trajectory: Trajectory,
        checkpoint: Checkpoint | None = None,
    ):
        super().__init__(f"integration stopped at t = {t:.6g}: {reason}")
        self.reason = reason
        self.t = t
        self.y = y
        self.trajectory = trajectory
        self.checkpoint = checkpoint
        self.folder: Path | None = None
