r"""What is added to a criterion, a function of θ alone: R(θ) = ½Σ_i λ_iθ_i² + penalty(θ).

The penalty is a user's function of the named parameters. It is checked where the flow is made: its
value, its gradient by autograd against differences, and that nothing else enters it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gflow.checks import evaluated, require_callable, shown
from gflow.errors import InputError
from gflow.flows.jacobian import in_transform
from gflow.flows.objective.slope import has_products, require_slope

#: Parameters by name → scalar.
PenaltyFunction = Callable[[dict[str, Tensor]], Tensor]


class Regulariser:
    """R(θ): weight decay, and a user's penalty.

    Parameters
    ----------
    decay : Tensor or None, shape (p,)
        λ of each entry of θ.
    penalty : callable or None
        ``penalty(parameters)`` → scalar, of the parameters by name.
    named : callable
        θ (p,) ↦ parameters by name.

    Examples
    --------
    >>> R = Regulariser(None, lambda q: q["w"].abs().sum(), lambda theta: {"w": theta})
    >>> R(torch.tensor([3.0, -4.0]))
    tensor(7.)
    """

    def __init__(
        self,
        decay: Tensor | None,
        penalty: PenaltyFunction | None,
        named: Callable[[Tensor], dict[str, Tensor]],
    ):
        self.decay, self.penalty, self._named = decay, penalty, named
        #: Whether values are computed with gradients enabled: the penalty differentiates inside.
        self.needs_graph = False

    def __call__(self, theta: Tensor) -> Tensor:
        """Compute R at one vector (p,)."""
        decay = self.decay
        if decay is None:
            return self.penalty_at(theta)
        half = 0.5 * (decay * theta * theta).sum()
        return half if self.penalty is None else half + self.penalty_at(theta)

    def penalty_at(self, theta: Tensor) -> Tensor:
        """Compute the penalty at one vector (p,), without weight decay; 0 where there is none."""
        if self.penalty is None:
            return theta.new_zeros(())
        if self.needs_graph and not theta.requires_grad and not in_transform():
            with torch.enable_grad():
                return self.penalty(self._named(theta.detach().requires_grad_())).detach()
        return self.penalty(self._named(theta))

    def check_penalty(self, points: list[Tensor]) -> bool:
        """Check the penalty, and return whether it can be differentiated twice.

        Parameters
        ----------
        points : list of Tensor, shape (p,)
            Where it is evaluated: the module's parameters, and points nearby. Its derivatives are
            compared with differences at the last.

        Returns
        -------
        bool

        Raises
        ------
        InputError
            If it is no differentiable scalar function of the parameters alone.
        """
        require_callable("penalty", self.penalty, "penalty(parameters)")
        where = "at the module's parameters"
        for theta in points:
            value, gradient = self._checked(theta, where)
            where = "near the module's parameters"
        try:
            require_slope(lambda y: self.penalty_at(y).detach(), theta, value, gradient)
        except InputError as error:
            raise InputError(f"of the penalty: {error}") from None
        return has_products(self.penalty_at, theta, gradient)

    def _checked(self, theta: Tensor, where: str) -> tuple[Tensor, Tensor]:
        """Compute value and gradient by plain autograd; InputError where something is wrong."""
        what, given = f"the penalty {where}", theta.clone()
        leaf = theta.clone().requires_grad_()
        with torch.enable_grad():
            value = evaluated(what, partial(self.penalty_at, leaf))
        _require_scalar(value, theta, where)
        try:
            with torch.no_grad():
                again = self.penalty_at(given)
        except Exception:  # of any kind: a penalty that differentiates inside needs a graph
            self.needs_graph = True
            again = evaluated(what, partial(self.penalty_at, given))
        if not torch.equal(given, theta) or not torch.equal(leaf, theta):
            raise InputError("penalty must not change the parameters; work on copies, p.clone()")
        if not torch.equal(again.detach(), value.detach()):
            raise InputError(
                "penalty must depend on the parameters alone, but two calls differ; take random "
                "numbers and counters out of it"
            )
        gradient = None
        if value.requires_grad:
            differentiate = partial(torch.autograd.grad, value, leaf, allow_unused=True)
            (gradient,) = evaluated(f"the gradient of {what}", differentiate)
        if gradient is None:
            raise InputError(
                "penalty must be differentiable, but its result does not depend on the parameters "
                "that it is given by operations of torch; use these, not the module's, without "
                ".detach(), .item() and .data"
            )
        if not bool(torch.isfinite(gradient).all()):
            raise InputError(
                f"the gradient of penalty must be finite {where}, but "
                f"{int((~torch.isfinite(gradient)).sum())} of {gradient.numel()} entries are NaN "
                "or infinite; start elsewhere, or use a norm that is smooth at 0"
            )
        return value.detach(), gradient


def _require_scalar(value: object, theta: Tensor, where: str) -> None:
    """Raise InputError unless a penalty's value is a finite scalar of the dtype of the state."""
    if not isinstance(value, Tensor) or value.ndim:
        mend = "sum it" if isinstance(value, Tensor) else "use torch, not NumPy, float() or item()"
        raise InputError(f"penalty must return a scalar tensor, got {shown(value)}; {mend}")
    if value.dtype != theta.dtype or value.device != theta.device:
        raise InputError(
            f"penalty must return the dtype and device of the parameters, {theta.dtype} on "
            f"{theta.device}, got {value.dtype} on {value.device}; convert what it adds"
        )
    if not bool(torch.isfinite(value)):
        raise InputError(
            f"penalty must be finite {where}, got {float(value.detach())}; "
            "start elsewhere, or keep logarithms and quotients away from 0"
        )
