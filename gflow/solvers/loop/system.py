"""The right-hand side as the stepping loop calls it: states in rows, counted and measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.events import Event
from gflow.linalg.arrays import to_numpy
from gflow.solvers.elementwise import Rows, Values
from gflow.solvers.loop.spectral_radius import spectral_radius
from gflow.solvers.problem import Problem, velocity_of


class StepMeasurement(NamedTuple):
    """Measurements of a trial step on the host, one entry per member."""

    error: Values  #: ‖e‖ of the state
    energy_error: Values  #: of the energy integral, signed
    energy: Values  #: dissipated in the step
    rate: Values  #: −dφ/dt at the end of the step
    size: Values  #: ‖y‖ there
    loss: Values
    signal: Values  #: for the choice of method (switching.py), if there is a choice
    event: Values  #: the event's value, if there is an event


class TrialStep(NamedTuple):
    """A step that is computed but not accepted yet."""

    y: Tensor  #: the state at its end, (members, size), on the solve's device
    f: Tensor  #: dy/dt there
    measured: StepMeasurement


class System:
    """dy/dt of some members of an ensemble, one state per row, and the energy it dissipates.

    Times are counted from the start of the solve.
    A single start is an ensemble of one member, without the leading dimension in the flow's states.
    """

    def __init__(self, problem: Problem):
        self.calls = 0  #: evaluations of dy/dt
        self.single = len(problem.batch) == 0
        self._flow = self._ensemble_flow = problem.flow
        self._index: np.ndarray | None = None
        self._like = problem.y0
        self._flow_time = problem.flow_time
        self._factors = problem.velocity_factors
        self._shape = problem.y0.shape[len(problem.batch) :]
        self.size = self._shape.numel()

    def select(self, index: Values) -> None:
        """Select the members of the ensemble whose states the next calls pass."""
        if not self.single and (self._index is None or not np.array_equal(index, self._index)):
            self._index = index
            self._flow = self._ensemble_flow.for_members(self.indices(index))

    def indices(self, rows: Rows) -> Tensor:
        """Return rows as a tensor of indices on the solve's device, (k,)."""
        return torch.as_tensor(np.atleast_1d(rows), device=self._like.device)

    def scalars(self, values: Values) -> Tensor | float:
        """Return one number per member in the form that flows take; a float for a single start."""
        return values.item() if self.single else torch.as_tensor(values).to(self._like)

    def states(self, y: Tensor) -> Tensor:
        """Return rows of states in the shape that the flow takes."""
        # view_as reads no shape, which would take longer than an operation on a few numbers.
        return y.view_as(self._like) if self.single else y.reshape(-1, *self._shape)

    def velocity(self, t: Tensor | float, y: Tensor) -> Tensor:
        """Return dy/dt of states, (members, size), or of one state, (size,)."""
        self.calls += 1
        return self._velocity(t, self.states(y)).reshape(y.shape)

    def _velocity(self, t: Tensor | float, states: Tensor) -> Tensor:
        velocity = velocity_of(self._flow, self._flow_time(t), states)
        return velocity if self._factors is None else velocity * self._factors

    def product(self, y: Tensor, v: Tensor) -> Tensor:
        """Return exact products of the Jacobian at states with vectors, both (members, size)."""
        self.calls += 1
        return self._flow.jvp(self.states(y), self.states(v)).reshape(y.shape)

    def rhs(self, t: Tensor | float, y: Tensor, rates: list[Tensor]) -> Tensor:
        """Return dy/dt, (members, size); append −dφ/dt, one number per member, to rates."""
        self.calls += 1
        states = self.states(y)
        velocity = self._velocity(t, states)
        rates.append(self._flow.dissipation(states, velocity))
        return velocity.reshape(1 if self.single else len(states), -1)

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        """Return −dφ/dt of rows of states and velocities."""
        return self._flow.dissipation(self.states(y), self.states(velocity))

    def measure(self, y: Tensor, event: Event | None, *more: Tensor) -> np.ndarray:
        """Return loss, size and event of states and more numbers, in one copy to the host.

        One row per number; without an event, its row repeats the loss.
        """
        states = self.states(y)
        loss = self._flow.loss(states)
        value = loss if event is None else event(states).reshape(-1)
        rows = torch.hstack((loss, vector_norm(y, dim=1), value, *more))
        values = to_numpy(rows)
        return values if self.single else values.reshape(-1, len(y))

    def radius(
        self, t: Tensor | float, y: Tensor, f: Tensor, vectors: Tensor
    ) -> tuple[np.ndarray, Tensor]:
        """Return the spectral radius of every member's Jacobian, and its eigenvector."""
        known = self._flow.spectral_radius(self.states(y))
        if known is not None:
            return np.full(len(y), known), vectors
        return spectral_radius(lambda moved: self.velocity(t, moved), y, f, vectors)
