"""The contract of a flow: an ODE right-hand side and what is known about it.

A flow is a plain callable ``f(t, y)`` without state of its own, so it goes as it is
into ``torchdiffeq.odeint``. A state is one tensor; leading dimensions are an ensemble
of starts. Time is measured in units of gradient descent on the same loss:
t = k·step_size.

What the author of a setting writes (see CONTRIBUTING.md):

1. a pure function of tensors, the right-hand side;
2. a subclass of `ParameterFlow` (the state is what descent acts on) or of
   `ReducedFlow` (the state is what the parameters induce), which implements the
   abstract methods and whichever hooks apply;
3. ``example()``: a small instance with a start. The shared contract tests in
   ``tests/test_contracts.py`` find the class and run on it.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp
from torch.linalg import vecdot, vector_norm

from gflow.checks import require_dtype_and_device, require_finite, require_float, require_nonempty
from gflow.errors import InputError

Observables = dict[str, Tensor]


class Flow(abc.ABC):
    """Right-hand side ``f(t, y)`` with its loss, invariants and closed form.

    Do not derive from this class directly; use `ParameterFlow` or `ReducedFlow`.
    """

    #: Names of the dimensions that an observable or invariant has beyond the ensemble's.
    observable_dims: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    # -- what a setting must say ------------------------------------------------

    @property
    @abc.abstractmethod
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one state; -1 where any size will do."""

    @abc.abstractmethod
    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        """dy/dt at time t, of the shape of y: a new tensor at every call."""

    @abc.abstractmethod
    def loss(self, y: Tensor) -> Tensor:
        """φ(y), of the shape of the ensemble."""

    @abc.abstractmethod
    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        """The rate −dφ/dt = −⟨∇φ(y), velocity⟩, of the shape of the ensemble."""

    @abc.abstractmethod
    def reference(self, y: Tensor) -> Tensor:
        """dy/dt computed independently, by automatic differentiation of the loss.

        Slower than the flow itself; certificates and tests compare the two.
        """

    @property
    @abc.abstractmethod
    def parameter_flow(self) -> Flow:
        """The flow of the parameters, on which discrete descent acts."""

    @abc.abstractmethod
    def lift(self, y: Tensor) -> Tensor:
        """Parameters (a state of ``parameter_flow``) that induce the state y."""

    @abc.abstractmethod
    def project(self, parameters: Tensor) -> Tensor:
        """The state that parameters induce; ``project(lift(y)) = y``."""

    @classmethod
    @abc.abstractmethod
    def example(cls) -> tuple[Flow, Tensor]:
        """A small instance and a start, for tests and documentation."""

    # -- hooks: nothing by default ------------------------------------------------

    #: Whether f(t, y) is affine in y, with a symmetric Jacobian.
    affine: bool = False

    @property
    def rest(self) -> Tensor | None:
        """A state at which an affine flow stands still; None where not known."""
        return None

    def spectral_radius(self, y: Tensor) -> float | None:
        """An upper bound of the negative end of the Jacobian's spectrum, as a positive
        number, where the flow knows one cheaply."""
        return None

    @property
    def like(self) -> Tensor | None:
        """A tensor whose dtype and device states share; None where any will do."""
        return None

    def end_to_end(self, y: Tensor) -> Tensor:
        """The object the loss sees (W, UUᵀ, the outputs); the state itself by default."""
        return y

    def observables(self, y: Tensor) -> Observables:
        """Named measurements of a state, of the shape of the ensemble and ``observable_dims``."""
        return {"loss": self.loss(y)}

    def invariants(self, y: Tensor) -> Observables:
        """Quantities that the exact flow conserves."""
        return {}

    def invariant_scales(self, y: Tensor) -> Observables:
        """What a change of each invariant is measured against (same keys)."""
        return {}

    def closed_form(self, y0: Tensor) -> str | None:
        """The name of the closed form that applies from this start, else None."""
        return None

    def exact(self, ts: Tensor, y0: Tensor) -> Tensor:
        """States at the times ts, shape (T, *y0.shape), by the closed form.

        Raises
        ------
        InputError
            Where no closed form is known for this start.
        """
        raise InputError(
            f"{type(self).__name__} has no closed form for this loss and start; "
            "choose a numerical method, such as method='dopri5'"
        )

    def for_start(self, y0: Tensor) -> Flow:
        """This flow with what a given start fixes for all time (a conserved rank)."""
        return self

    def of_members(self, index: Tensor) -> Flow:
        """This flow for some members of an ensemble, index (k,) into its starts in order.

        A flow whose own parameters differ from member to member selects them here.
        """
        return self

    def linearised(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        """v ↦ (∂f/∂y)·v at one state, for many products; what they share is done once."""
        return functools.partial(self.jvp, y)

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """φ(y) and dy/dt; a flow that has both from one computation says so here."""
        return self.loss(y), self(0.0, y)

    def velocity_and_acceleration(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """f(y) and its rate of change along the flow, d²y/dt² = (∂f/∂y)·f(y)."""
        velocity = self(0.0, y)
        return velocity, self.jvp(y, velocity)

    # -- the same for every flow ----------------------------------------------------

    @property
    def state_ndim(self) -> int:
        """Number of trailing dimensions that make one state."""
        return len(self.state_shape)

    def batch_shape(self, y: Tensor) -> torch.Size:
        """The leading (ensemble) dimensions of y."""
        return y.shape[: y.ndim - self.state_ndim]

    def norm(self, y: Tensor) -> Tensor:
        """Euclidean norm of each state of an ensemble."""
        return vector_norm(self._flat(y), dim=-1)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Euclidean inner product ⟨a, b⟩ of each state of an ensemble."""
        return vecdot(self._flat(a), self._flat(b))

    def _flat(self, y: Tensor) -> Tensor:
        """States as vectors, (..., n)."""
        return y if self.state_ndim == 1 else y.flatten(y.ndim - self.state_ndim)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        """Jacobian-vector product (∂f/∂y)·v; minus a Hessian product for parameters."""
        return jvp(lambda state: self(0.0, state), (y,), (v,))[1]

    def check_state(self, y: Tensor) -> None:
        """Raise InputError unless y is a finite state (or ensemble of states)."""
        require_float("a state", y)
        require_nonempty("a state", y)
        want = self.state_shape
        got = tuple(y.shape[y.ndim - len(want) :]) if y.ndim >= len(want) else tuple(y.shape)
        if len(got) != len(want) or any(w not in (-1, g) for w, g in zip(want, got, strict=True)):
            shown = ", ".join("any" if w == -1 else str(w) for w in want)
            raise InputError(
                f"a state of {type(self).__name__} has shape (..., {shown}), got {tuple(y.shape)}"
            )
        if self.like is not None:
            require_dtype_and_device("a state", y, self.like, "the flow's data")
        require_finite("the state", y)


class ParameterFlow(Flow):
    """Gradient flow ẏ = −∇φ(y) of the parameters themselves."""

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        return self.inner(velocity, velocity)

    def reference(self, y: Tensor) -> Tensor:
        return -slope(self.loss, y)

    @property
    def parameter_flow(self) -> Flow:
        return self

    def lift(self, y: Tensor) -> Tensor:
        return y

    def project(self, parameters: Tensor) -> Tensor:
        return parameters


class ReducedFlow(Flow):
    """The flow that a parameter flow induces on the end-to-end object."""

    @abc.abstractmethod
    def gradient(self, y: Tensor) -> Tensor:
        """∇ℓ(y), the Euclidean gradient of the loss of the end-to-end object."""

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        return -self.inner(self.gradient(y), velocity)

    def reference(self, y: Tensor) -> Tensor:
        parameters = self.lift(y)
        descent = -slope(lambda p: self.loss(self.project(p)), parameters)
        with forward_ad.dual_level():
            moved = self.project(forward_ad.make_dual(parameters, descent))
            return forward_ad.unpack_dual(moved).tangent


def slope(function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """∇ Σ function(y). Not by torch.func, whose first gradient takes seconds of imports."""
    with torch.enable_grad():
        leaf = y.detach().requires_grad_()
        (slope,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return slope


def split_ensemble(y: Tensor, state_ndim: int) -> tuple[Tensor, torch.Size]:
    """View y as (members, *state) and return the ensemble's shape with it."""
    batch = y.shape[: y.ndim - state_ndim]
    return y.reshape(-1, *y.shape[y.ndim - state_ndim :]), batch
