"""The contract of a flow: an ODE right-hand side and what is known about it.

A flow is a plain callable ``f(t, y)`` that stores no state, so it can be passed to
``torchdiffeq.odeint`` as it is. A state is one tensor; leading dimensions are an ensemble
of starts. Time is measured in units of gradient descent on the same loss:
t = k·step_size.

A flow of one's own is a subclass of `ParameterFlow` (the state is what descent acts on) or of
`ReducedFlow` (the state is what the parameters induce) with ``state_shape``, ``loss`` and
``__call__``; all else has a default: see docs/own-flows.md. A loss alone makes a flow by
`gflow.flow_from_loss`.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.linalg import vecdot, vector_norm

from gflow.checks import require_dtype_and_device, require_finite, require_float, require_nonempty
from gflow.errors import InputError
from gflow.flows.array_form import ArrayForm
from gflow.flows.failures import explain_failures
from gflow.flows.invariant_scale import response_scales
from gflow.flows.jacobian import jacobian_product
from gflow.flows.lost_modes import Outside
from gflow.flows.objective.gauss_newton import GaussNewton
from gflow.linalg.arrays import numbers

Observables = dict[str, Tensor]


class Coordinates(NamedTuple):
    """Coordinates in which a solver follows a flow, where round-off harms its own states.

    Attributes
    ----------
    flow : Flow
        The flow in the coordinates.
    start : Tensor
        The start in the coordinates.
    states : callable
        Maps coordinates, with any leading dimensions, to states.
    tolerance : float
        Factor on the tolerances of the states.
    note : str
        Why they were chosen, for ``stats.reason``.
    outside : Outside or None
        The mode that they leave out, if they leave out one that is not zero.
    guard : RankGuard or None
        What watches the path from the start in the coordinates.
    from_states : callable or None
        The inverse of ``states`` on the path, linear: what a solver knows of the path's past can
        be mapped by it. None where there is no such map.
    absolute : bool
        Whether ``states`` gives states of the first flow, where a guard has the coordinates; else
        they are those of the flow that it watches.
    unguarded : callable, optional
        Returns the coordinates to take where no guard can watch: for a library's method, or with
        checkpoints of the caller's.
    """

    flow: Flow
    start: Tensor
    states: Callable[[Tensor], Tensor]
    tolerance: float = 1.0
    note: str = ""
    outside: Outside | None = None
    guard: RankGuard | None = None
    from_states: Callable[[Tensor], Tensor] | None = None
    absolute: bool = False
    unguarded: Callable[[], Coordinates] | None = None


class Chart(NamedTuple):
    """Coordinates of perturbations of a state in which its Jacobian is nearly symmetric.

    Attributes
    ----------
    to_state : callable
        Maps perturbations in the coordinates to those of the state, both (..., *state), linearly.
    from_state : callable
        The inverse; what is no perturbation of a state that the flow can reach is left out.
    size : float or None
        The size of a state to which the steps of difference quotients are relative; its norm by
        default. Give it where a large entry that does not affect the others would make these steps
        too long.
    """

    to_state: Callable[[Any], Any]
    from_state: Callable[[Any], Any]
    size: float | None = None


class Correction(NamedTuple):
    """A small change of states that restores what errors have changed.

    Attributes
    ----------
    state : callable
        Maps a state, the last one or one shortly before, to the corrected state.
    note : str
        What it does, for ``stats.reason``.
    """

    state: Callable[[Tensor], Tensor]
    note: str = "layers balanced anew"


class RankGuard(abc.ABC):
    """Watches the modes of a path whose rank is conserved, so that round-off does not change it."""

    #: Rate d(log size)/dt of modes that round-off blurs at the last state checked; 0 without any.
    blurred_growth = 0.0
    #: Logarithmic distance of the last state checked from one where anything is to be done.
    margin = 0.0
    #: Number of times that it may have other coordinates to go on in.
    most_segments = 100

    @abc.abstractmethod
    def check(self, y: Tensor) -> Coordinates | Correction | None:
        """Return how to go on from an accepted state; None to go on as before."""


class Flow(abc.ABC):
    """Right-hand side ``f(t, y)`` with its loss, invariants and closed form.

    Do not derive from this class directly; use `ParameterFlow` or `ReducedFlow`.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        explain_failures(cls)

    def __new__(cls, *args: object, **keywords: object) -> Self:
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        if missing:
            raise InputError(
                f"a flow must define state_shape, loss(self, y) and __call__(self, t, y), but "
                f"{cls.__name__} has no {missing}; define it"
            )
        return super().__new__(cls)

    def describe(self) -> str:
        """Return what tells this flow from others of its class, for its short text."""
        return ""

    def __repr__(self) -> str:
        try:
            sizes = ["any" if size == -1 else str(size) for size in self.state_shape]
        except Exception:  # a flow of one's own that is not complete must still be shown in errors
            return f"{type(self).__name__}()"
        state = f"state {' × '.join(sizes)}" if sizes else "state a number"
        return f"{type(self).__name__}({', '.join(filter(None, (self.describe(), state)))})"

    # -- what a flow must implement ---------------------------------------------

    @functools.cached_property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one state; -1 where any size is allowed."""
        raise InputError(
            f"a flow must define state_shape, the shape of one state, but {type(self).__name__} "
            "has none; define it as a property, or set it in __init__"
        )

    @abc.abstractmethod
    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        """Compute dy/dt at time t, of the shape of y: a new tensor at every call."""

    @abc.abstractmethod
    def loss(self, y: Tensor) -> Tensor:
        """Compute φ(y), of the shape of the ensemble."""

    @abc.abstractmethod
    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        """Compute the rate −dφ/dt = −⟨∇φ(y), velocity⟩.

        Parameters
        ----------
        y : Tensor, shape (..., *state)
            A state or an ensemble.
        velocity : Tensor, shape (..., *state)
            dy/dt there.

        Returns
        -------
        Tensor, shape (...)
            The rate at which the loss falls, of each member.
        """

    @abc.abstractmethod
    def reference(self, y: Tensor) -> Tensor:
        """Compute dy/dt independently, by automatic differentiation of the loss.

        Slower than the flow itself; certificates and tests compare the two.
        """

    @property
    @abc.abstractmethod
    def parameter_flow(self) -> Flow:
        """The flow of the parameters, on which discrete descent acts."""

    @property
    def is_of_parameters(self) -> bool:
        """Whether descent acts on the state itself."""
        return self.parameter_flow is self

    @abc.abstractmethod
    def lift(self, y: Tensor) -> Tensor:
        """Return parameters (a state of ``parameter_flow``) that induce the state y."""

    @abc.abstractmethod
    def project(self, parameters: Tensor) -> Tensor:
        """Return the state that parameters induce; ``project(lift(y)) = y``."""

    @classmethod
    def example(cls) -> tuple[Flow, Tensor]:
        """Return a small instance and a start: of gflow's own flows, for its tests."""
        raise InputError(f"{cls.__name__} has no example; make one by its constructor")

    # -- hooks: nothing by default ------------------------------------------------

    #: Whether f(t, y) is affine in y, with a symmetric Jacobian.
    affine: bool = False

    #: Whether implicit methods may decompose the Jacobian, by products that are exact, where its
    #: products by differences are too noisy.
    dense_jacobian: bool = False

    @property
    def stationary_state(self) -> Tensor | None:
        """A stationary state of an affine flow; None where not known."""
        return None

    def spectral_radius(self, y: Tensor) -> float | None:
        """Return a cheap bound on −λ_min of the Jacobian, as a positive number, or None."""
        return None

    @property
    def reference_tensor(self) -> Tensor | None:
        """A tensor of the dtype and device of states; None where any are allowed."""
        return None

    def end_to_end(self, y: Tensor) -> Tensor:
        """Return the argument of the loss (W, UUᵀ, outputs); the state itself by default."""
        return y

    def observables(self, y: Tensor) -> Observables:
        """Measure a state: tensors by name, shapes of the ensemble and ``observable_dims``."""
        return {"loss": self.loss(y)}

    @property
    def observable_dims(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the dimensions of observables and invariants beyond the ensemble's."""
        return {}

    @property
    def dimension_labels(self) -> Mapping[str, Sequence[str]]:
        """Names of what dimensions count, such as parameters; numbers where there are none."""
        return {}

    def neurons(self, y: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the input weights (..., m, d) and signs (m,) of hidden neurons, or None."""
        return None

    def invariants(self, y: Tensor) -> Observables:
        """Compute the quantities that the exact flow conserves, by name."""
        return {}

    def invariant_rates(self) -> Mapping[str, float]:
        """Return the rates r at which invariants decay, Q(t) = e^{−rt}Q(0); 0 for all others."""
        return {}

    def invariant_scales(self, y: Tensor) -> Observables:
        """Compute the scale, (...), that a change of each invariant is relative to.

        By default what a relative error of the state changes (`gflow.flows.invariant_scale`);
        keys that an override leaves out have the default, too.
        """
        return response_scales(self.invariants, y, self.state_ndim)

    def closed_form(self, y0: Tensor) -> str | None:
        """Name the closed form that applies from this start; None where there is none."""
        return None

    def closed_form_products(self, y0: Tensor) -> int:
        """Return how many products of the Jacobian are worth what the closed form costs.

        Asked of flows that are affine in their state, for which ``krylov`` needs products alone;
        0 where the closed form is ready or costs little.
        """
        return 0

    def exact(self, ts: Tensor, y0: Tensor) -> Tensor:
        """Compute the states at given times by the closed form.

        Parameters
        ----------
        ts : Tensor, shape (T,)
            Times t ≥ 0, in units of step_size × steps of descent.
        y0 : Tensor, shape (*state)
            The start.

        Returns
        -------
        Tensor, shape (T, *y0.shape)
            The states.

        Raises
        ------
        InputError
            If no closed form is known for this start.
        """
        raise InputError(
            f"{type(self).__name__} has no closed form for this loss and start; "
            "choose a numerical method, such as dopri5"
        )

    def round_off(self, ts: Tensor, y0: Tensor) -> float:
        """Estimate what round-off does to `exact`, relative to the largest state.

        Parameters
        ----------
        ts : Tensor, shape (T,)
            Times t ≥ 0.
        y0 : Tensor, shape (*state)
            The start.

        Returns
        -------
        float
            0 where it is far below any tolerance, or not known.
        """
        return 0.0

    def closed_descent(
        self, y0: Tensor, step_size: float, products: int
    ) -> Callable[[Tensor], Tensor] | None:
        """Return the closed form of gradient descent on this flow's states, where it pays.

        Parameters
        ----------
        y0 : Tensor, shape (*state)
            One start.
        step_size : float
            Step size η > 0.
        products : int
            The number of evaluations of the right-hand side at one state that steps would take.

        Returns
        -------
        callable or None
            Step counts of shape (S,) ↦ states of shape (S, *state); None where there is no closed
            form or the steps cost less. Loss and speed must be convex in the step count.
        """
        return None

    def for_start(self, y0: Tensor) -> Flow:
        """Return this flow specialised to a start, such as to its conserved rank."""
        return self

    def coordinates(self, y0: Tensor) -> Coordinates | None:
        """Return coordinates for a solve from y0 that conserve its rank; None to use the states.

        The exact flow is the same in both; only the effect of round-off differs.
        """
        return None

    def rank_guard(self, y0: Tensor, rtol: float) -> RankGuard | None:
        """Return what watches the rank along a path from y0, a single start; None to watch nothing.

        Parameters
        ----------
        y0 : Tensor, shape (*state)
            The start.
        rtol : float
            Relative tolerance of the solve: modes far below it may be left out.

        Returns
        -------
        RankGuard or None
        """
        return None

    def discrete_changes(self, ts: Tensor, ys: Tensor) -> Observables:
        """Measure changes of what the exact flow conserves beside `invariants`: rank and signs.

        Parameters
        ----------
        ts : Tensor, shape (T,)
            Times.
        ys : Tensor, shape (T, ..., *state)
            States of a path there.

        Returns
        -------
        dict of str to Tensor, shape (...)
            By name, 0 where nothing changed. ``rank``: the largest singular value beyond the rank
            of the start, relative. ``determinant_sign``: 1 where it changed. ``resolved_rank``:
            1 where a mode was lost in round-off that may have grown since.
        """
        return {}

    def in_singular_coordinates(self, y0: Tensor) -> str:
        """Return how to write the flow that resolves modes which this one may lose; "" if none.

        Parameters
        ----------
        y0 : Tensor, shape (..., *state)
            The start.

        Returns
        -------
        str
            Such as ``SpectralFlow(loss, depth=3)``.
        """
        return ""

    @property
    def members(self) -> tuple[int, ...]:
        """Shape of the ensemble whose members have settings of their own; () where all share them.

        States then have these leading dimensions.
        """
        return ()

    def for_members(self, index: Tensor) -> Flow:
        """Return this flow for some members of an ensemble, index (k,) into its starts.

        A flow whose settings differ from member to member selects them here; an index of shape ()
        makes the flow of one start.
        """
        return self

    def perturbations(self, y: Any) -> Chart | None:
        """Return coordinates in which growth along the path is measured; None for the state's own.

        Parameters
        ----------
        y : Tensor or ndarray, shape (..., *state)
            States.

        Returns
        -------
        Chart or None
        """
        return None

    def gauss_newton(self, y: Tensor) -> GaussNewton | None:
        """Return damped Gauss-Newton steps from one state; None where they cost too much."""
        return None

    def linearised(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        """Return v ↦ (∂f/∂y)·v at one state; work that all products share is done once."""
        return functools.partial(self.jvp, y)

    def array_form(self) -> ArrayForm | None:
        """Return the flow on NumPy arrays, for one state on the CPU; None where there is none."""
        return None

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute φ(y) and dy/dt; override where one computation gives both."""
        return self.loss(y), self(0.0, y)

    def velocity_and_acceleration(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute dy/dt = f(y) and d²y/dt² = (∂f/∂y)·f(y)."""
        velocity = self(0.0, y)
        return velocity, self.jvp(y, velocity)

    # -- the same for every flow ----------------------------------------------------

    @property
    def state_ndim(self) -> int:
        """Number of trailing dimensions of one state."""
        return len(self.state_shape)

    def batch_shape(self, y: Tensor) -> torch.Size:
        """Return the leading (ensemble) dimensions of y."""
        return y.shape[: y.ndim - self.state_ndim]

    def norm(self, y: Tensor) -> Tensor:
        """Compute the Euclidean norm of each state of an ensemble."""
        return vector_norm(self._flat(y), dim=-1)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute the Euclidean inner product ⟨a, b⟩ of each state of an ensemble.

        Parameters
        ----------
        a, b : Tensor, shape (..., *state)
            States or tangent vectors.

        Returns
        -------
        Tensor, shape (...)
            The inner products.
        """
        return vecdot(self._flat(a), self._flat(b))

    def tolerance_scale(self, y: Tensor) -> Tensor:
        """Return what rtol is relative to, of each state of an ensemble; its norm by default.

        Override it where numbers of a state differ in kind, as logarithms and unit vectors do.
        """
        return self.norm(y)

    @property
    def has_own_scale(self) -> bool:
        """Whether rtol is relative to another size than the norm of a state."""
        return type(self).tolerance_scale is not Flow.tolerance_scale

    def relative_distance(self, ys: Tensor, truth: Tensor) -> Tensor:
        """Compute ‖y − truth‖ relative to each member's largest ‖truth‖.

        Override it where equal states may have different numbers.

        Parameters
        ----------
        ys, truth : Tensor, shape (T, ..., *state)
            States at the same times.

        Returns
        -------
        Tensor, shape (T, ...)
        """
        scale = self.norm(truth).amax(dim=0)
        return self.norm(ys - truth) / torch.where(scale > 0, scale, torch.ones_like(scale))

    def _flat(self, y: Tensor) -> Tensor:
        """States as vectors, (..., n)."""
        ndim = self.state_ndim
        if ndim == 0:
            return y.unsqueeze(-1)
        return y if ndim == 1 else y.flatten(y.ndim - ndim)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        """Compute the Jacobian-vector product (∂f/∂y)·v.

        Parameters
        ----------
        y : Tensor, shape (..., *state)
            A state or an ensemble.
        v : Tensor, shape (..., *state)
            The direction.

        Returns
        -------
        Tensor, shape (..., *state)
            The product; for a flow of parameters minus the Hessian product.
        """
        return jacobian_product(functools.partial(self, 0.0), y, v)

    def check_state(self, y: Tensor) -> None:
        """Raise InputError unless y is a finite state (or ensemble of states)."""
        require_float("a state", y)
        require_nonempty("a state", y)
        expected = self.state_shape
        shape = tuple(y.shape[max(0, y.ndim - len(expected)) :])
        if len(shape) != len(expected) or any(
            e not in (-1, s) for e, s in zip(expected, shape, strict=True)
        ):
            shown = ", ".join("any" if e == -1 else str(e) for e in expected)
            raise InputError(
                f"a state of {type(self).__name__} has shape (..., {shown}), got {tuple(y.shape)}; "
                "reshape it"
            )
        if self.members and tuple(self.batch_shape(y)) != self.members:
            raise InputError(
                f"a state of {type(self).__name__} must have the members of its data, "
                f"{self.members}, before its own dimensions, got shape {tuple(y.shape)}; "
                "expand it, or take the flow of one by flow.for_members(torch.tensor(0))"
            )
        if self.reference_tensor is not None:
            require_dtype_and_device("a state", y, self.reference_tensor, "the flow's data")
        require_finite("the state", y)


explain_failures(Flow)


class ParameterFlow(Flow):
    """Gradient flow ẏ = −∇φ(y) of the parameters themselves, or ẏ = −r∇φ(y) with time scales r."""

    @property
    def parameter_rates(self) -> Tensor | None:
        """Time scales r > 0, (*state), of the numbers of a state; None where all are 1.

        The flow is then the gradient in the metric ⟨a, b/r⟩, and descent is θ_{k+1} = θ_k − ηr∇φ.
        """
        return None

    def metric_inner(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute ⟨a, b/r⟩ of velocities, the inner product of the metric of the flow.

        Parameters
        ----------
        a, b : Tensor, shape (..., *state)
            Velocities.

        Returns
        -------
        Tensor, shape (...)
        """
        return self.inner(a, b if self.parameter_rates is None else b / self.parameter_rates)

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        return self.metric_inner(velocity, velocity)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        is_symmetric = self.parameter_rates is None
        return jacobian_product(functools.partial(self, 0.0), y, v, symmetric=is_symmetric)

    def perturbations(self, y: Any) -> Chart | None:
        if self.parameter_rates is None:
            return None
        size = numbers(self.parameter_rates.sqrt(), y)
        return Chart(lambda v: size * v, lambda v: v / size)

    def reference(self, y: Tensor) -> Tensor:
        gradient = gradient_of(self.loss, y)
        return -gradient if self.parameter_rates is None else -self.parameter_rates * gradient

    @property
    def parameter_flow(self) -> Flow:
        return self

    def lift(self, y: Tensor) -> Tensor:
        return y

    def project(self, parameters: Tensor) -> Tensor:
        return parameters


class ReducedFlow(Flow):
    """The flow that a parameter flow induces on the end-to-end object.

    Without ``parameter_flow``, ``lift`` and ``project`` it can be integrated, but there is nothing
    to descend on, nor to check its velocity against.
    """

    def gradient(self, y: Tensor) -> Tensor:
        """Compute ∇ℓ(y), the Euclidean gradient of the loss of the end-to-end object."""
        return gradient_of(self.loss, y)

    @property
    def parameter_flow(self) -> Flow:
        raise self._without("parameter_flow")

    @property
    def is_of_parameters(self) -> bool:
        is_defined = type(self).parameter_flow is not ReducedFlow.parameter_flow
        return is_defined and self.parameter_flow is self

    def lift(self, y: Tensor) -> Tensor:
        raise self._without("lift")

    def project(self, parameters: Tensor) -> Tensor:
        raise self._without("project")

    def _without(self, name: str) -> InputError:
        return InputError(
            "descent, the sharpness and the check of the velocity need the parameters of a reduced "
            f"flow, but {type(self).__name__} has no {name}; define parameter_flow, lift and "
            "project"
        )

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        return -self.inner(self.gradient(y), velocity)

    def reference(self, y: Tensor) -> Tensor:
        parameters = self.lift(y)
        velocity = -gradient_of(lambda p: self.loss(self.project(p)), parameters)
        return jacobian_product(self.project, parameters, velocity)


def gradient_of(function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """Compute ∇ Σ function(y).

    Not by torch.func, whose first gradient takes seconds of imports.

    Parameters
    ----------
    function : callable
        Tensor → tensor of any shape, differentiable.
    y : Tensor
        Where to differentiate.

    Returns
    -------
    Tensor
        The gradient of the sum of the function's values, of the shape of y.

    Examples
    --------
    >>> import torch
    >>> gradient_of(lambda y: y.square(), torch.tensor([1.0, 2.0]))
    tensor([2., 4.])
    """
    with torch.enable_grad():
        leaf = y.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    return gradient


def split_ensemble(y: Tensor, state_ndim: int) -> tuple[Tensor, torch.Size]:
    """View an ensemble as a list of members.

    Parameters
    ----------
    y : Tensor, shape (..., *state)
        The ensemble.
    state_ndim : int
        Number of dimensions of one state.

    Returns
    -------
    members : Tensor, shape (members, *state)
        A view of y.
    batch : torch.Size
        The ensemble's dimensions, to restore them.

    Examples
    --------
    >>> import torch
    >>> members, batch = split_ensemble(torch.zeros(2, 3, 5), 1)
    >>> members.shape, batch
    (torch.Size([6, 5]), torch.Size([2, 3]))
    """
    batch = y.shape[: y.ndim - state_ndim]
    return y.reshape(-1, *y.shape[y.ndim - state_ndim :]), batch
