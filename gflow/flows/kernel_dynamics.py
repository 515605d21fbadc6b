"""The contract of a flow for u̇ = −H(u − y): see `gflow.flows.kernel`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from gflow.checks import require_dtype_and_device, require_finite, require_float, require_nonempty
from gflow.errors import InputError
from gflow.flows.base import Flow, Observables, slope
from gflow.flows.gram.modes import effective_dimension, flow_factors, require_times
from gflow.flows.gram.operator import KernelOperator, Product
from gflow.flows.gram.split_by_rows import SharedGram

_DIRECT = 1000  # up to this n the n³ of an eigendecomposition is no matter


class KernelDynamics(Flow):
    """The right-hand side, its loss and its closed form; `KernelFlow` adds what is learned."""

    observable_dims: ClassVar = {"mode_residuals": ("mode",), "null_residual": ("null_mode",)}
    affine = True

    def __init__(
        self, H: Tensor | Product, targets: Tensor, H_test: Tensor | Product | None = None
    ):
        for name, value in (("H", H), ("targets", targets), ("H_test", H_test)):
            if value is None or (callable(value) and name != "targets"):
                continue
            require_float(name, value)
        n = len(targets)
        if isinstance(H, SharedGram) or (isinstance(H, Tensor) and H.ndim):
            n = H.shape[0]
        if targets.ndim not in (1, 2) or targets.shape[0] != n:
            raise InputError(
                f"targets must have shape (n,) or (n, k) with n = {n}, got {tuple(targets.shape)}"
            )
        require_nonempty("targets", targets)
        require_finite("targets", targets)
        self._operator = KernelOperator(H, targets)
        if isinstance(H_test, Tensor):
            if H_test.ndim != 2 or H_test.shape[1] != n:
                raise InputError(f"H_test must have shape (n_test, {n}), got {tuple(H_test.shape)}")
            require_finite("H_test", H_test)
        for name, value in (("targets", targets), ("H_test", H_test)):
            if isinstance(value, Tensor):
                require_dtype_and_device(name, value, self._operator.like, "H")
        self.targets = targets
        self.H_test = H_test

    @property
    def H(self) -> Tensor:
        """The matrix; InputError where only its products are known."""
        return self._operator.entries

    @property
    def _test_matrix(self) -> Tensor | None:
        """H_test as a matrix, gathered where processes share it; None where it is none."""
        if isinstance(self.H_test, SharedGram) and self.H_test.held:
            return self.H_test.entries
        return self.H_test if isinstance(self.H_test, Tensor) else None

    @property
    def state_shape(self) -> tuple[int, ...]:
        return tuple(self.targets.shape)

    @property
    def like(self) -> Tensor:
        return self._operator.like

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self._times(self.targets - y)

    def _times(self, u: Tensor) -> Tensor:
        """H u, for u of the shape of a state or an ensemble."""
        return self._operator.rows(u) if self.targets.ndim == 1 else self._operator.columns(u)

    def loss(self, y: Tensor) -> Tensor:
        """½‖u − y‖², summed over points and outputs."""
        return 0.5 * self.norm(y - self.targets).square()

    def norm(self, y: Tensor) -> Tensor:
        return torch.linalg.vector_norm(y, dim=(-1,) if self.targets.ndim == 1 else (-2, -1))

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        return self.inner(self.targets - y, velocity)

    def reference(self, y: Tensor) -> Tensor:
        g = slope(self.loss, y)
        if self.targets.ndim == 2:
            return -self._operator.columns(g)
        return -self._operator.columns(g.reshape(-1, y.shape[-1]).mT).mT.reshape(y.shape)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        return -self._times(v)

    def spectral_radius(self, y: Tensor) -> float | None:
        """λ_max, or an upper bound at most 10 % above it: max_i (|H|x)_i/x_i (Collatz and
        Wielandt) is tight where H has positive entries, with no n³ work."""
        return self._operator.largest_eigenvalue_bound()

    @property
    def rest(self) -> Tensor:
        return self.targets

    @property
    def parameter_flow(self) -> Flow:
        return self

    def lift(self, y: Tensor) -> Tensor:
        return y

    def project(self, parameters: Tensor) -> Tensor:
        return parameters

    # -- spectrum and closed form ---------------------------------------------------

    @property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues of H, ascending; those at round-off level are exactly zero."""
        return self._operator.eigh[0]

    def _modes(self, u: Tensor) -> Tensor:
        """Coefficients of u in H's eigenvectors, mode first: (..., n) or (..., n, k)."""
        V = self._operator.eigh[1]
        return u @ V if self.targets.ndim == 1 else V.mT @ u

    def _along_modes(self, factors: Tensor) -> Tensor:
        """(T, n) factors with the dimensions of a state's outputs appended."""
        return factors if self.targets.ndim == 1 else factors[..., None]

    def apply_modes(self, factors: Tensor, u: Tensor) -> Tensor:
        """V diag(factors) Vᵀu for factors (T, n), one for each eigenvalue, shape (T, *u.shape)."""
        V = self._operator.eigh[1]
        modes = self._along_modes(factors) * self._modes(u)
        return modes @ V.mT if self.targets.ndim == 1 else V @ modes

    def closed_form(self, y0: Tensor) -> str | None:
        """The eigendecomposition, where it is there or cheap (n ≤ 1,000); `exact` itself makes
        it for any n, where `krylov` is faster."""
        known = self._operator
        cheap = known.has_entries and len(self.targets) <= _DIRECT
        if y0.ndim != self.state_ndim or not (cheap or known.is_decomposed):
            return None
        return "eigendecomposition of H"

    def exact(self, ts: Tensor, y0: Tensor) -> Tensor:
        """u(t) = y + e^{−tH}(u₀ − y) at all times, shape (T, *y0.shape)."""
        self.check_state(y0)
        if y0.ndim != self.state_ndim:
            return super().exact(ts, y0)
        elapsed = torch.as_tensor(ts).to(y0)
        decay = flow_factors(self.eigenvalues, elapsed)[0]
        us = self.apply_modes(decay, y0 - self.targets).add_(self.targets)
        at_start = elapsed == 0
        return torch.where(self._along_modes(at_start[:, None]), y0, us) if at_start.any() else us

    def invariants(self, y: Tensor) -> Observables:
        """The residual in H's null space, which never moves, once H has been decomposed (no
        certificate is worth n³ operations that the solve did without)."""
        if not self._has_null_space:
            return {}
        null = self.eigenvalues == 0
        modes = self._modes(y - self.targets)
        return {
            "null_residual": modes[..., null] if self.targets.ndim == 1 else modes[..., null, :]
        }

    def invariant_scales(self, y: Tensor) -> Observables:
        if not self._has_null_space:
            return {}
        return {"null_residual": self.norm(y) + self.targets.norm()}

    @property
    def _has_null_space(self) -> bool:
        return self._operator.is_decomposed and float(self.eigenvalues[0]) == 0

    def observables(self, y: Tensor) -> Observables:
        """Loss, residual norm ‖u − y‖, and its size along each eigenvector (descending λ),
        these only where H's entries are known."""
        residual = y - self.targets
        if not self._operator.has_entries:
            return {"loss": self.loss(y), "residual_norm": self.norm(residual)}
        modes = self._modes(residual)
        sizes = modes.abs() if self.targets.ndim == 1 else modes.norm(dim=-1)
        return {
            "loss": self.loss(y),
            "residual_norm": self.norm(residual),
            "mode_residuals": sizes.flip(-1),
        }

    # -- what is learned, and when ----------------------------------------------------

    @property
    def stability_limit(self) -> float:
        """2/λ_max: descent is stable for smaller step sizes; infinite for H = 0."""
        top = float(self.eigenvalues[-1])
        return 2 / top if top > 0 else math.inf

    @property
    def learning_times(self) -> Tensor:
        """1/λ of every mode, ascending, (n,): when e^{−λt} is 1/e; infinite in the null space.
        With step size η mode i takes 1/(ηλ_i) epochs."""
        return 1 / self.eigenvalues.flip(0)

    def target_energy(self, u0: Tensor) -> Tensor:
        """Share of ‖y − u₀‖² along each eigenvector, in the order of `learning_times`, (n,): what
        is learned when. Where λ repeats only the sum over its eigenvectors has a meaning. All
        zero where u₀ = y."""
        self.check_state(u0)
        modes = self._modes(self.targets - u0)
        energy = modes.square() if self.targets.ndim == 1 else modes.square().sum(-1)
        total = energy.sum()
        return energy.flip(0) / torch.where(total > 0, total, torch.ones_like(total))

    def effective_dimension(self, ts: Tensor | Sequence[float]) -> Tensor:
        """Σ_i λ_i/(λ_i + 1/t), (T,): see `gflow.flows.gram.modes.effective_dimension`."""
        return effective_dimension(self.eigenvalues, require_times(ts).to(self.like))

    def residual_bound(self, ts: Tensor | Sequence[float], u0: Tensor) -> Tensor:
        """e^{−2λ_min t}‖u₀ − y‖², the bound on ‖u(t) − y‖² (Du et al. 2019), shape (T,)."""
        start = (u0 - self.targets).square().sum()
        return torch.exp(-2 * self.eigenvalues[0] * torch.as_tensor(ts).to(u0)) * start

    def bound_slack(self, ts: Tensor | Sequence[float], us: Tensor, u0: Tensor) -> Tensor:
        """How far ‖u(t) − y‖² is below `residual_bound`, (T,): never negative along the flow but
        for round-off, zero where the start lies along the slowest mode."""
        return self.residual_bound(ts, u0) - self.norm(us - self.targets).square()

    def bound_holds(self, ts: Tensor | Sequence[float], us: Tensor, u0: Tensor) -> Tensor:
        """Whether ‖u(t) − y‖² ≤ e^{−2λ_min t}‖u₀ − y‖² (1 + 1e-6) at each time, shape (T,)."""
        squares = self.norm(us - self.targets).square()
        bound = self.residual_bound(ts, u0)
        floor = torch.finfo(us.dtype).eps * (self.targets.square().sum() + bound[0])
        return squares <= bound * (1 + 1e-6) + floor
