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
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gflow.flows.array_form import ArrayForm
from gflow.flows.base import Flow, Observables, ReducedFlow, gradient_of
from gflow.linalg.arrays import shared_array


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
    ):
        self.inputs, self.targets = inputs, targets
        zeros = torch.zeros_like(inputs[0])
        #: log u∘u and log v∘v of the start, less 2 log α.
        self._log_u, self._log_v = log_squares or (zeros, zeros)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (len(self.targets) + 1,)

    @property
    def reference_tensor(self) -> Tensor:
        return self.inputs

    @property
    @abc.abstractmethod
    def parameter_flow(self) -> Flow:
        """The flow of [u; v]."""

    def start(self, log_scale: float) -> Tensor:
        """Return [0; log α]."""
        state = self.inputs.new_zeros(self.state_shape)
        state[-1] = log_scale
        return state

    def _split(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return z = Xᵀν, (..., d), and 2 log α, (..., 1)."""
        nu, log_scale = y.split([len(self.targets), 1], dim=-1)
        return nu @ self.inputs, 2 * log_scale

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute w = 2α² sinh(Xᵀν), shape (..., d)."""
        z, shift = self._split(y)
        # The larger of the two terms, and the rest relative to it: no overflow where w has none.
        difference = 2 * z + (self._log_u - self._log_v)
        larger = torch.where(difference > 0, self._log_u + z, self._log_v - z) + shift
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
        rate = torch.cat([-4 / n * residual, torch.zeros_like(residual.narrow(-1, 0, 1))], dim=-1)
        return residual.square().sum(-1) / (2 * n), rate

    def gradient(self, y: Tensor) -> Tensor:
        n, residual = len(self.targets), self._residual(y)
        u, v = self._squares(y)
        slope = residual @ self.inputs / n
        by_nu = (slope * (u + v)) @ self.inputs.mT
        return torch.cat([by_nu, 2 * (slope * (u - v)).sum(-1, keepdim=True)], dim=-1)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        plus, minus = self._squares(y)
        dz, shift = self._split(v)
        change = ((plus + minus) * dz + (plus - minus) * shift) @ self.inputs.mT
        rest = torch.zeros_like(change.narrow(-1, 0, 1))
        return torch.cat([-4 / len(self.targets) * change, rest], dim=-1)

    def potential(self, y: Tensor) -> Tensor:
        """Compute D(ν) up to a function of α, shape (...): the flow is −(4/n)∇D."""
        z, shift = self._split(y)
        # u² + v² = 2uv + s², s = 2√(uv) sinh(δ/4), whose derivative cancels nowhere.
        size = (2 * z + (self._log_u - self._log_v)).abs() / 4
        half = (self._log_u + self._log_v) / 4 + 0.5 * shift
        s = (half + size).exp() * -torch.expm1(-2 * size)
        return s.square().sum(-1) - (y[..., :-1] * self.targets).sum(-1)

    def reference(self, y: Tensor) -> Tensor:
        # Not by u and v, which underflow.
        rate = -4 / len(self.targets) * gradient_of(self.potential, y)
        rate[..., -1] = 0.0
        return rate

    def array_form(self) -> ArrayForm | None:
        X, y = shared_array(self.inputs), shared_array(self.targets)
        log_u, log_v = shared_array(self._log_u), shared_array(self._log_v)
        if X is None or y is None or log_u is None or log_v is None:
            return None
        n, apart = len(y), log_u - log_v

        def residual(state: np.ndarray) -> np.ndarray:
            z = state[:-1] @ X
            difference = 2 * z + apart
            larger = np.where(difference > 0, log_u + z, log_v - z) + 2 * state[-1]
            w = np.sign(difference) * np.exp(larger) * -np.expm1(-np.abs(difference))
            missing: np.ndarray = X @ w - y
            return missing

        def loss_and_velocity(state: np.ndarray) -> tuple[float, np.ndarray]:
            missing = residual(state)
            rate = np.zeros_like(state)
            rate[:-1] = (-4 / n) * missing
            return float(missing @ missing) / (2 * n), rate

        def dissipation(state: np.ndarray, velocity: np.ndarray) -> float:
            z = state[:-1] @ X
            u, v = np.exp(log_u + z + 2 * state[-1]), np.exp(log_v - z + 2 * state[-1])
            slope = residual(state) @ X / n
            return -float((slope * (u + v)) @ (velocity[:-1] @ X))

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

    def project(self, parameters: Tensor) -> Tensor:
        """Compute [ν; log α] of [u; v], by least squares where u and v are not those of a ν."""
        u, v = (2 * parameters.abs().log()).chunk(2, dim=-1)
        plus, minus = u - self._log_u, v - self._log_v
        nu = (0.5 * (plus - minus)) @ self._inverse
        return torch.cat([nu, 0.25 * (plus + minus).mean(-1, keepdim=True)], dim=-1)

    def observables(self, y: Tensor) -> Observables:
        """Measure loss, w as ``weights``, ‖w‖₁ and ‖w‖₂."""
        return {"loss": self.loss(y), **weight_observables(self.end_to_end(y))}


def weight_observables(w: Tensor) -> Observables:
    """Measure w (..., d) as ``weights``, with ``l1_norm`` and ``l2_norm``."""
    return {"weights": w, "l1_norm": w.abs().sum(-1), "l2_norm": w.norm(dim=-1)}
