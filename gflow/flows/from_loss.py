r"""A parameter flow from a loss alone: ẏ = −∇φ(y), the gradient by automatic differentiation.

Time unit: t = k·step_size of descent on the same φ.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from gflow.checks import evaluated, require_callable, require_count, shown
from gflow.errors import InputError
from gflow.flows.base import Observables, ParameterFlow
from gflow.flows.objective.differentiation import (
    gradient_and_product,
    gradient_by_torch_func,
    hessian,
    map_over_ensemble,
    value_and_gradient,
)
from gflow.flows.objective.slope import require_slope

Function = Callable[[Tensor], Tensor]


def flow_from_loss(
    loss_function: Function,
    invariants: Mapping[str, Function] | None = None,
    *,
    shape: int | tuple[int, ...] | None = None,
) -> LossFlow:
    """Make the gradient flow of a loss.

    Parameters
    ----------
    loss_function : callable
        φ: one state, a tensor of any shape, → scalar tensor, by differentiable operations of torch.
    invariants : mapping of str to callable, optional
        Quantities that the exact flow conserves, for the certificate: one state → tensor.
    shape : int or tuple of int, optional
        The shape of one state, for ensembles of starts in leading dimensions; by default a start
        is one state, whatever its shape.

    Returns
    -------
    ParameterFlow

    Raises
    ------
    InputError
        If an argument is no function; with the first start, if the loss is not a finite scalar, or
        no differentiable function of the state alone.

    Notes
    -----
    Ensembles are evaluated by `torch.func.vmap`, or one by one where that fails. Without ``shape``
    the flow of a trajectory, ``trajectory.flow``, knows the shape from the start, and the flow
    itself takes single vectors only: ``flow.for_start(y0)`` takes stacks of states.

    Examples
    --------
    >>> import torch, gflow
    >>> valley = lambda w: 0.25 * (w[0] * w[1] - 1) ** 2
    >>> flow = gflow.flow_from_loss(valley, {"w_0² − w_1²": lambda w: w[0] ** 2 - w[1] ** 2})
    >>> start = torch.tensor([2.0, 0.1], dtype=torch.float64)
    >>> path = gflow.integrate(flow, start, [0.0, 1.0, 10.0, 100.0])
    >>> path.certificate.holds, bool((path.ys[-1].prod() - 1).abs() < 1e-5)
    (True, True)
    >>> descent = gflow.descend(flow, start, step_size=0.1, steps=100)
    >>> 0 < gflow.compare(path, descent).largest < 0.02
    True
    """
    return LossFlow(loss_function, {} if invariants is None else invariants, shape)


class LossFlow(ParameterFlow):
    """Gradient flow of a function of one state; see `flow_from_loss`.

    Parameters
    ----------
    loss_function : callable
        φ of one state.
    invariants : mapping of str to callable
        Conserved quantities of one state.
    shape : int or tuple of int, optional
        The shape of one state.
    """

    def __init__(
        self,
        loss_function: Function,
        invariants: Mapping[str, Function],
        shape: int | tuple[int, ...] | None = None,
    ):
        if isinstance(loss_function, nn.Module):
            raise InputError(
                "loss_function must be a function of the state, got a module; for the flow of its "
                "parameters write gflow.NetworkFlow(module, criterion, inputs, targets)"
            )
        require_callable("loss_function", loss_function, "loss_function(y)")
        if not isinstance(invariants, Mapping):
            raise InputError(
                f"invariants must be a mapping of names to functions, got {shown(invariants)}; "
                'write {"name": function}'
            )
        for name, function in invariants.items():
            require_callable(f"invariant {name!r}", function, "function(y)")
        self.loss_function = loss_function
        self.invariant_functions = dict(invariants)
        self._shape: tuple[int, ...] | None = None
        if shape is not None:
            sizes = shape if isinstance(shape, tuple | list | torch.Size) else (shape,)
            self._shape = tuple(require_count("each of shape", size) for size in sizes)

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Shape of one state; that of any vector where it is not known yet."""
        return (-1,) if self._shape is None else self._shape

    def check_state(self, y: Tensor) -> None:
        flow = self.for_start(y)
        super(LossFlow, flow).check_state(y)
        flow._check_function(y.detach().reshape(-1, math.prod(flow._require_shape(y)))[0])

    def for_start(self, y0: Tensor) -> LossFlow:
        """Return this flow with the shape of a state: that of the start, unless it was given."""
        if self._shape is not None or not isinstance(y0, Tensor):
            return self
        flow = copy.copy(self)
        flow._shape = tuple(y0.shape)
        return flow

    def _require_shape(self, y: Tensor) -> tuple[int, ...]:
        """Return the shape of one state; InputError where it might be that of y or not."""
        if self._shape is not None:
            return self._shape
        if y.ndim > 1:
            raise InputError(
                f"shape (..., {', '.join(map(str, y.shape))}) may be one state or several: pass "
                "shape= to gflow.flow_from_loss, or use flow.for_start(y0) or trajectory.flow"
            )
        return tuple(y.shape)

    def _vectors(self, *ys: Tensor) -> list[Tensor]:
        """Return states as vectors, (..., n)."""
        ndim = len(self._require_shape(ys[0]))
        return [y.reshape(*y.shape[: y.ndim - ndim], -1) for y in ys]

    def _of_vector(self, function: Function, like: Tensor) -> Function:
        """Return a function of one state as a function of it as a vector, (n,)."""
        shape = self._require_shape(like)
        return function if len(shape) == 1 else lambda v: function(v.reshape(shape))

    def _objective(self, like: Tensor) -> Function:
        return self._of_vector(self.loss_function, like)

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self.loss_and_velocity(y)[1]

    def loss(self, y: Tensor) -> Tensor:
        loss: Tensor = map_over_ensemble(self._objective(y), *self._vectors(y))
        return loss

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = value_and_gradient(self._objective(y), *self._vectors(y))
        return loss, -gradient.reshape(y.shape)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        product = gradient_and_product(self._objective(y), *self._vectors(y, v))[1]
        return -product.reshape(y.shape)

    def linearised(self, y: Tensor) -> Callable[[Tensor], Tensor]:
        (vector,) = self._vectors(y)
        if vector.ndim > 1:
            return super().linearised(y)
        product = hessian(self._objective(y), vector)
        return lambda v: -product(v.reshape(-1)).reshape(v.shape)

    def velocity_and_acceleration(self, y: Tensor) -> tuple[Tensor, Tensor]:
        gradient, product = gradient_and_product(self._objective(y), *self._vectors(y))
        return -gradient.reshape(y.shape), product.reshape(y.shape)

    def reference(self, y: Tensor) -> Tensor:
        # By torch.func, which the flow itself does not use.
        (gradient,) = gradient_by_torch_func(self._objective(y), *self._vectors(y))
        return -gradient.reshape(y.shape)

    def invariants(self, y: Tensor) -> Observables:
        vectors = self._vectors(y)
        return {
            name: map_over_ensemble(self._of_vector(function, y), *vectors)
            for name, function in self.invariant_functions.items()
        }

    @classmethod
    def example(cls) -> tuple[LossFlow, Tensor]:
        start = torch.tensor([1.5, 0.4, -0.3], dtype=torch.float64)
        balance = {"balance": lambda w: w[0].square() - w[1].square()}
        loss = lambda w: 0.5 * (w[0] * w[1] - 1).square() + 0.5 * w[2].cosh()  # noqa: E731
        return cls(loss, balance, 3), start

    def _check_function(self, vector: Tensor) -> None:
        """Raise InputError unless the loss is a differentiable function of a state alone."""
        state = vector.reshape(self.state_shape)
        for name, function in self.invariant_functions.items():
            value = evaluated(f"invariant {name!r} at the start", partial(function, state.clone()))
            if not isinstance(value, Tensor) or value.dtype != state.dtype:
                got = value.dtype if isinstance(value, Tensor) else shown(value)
                raise InputError(
                    f"invariant {name!r} must return a tensor of the state's {state.dtype}, got "
                    f"{got}"
                )
            again = evaluated(f"invariant {name!r} at the start", partial(function, state.clone()))
            if not torch.equal(value.nan_to_num(), again.nan_to_num()):
                raise InputError(
                    f"invariant {name!r} must depend on the state alone, but two calls differ; "
                    "take random numbers and counters out of it"
                )
        leaf = state.clone().requires_grad_()
        with torch.enable_grad():
            loss = evaluated("loss_function at the start", partial(self.loss_function, leaf))
            again = evaluated("loss_function at the start", partial(self.loss_function, leaf))
        if not isinstance(loss, Tensor) or loss.ndim:
            mend = "sum it" if isinstance(loss, Tensor) else "use torch, not NumPy or float()"
            if isinstance(loss, Tensor) and state.ndim > 1:
                mend += ", or pass shape= to gflow.flow_from_loss if the start is several states"
            raise InputError(
                f"loss_function must return a scalar tensor, got {shown(loss)}; {mend}"
            )
        if loss.dtype != state.dtype or loss.device != state.device:
            raise InputError(
                f"loss_function must return the dtype and device of the state, {state.dtype} on "
                f"{state.device}, got {loss.dtype} on {loss.device}; convert its data"
            )
        if not torch.equal(leaf, state):
            raise InputError("loss_function must not change the state; work on a copy, y.clone()")
        if not torch.equal(loss.nan_to_num(), again.nan_to_num()):
            raise InputError(
                "loss_function must depend on the state alone, but two calls differ; take random "
                "numbers and counters out of it"
            )
        gradient = None
        if loss.requires_grad:
            differentiate = partial(torch.autograd.grad, loss, leaf, allow_unused=True)
            (gradient,) = evaluated("the gradient of loss_function at the start", differentiate)
        if gradient is None:
            raise InputError(
                "loss_function must be differentiable, but its result does not depend on the state "
                "by operations of torch; .numpy(), .item(), .detach() and .data cut the dependence"
            )
        with torch.no_grad():
            value = lambda v: self.loss_function(v.reshape(state.shape)).detach()  # noqa: E731
            require_slope(value, vector, loss.detach(), gradient.reshape(-1))
