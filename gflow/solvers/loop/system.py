"""The right-hand side as the stepping loop calls it: states in rows, counted and measured."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.events import Event
from gflow.flows.array_form import ArrayForm, squared_speed
from gflow.flows.base import Chart, Flow, ParameterFlow
from gflow.linalg.arrays import Array, norm, numbers, on_device, shared_array, to_numpy
from gflow.solvers.elementwise import Rows, Values
from gflow.solvers.loop.spectral_radius import spectral_radius
from gflow.solvers.problem import Problem, velocity_of

_SMALL = 32_768  # numbers; with more, torch uses several threads
_FEW_THREADS = 2  # with more, torch is faster than NumPy where there are many numbers


class StepMeasurement(NamedTuple):
    """Measurements of a trial step on the host, one entry per member."""

    error: Values  #: ‖e‖ of the state
    energy_error: Values  #: of the energy integral, signed
    energy: Values  #: dissipated in the step
    rate: Values  #: −dφ/dt at the end of the step
    speed: Values  #: ‖dy/dt‖ there
    size: Values  #: ‖y‖ there
    loss: Values
    signal: Values  #: for the choice of method (switching.py), if there is a choice
    event: Values  #: the event's value, if there is an event


class TrialStep(NamedTuple):
    """A step that is computed but not accepted yet."""

    y: Tensor  #: the state at its end, (members, size), on the solve's device
    f: Tensor  #: dy/dt there
    measured: StepMeasurement


def _dissipates_by_speed(flow: Flow) -> bool:
    """Return whether −dφ/dt = ‖dy/dt‖²: that of a gradient flow in the Euclidean metric."""
    if not isinstance(flow, ParameterFlow) or flow.parameter_rates is not None:
        return False
    names = ("inner", "metric_inner", "dissipation")
    return all(getattr(type(flow), name) is getattr(ParameterFlow, name) for name in names)


def _form_of_many(problem: Problem) -> ArrayForm | None:
    """Return the flow on arrays for an ensemble, where that is faster than torch."""
    several = torch.get_num_threads() > _FEW_THREADS and problem.y0.numel() > _SMALL
    if several or problem.velocity_factors is not None or shared_array(problem.y0) is None:
        return None
    form = problem.flow.array_form()
    return form if form is not None and form.many else None


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
        #: Whether rtol is relative to another size than the norm of a state.
        self.own_scale = problem.flow.has_own_scale
        #: Whether the vector algebra is NumPy's: of one small state on the CPU.
        self.arrays = self.single and self.size <= _SMALL and shared_array(problem.y0) is not None
        self._form = problem.flow.array_form() if self.arrays else None
        self._form_of_many = None if self.single else _form_of_many(problem)
        self._by_speed = _dissipates_by_speed(problem.flow)
        self._array_factors = None
        if self.arrays and self._factors is not None:
            self._array_factors = self._factors.numpy()

    def select(self, index: Values) -> None:
        """Select the members of the ensemble whose states the next calls pass."""
        if not self.single and (self._index is None or not np.array_equal(index, self._index)):
            self._index = index
            self._flow = self._ensemble_flow.for_members(self.indices(index))

    def indices(self, rows: Rows) -> Tensor:
        """Return rows as a tensor of indices on the solve's device, (k,)."""
        return on_device(np.atleast_1d(rows), self._like.device)

    def scalars(self, values: Values) -> Tensor | float:
        """Return one number per member in the form that flows take; a float for a single start."""
        return values.item() if self.single else numbers(values, self._like)

    def states(self, y: Tensor) -> Tensor:
        """Return rows of states in the shape that the flow takes."""
        # view_as reads no shape, which would take longer than an operation on a few numbers.
        return y.view_as(self._like) if self.single else y.reshape(-1, *self._shape)

    def native(self, rows: Tensor) -> Any:
        """Return rows of states as the vector algebra takes them: arrays share their memory."""
        if not self.arrays:
            return rows
        return (rows.detach() if rows.requires_grad else rows).numpy()

    def velocity(self, t: Tensor | float, y: Array) -> Array:
        """Return dy/dt of states, (members, size), or of one state, (size,)."""
        self.calls += 1
        if isinstance(y, np.ndarray):
            return self._array_velocity(t, y)
        return self._velocity(t, self.states(y)).reshape(y.shape)

    def _array_velocity(self, t: Tensor | float, y: np.ndarray) -> np.ndarray:
        if self._form is None:
            velocity = self._velocity(t, torch.from_numpy(y.reshape(self._shape)))
            if velocity.requires_grad:
                velocity = velocity.detach()
            return velocity.numpy().reshape(y.shape)
        try:
            rate = self._form.velocity(y.reshape(self._shape))
        except np.linalg.LinAlgError:  # of a trial state that overflowed
            return np.full_like(y, np.nan)
        if self._array_factors is not None:
            rate *= self._array_factors
        return rate.reshape(y.shape)

    def _velocity(self, t: Tensor | float, states: Tensor) -> Tensor:
        if self._form_of_many is not None:
            return torch.from_numpy(self._form_of_many.velocity(states.detach().numpy()))
        velocity = velocity_of(self._flow, self._flow_time(t), states)
        return velocity if self._factors is None else velocity * self._factors

    def product(self, y: Array, v: Array) -> Array:
        """Return exact products of the Jacobian at states with vectors, both (members, size)."""
        if isinstance(y, np.ndarray):
            product = self.product(torch.from_numpy(y), torch.from_numpy(v))
            return self.native(product)
        self.calls += 1
        return self._flow.jvp(self.states(y), self.states(v)).reshape(y.shape)

    @property
    def has_jacobian(self) -> bool:
        """Whether the whole Jacobian of one state is affordable: the flow says so."""
        return self.single and self._factors is None and self._flow.dense_jacobian

    def jacobian(self, y: Array) -> Array:
        """Return the exact Jacobian of one state, (size, size)."""
        state = self.states(torch.from_numpy(y) if isinstance(y, np.ndarray) else y)
        units = torch.eye(self.size, dtype=state.dtype, device=state.device)
        states = state.expand(self.size, *state.shape)
        columns = self._flow.jvp(states, units.reshape(states.shape)).reshape(self.size, self.size)
        self.calls += 1
        return self.native(columns.mT.contiguous())

    def rhs(self, t: Tensor | float, y: Array, rates: list[Any]) -> Array:
        """Return dy/dt, (members, size); append −dφ/dt, one number per member, to rates."""
        if isinstance(y, np.ndarray):
            rate = self.velocity(t, y)
            rates.append(self.dissipation(y, rate))
            return rate
        self.calls += 1
        states = self.states(y)
        velocity = self._velocity(t, states)
        rates.append(self._flow.dissipation(states, velocity))
        return velocity.reshape(1 if self.single else len(states), -1)

    def dissipation(self, y: Array, velocity: Array) -> Any:
        """Return −dφ/dt of rows of states and velocities."""
        if isinstance(y, np.ndarray):
            if self._by_speed:
                return squared_speed(y, velocity)
            if self._form is not None:
                return self._form.dissipation(y.reshape(self._shape), velocity.reshape(self._shape))
            states = (self.states(torch.from_numpy(rows)) for rows in (y, velocity))
            return float(self._flow.dissipation(*states))
        return self._flow.dissipation(self.states(y), self.states(velocity))

    def measure(self, y: Array, event: Event | None, *more: Any) -> np.ndarray:
        """Return loss, size and event of states and more numbers, in one copy to the host.

        One row per number; without an event, its row repeats the loss.
        """
        if isinstance(y, np.ndarray):
            return self._measure_array(y, event, *more)
        states = self.states(y)
        loss = self._flow.loss(states)
        value = loss if event is None else self.event_value(event, y)
        rows = torch.hstack((loss, self.scale(y), value, *more))
        values = to_numpy(rows)
        return values if self.single else values.reshape(-1, len(y))

    def event_value(self, event: Event, y: Tensor) -> Tensor:
        """Return the event of rows of states of the selected members, (members,)."""
        if not self._ensemble_flow.members or self._index is None:
            return event(self.states(y)).reshape(-1)
        # The event is of a flow whose settings differ by member: show it the whole ensemble.
        everyone, index = self._like.reshape(-1, self.size).clone(), self.indices(self._index)
        everyone[index] = y
        return event(everyone.view_as(self._like)).reshape(-1)[index]

    def scale(self, y: Tensor) -> Tensor:
        """Return what rtol is relative to, of rows of states, (members,)."""
        if self.own_scale:
            return self._flow.tolerance_scale(self.states(y)).reshape(-1)
        return vector_norm(y, dim=1)

    def _measure_array(self, y: np.ndarray, event: Event | None, *more: Any) -> np.ndarray:
        y = y.reshape(-1)
        if self._form is None or event is not None:
            states = self.states(torch.from_numpy(y))
        if self._form is None:
            loss = float(self._flow.loss(states))
        else:
            loss = self._form.loss(y.reshape(self._shape))
        # A trial state may be infinite, where the event's decompositions fail.
        value = loss if event is None or not math.isfinite(loss) else float(event(states))
        scale = float(self.scale(torch.from_numpy(y)[None])) if self.own_scale else norm(y)
        measured = [loss, scale, value]
        for values in more:
            if isinstance(values, float):
                measured.append(values)
            else:
                measured += np.ravel(values).tolist()
        return np.array(measured)

    def perturbations(self, y: Array) -> Chart | None:
        """Return coordinates of perturbations of rows of states, as rows; None for their own."""
        shape = (len(y), *self._shape)
        chart = self._flow.perturbations(y.reshape(shape))
        if chart is None:
            return None
        to_state, from_state, size = chart
        return Chart(
            lambda v: to_state(v.reshape(shape)).reshape(y.shape),
            lambda v: from_state(v.reshape(shape)).reshape(y.shape),
            size,
        )

    def radius(
        self, t: Tensor | float, y: Tensor, f: Tensor, vectors: Tensor
    ) -> tuple[np.ndarray, Tensor]:
        """Return the spectral radius of every member's Jacobian, and its eigenvector."""
        known = self._flow.spectral_radius(self.states(y))
        if known is not None:
            return np.full(len(y), known), vectors
        arrays = (self.native(rows) for rows in (y, f, vectors))
        radius, found = spectral_radius(lambda moved: self.velocity(t, moved), *arrays)
        return radius, torch.as_tensor(found)
