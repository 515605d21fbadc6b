r"""The dual variable of a diagonal linear network of depth 2: w = 2α² sinh(Xᵀν).

From u = v = α·1 the flow of w = u∘u − v∘v on 1/(2n)‖Xw − y‖² is u∘u = α²e^z, v∘v = α²e^{−z},
z = Xᵀν (Woodworth et al. 2020, arXiv:2002.09277), with

    ν̇ = (4/n)(y − Xw) = −(4/n)∇D(ν),    D(ν) = 2α² Σ_j cosh z_j − yᵀν,

a gradient flow of n variables on a convex function, for starts of any size: of α only log α stands
in an exponent. Where it ends, Xw = y, w minimises the potential of Woodworth et al.

Other starts of u and v differ in the factors of e^z and e^{−z} alone. Time unit: that of
`gflow.flows.diagonal`.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gflow.flows.array_form import ArrayForm
from gflow.flows.base import Chart, Coordinates, Flow, Observables, ReducedFlow, gradient_of
from gflow.linalg.arrays import empty, shared_array

_CHANGE = 0.5  # of log u∘u and log v∘v


class DualFlow(ReducedFlow):
    """The flow of [ν; log α], but for the flow of [u; v] that induces it.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        X.
    targets : Tensor, shape (n,)
        y.
    log_squares : (Tensor, Tensor), each of shape (d,), optional
        Added to 2 log α: log u∘u and log v∘v of the start over α². Zero by default.
    has_scale : bool
        Whether log α is part of the state; else it is 0. The Jacobian of ν alone is symmetric.

    Notes
    -----
    The state is [ν; log α], (..., n + 1). ``lift`` gives [u; v] with u and v positive, 0 where
    they underflow; ``project`` inverts it where the rows of X are independent.
    """

    observable_dims: ClassVar = {"weights": ("coordinate",)}

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        log_squares: tuple[Tensor, Tensor] | None = None,
        has_scale: bool = True,
    ):
        self._has_scale = has_scale
        self.inputs, self.targets = inputs, targets
        zeros = torch.zeros_like(inputs[0])
        #: log u∘u and log v∘v of the start, less 2 log α.
        self._log_u, self._log_v = log_squares or (zeros, zeros)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (len(self.targets) + self._has_scale,)

    @property
    def reference_tensor(self) -> Tensor:
        return self.inputs

    @property
    @abc.abstractmethod
    def parameter_flow(self) -> Flow:
        """The flow of [u; v]."""

    def start(self, log_scale: float = 0.0) -> Tensor:
        """Return ν = 0, with log α where it is part of the state."""
        return torch.nn.functional.pad(
            self.inputs.new_zeros(len(self.targets)), (0, int(self._has_scale)), value=log_scale
        )

    def _split(self, y: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return z = Xᵀν, (..., d), and 2 log α, (..., 1)."""
        if not self._has_scale:
            return y @ self.inputs, 0.0
        nu, log_scale = y.split([len(self.targets), 1], dim=-1)
        return nu @ self.inputs, 2 * log_scale

    def _joined(self, nu: Tensor, scale: Callable[[], Tensor]) -> Tensor:
        """Return a tangent or a state of its ν, (..., n), and its log α, (..., 1)."""
        return torch.cat([nu, scale()], dim=-1) if self._has_scale else nu

    def _exponents(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return log u∘u − log v∘v and the larger of both logarithms, each (..., d)."""
        z, shift = self._split(y)
        difference = 2 * z + (self._log_u - self._log_v)
        return difference, torch.where(difference > 0, self._log_u + z, self._log_v - z) + shift

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute w = 2α² sinh(Xᵀν), shape (..., d)."""
        # The larger of the two terms, and the rest relative to it: no overflow where w has none.
        difference, larger = self._exponents(y)
        return difference.sign() * larger.exp() * -torch.expm1(-difference.abs())

    def _squares(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return u∘u and v∘v."""
        z, shift = self._split(y)
        return (self._log_u + z + shift).exp(), (self._log_v - z + shift).exp()

    def _residual(self, y: Tensor) -> Tensor:
        return self.end_to_end(y) @ self.inputs.mT - self.targets

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self.loss_and_velocity(y)[1]

    def loss(self, y: Tensor) -> Tensor:
        """Compute 1/(2n)‖Xw − y‖²."""
        return self._residual(y).square().sum(-1) / (2 * len(self.targets))

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        n, residual = len(self.targets), self._residual(y)
        rate = -4 / n * residual
        return residual.square().sum(-1) / (2 * n), self._joined(rate, lambda: _no_rate(rate))

    def gradient(self, y: Tensor) -> Tensor:
        n, residual = len(self.targets), self._residual(y)
        u, v = self._squares(y)
        slope = residual @ self.inputs / n
        by_nu = (slope * (u + v)) @ self.inputs.mT
        return self._joined(by_nu, lambda: 2 * (slope * (u - v)).sum(-1, keepdim=True))

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        plus, minus = self._squares(y)
        dz, shift = self._split(v)
        change = ((plus + minus) * dz + (plus - minus) * shift) @ self.inputs.mT
        rate = -4 / len(self.targets) * change
        return self._joined(rate, lambda: _no_rate(rate))

    def potential(self, y: Tensor) -> Tensor:
        """Compute D(ν) up to a function of α, shape (...): the flow is −(4/n)∇D."""
        # u² + v² = 2uv + s², s = 2√(uv) sinh(δ/4), whose derivative cancels nowhere.
        difference, larger = self._exponents(y)
        s = (0.5 * larger).exp() * -torch.expm1(-0.5 * difference.abs())
        nu = y.narrow(-1, 0, len(self.targets))
        return s.square().sum(-1) - (nu * self.targets).sum(-1)

    def reference(self, y: Tensor) -> Tensor:
        # Not by u and v, which underflow.
        n = len(self.targets)
        rate = -4 / n * gradient_of(self.potential, y).narrow(-1, 0, n)
        return self._joined(rate, lambda: _no_rate(rate))

    @property
    def _has_these_formulas(self) -> bool:
        """Whether no subclass has others."""
        names = ("__call__", "loss", "dissipation")
        return all(getattr(type(self), name) is getattr(DualFlow, name) for name in names)

    def array_form(self) -> ArrayForm | None:
        X, y = shared_array(self.inputs), shared_array(self.targets)
        log_u, log_v = shared_array(self._log_u), shared_array(self._log_v)
        if X is None or y is None or log_u is None or log_v is None:
            return None
        if not self._has_these_formulas:
            return None
        n, apart, has_scale = len(y), log_u - log_v, self._has_scale

        def residual(state: np.ndarray) -> np.ndarray:
            z = state[:n] @ X
            difference = 2 * z + apart
            larger = np.where(difference > 0, log_u + z, log_v - z)
            if has_scale:
                larger += 2 * state[-1]
            w = np.sign(difference) * np.exp(larger) * -np.expm1(-np.abs(difference))
            missing: np.ndarray = X @ w - y
            return missing

        def loss_and_velocity(state: np.ndarray) -> tuple[float, np.ndarray]:
            missing = residual(state)
            rate = np.zeros_like(state)
            rate[:n] = (-4 / n) * missing
            return float(missing @ missing) / (2 * n), rate

        def dissipation(state: np.ndarray, velocity: np.ndarray) -> float:
            z, shift = state[:n] @ X, 2 * state[-1] if has_scale else 0.0
            u, v = np.exp(log_u + z + shift), np.exp(log_v - z + shift)
            slope = residual(state) @ X / n
            return -float((slope * (u + v)) @ (velocity[:n] @ X))

        return ArrayForm(
            lambda state: loss_and_velocity(state)[1],
            lambda state: loss_and_velocity(state)[0],
            dissipation,
            loss_and_velocity,
        )

    # -- u and v ------------------------------------------------------------------------

    def lift(self, y: Tensor) -> Tensor:
        """Compute [u; v] > 0; 0 where they underflow."""
        z, shift = self._split(y)
        logs = torch.cat([self._log_u + z + shift, self._log_v - z + shift], dim=-1)
        return (0.5 * logs).exp()

    @functools.cached_property
    def _inverse(self) -> Tensor:
        return torch.linalg.pinv(self.inputs)

    def tolerance_scale(self, y: Tensor) -> Tensor:
        """Return the change of ν that changes no log u∘u or log v∘v by more than a half.

        ν may be thousands where a saddle has a size of 1e-1000, and stands in an exponent.
        """
        largest = self.inputs.norm(dim=0).max()
        return (_CHANGE / torch.where(largest > 0, largest, 1.0)).expand(y.shape[:-1])

    def perturbations(self, y: Any) -> Chart | None:
        """Return perturbations of ν: log α stays what it is."""
        if not self._has_scale:
            return None
        n = len(self.targets)

        def of_nu(v: Any) -> Any:
            out = empty(v.shape, v)
            out[..., :n], out[..., n:] = v[..., :n], 0.0
            return out

        return Chart(of_nu, of_nu)

    def relative_distance(self, ys: Tensor, truth: Tensor) -> Tensor:
        """Compute ‖ν − ν'‖ over that change, as u and v differ, shape (T, ...)."""
        return self.norm(ys - truth) / self.tolerance_scale(truth)

    def project(self, parameters: Tensor) -> Tensor:
        """Compute [ν; log α] of [u; v], by least squares where u and v are not those of a ν."""
        u, v = (2 * parameters.abs().log()).chunk(2, dim=-1)
        plus, minus = u - self._log_u, v - self._log_v
        nu = (0.5 * (plus - minus)) @ self._inverse
        return self._joined(nu, lambda: 0.25 * (plus + minus).mean(-1, keepdim=True))

    def coordinates(self, y0: Tensor) -> Coordinates | None:
        """Return ν alone, whose Jacobian is symmetric."""
        if not self._has_scale or y0.ndim > 1 or not self._has_these_formulas:
            return None
        nu, log_scale = y0.split([len(self.targets), 1])
        shift = 2 * log_scale
        alone = type(self)(
            self.inputs, self.targets, (self._log_u + shift, self._log_v + shift), has_scale=False
        )
        return Coordinates(
            alone,
            nu.clone(),
            lambda y: torch.cat([y, log_scale.expand(*y.shape[:-1], 1)], dim=-1),
        )

    def observables(self, y: Tensor) -> Observables:
        """Measure loss, w as ``weights``, ‖w‖₁ and ‖w‖₂."""
        return {"loss": self.loss(y), **weight_observables(self.end_to_end(y))}


def _no_rate(rate: Tensor) -> Tensor:
    """Return the velocity of log α beside that of ν: zero."""
    return torch.zeros_like(rate.narrow(-1, 0, 1))


def weight_observables(w: Tensor) -> Observables:
    """Measure w (..., d) as ``weights``, with ``l1_norm`` and ``l2_norm``."""
    return {"weights": w, "l1_norm": w.abs().sum(-1), "l2_norm": w.norm(dim=-1)}
