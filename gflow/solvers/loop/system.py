"""The right-hand side as the stepping loop sees it: rows of members, counted and measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.events import Event
from gflow.solvers.elementwise import Rows, Values
from gflow.solvers.loop.spectral_radius import spectral_radius
from gflow.solvers.problem import Problem, velocity_of


class StepMeasurement(NamedTuple):
    """What is known of a tried step on the host, one entry a member."""

    error: Values  #: ‖e‖ of the state
    energy_error: Values  #: signed
    energy: Values  #: dissipated on the way
    rate: Values  #: −dφ/dt at its end
    size: Values  #: ‖y‖ there
    loss: Values
    signal: Values  #: for the choice of method, where there is one
    event: Values  #: where there is one


class Tried(NamedTuple):
    """A step that was computed."""

    y: Tensor  #: at its end, (members, size), on the solve's device
    f: Tensor  #: dy/dt there
    got: StepMeasurement


class System:
    """dy/dt of some members of an ensemble, a state a row, and the energy it dissipates.

    A lone start is an ensemble of one whose flow sees no leading dimension.
    """

    def __init__(self, problem: Problem):
        self.calls = 0
        self.lone = len(problem.batch) == 0
        self._flow = self._whole = problem.flow
        self._index: np.ndarray | None = None
        self._like = problem.y0
        self._shape = problem.y0.shape[len(problem.batch) :]
        self.size = self._shape.numel()

    def turn_to(self, index: Values) -> None:
        """Evaluate these members from now on."""
        if not self.lone and (self._index is None or not np.array_equal(index, self._index)):
            self._index = index
            self._flow = self._whole.of_members(self.rows(index))

    def rows(self, index: Rows) -> Tensor:
        """Indices on the solve's device, (k,)."""
        return torch.as_tensor(np.atleast_1d(index), device=self._like.device)

    def numbers(self, values: Values) -> Tensor | float:
        """A number a member, as flows take them: one float for a lone start."""
        return values.item() if self.lone else torch.as_tensor(values).to(self._like)

    def states(self, y: Tensor) -> Tensor:
        """Rows of states in the shape that the flow takes."""
        # Reading a shape to view another tensor by takes longer than an operation on few numbers.
        return y.view_as(self._like) if self.lone else y.reshape(-1, *self._shape)

    def velocity(self, t: Tensor | float, y: Tensor) -> Tensor:
        """dy/dt of states, (members, size), or of one, (size,)."""
        self.calls += 1
        return velocity_of(self._flow, t, self.states(y)).reshape(y.shape)

    def rhs(self, t: Tensor | float, y: Tensor, rates: list[Tensor]) -> Tensor:
        """dy/dt, (members, size); appends −dφ/dt, a number a member, to rates."""
        self.calls += 1
        states = self.states(y)
        velocity = velocity_of(self._flow, t, states)
        rates.append(self._flow.dissipation(states, velocity))
        return velocity.reshape(1 if self.lone else len(states), -1)

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        """−dφ/dt of rows of states and velocities."""
        return self._flow.dissipation(self.states(y), self.states(velocity))

    def measure(self, y: Tensor, event: Event | None, *more: Tensor) -> np.ndarray:
        """Loss, size and event of states, and more numbers a member, in one copy to the host.

        What is not asked for repeats what is, so that rows stay in their places.
        """
        states = self.states(y)
        loss = self._flow.loss(states)
        value = loss if event is None else event(states).reshape(-1)
        rows = torch.hstack((loss, vector_norm(y, dim=1), value, *more))
        values = rows.double().cpu().numpy()
        return values if self.lone else values.reshape(-1, len(y))

    def radius(
        self, t: Tensor | float, y: Tensor, f: Tensor, vectors: Tensor
    ) -> tuple[np.ndarray, Tensor]:
        """The spectral radius of every member's Jacobian, and its eigenvector."""
        known = self._flow.spectral_radius(self.states(y))
        if known is not None:
            return np.full(len(y), known), vectors
        return spectral_radius(lambda moved: self.velocity(t, moved), y, f, vectors)
