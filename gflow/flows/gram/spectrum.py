r"""What the eigendecomposition H = V diag(λ) Vᵀ says about the flow u̇ = −H(u − y).

The closed form u(t) = y + V e^{−tλ} Vᵀ(u₀ − y); mode i is learned at t = 1/λ_i, and

    ‖u(t) − y‖² ≤ e^{−2λ_min t}‖u₀ − y‖²

(Du et al. 2019, arXiv:1810.02054). Time unit and normalisation: see `gflow.flows.kernel`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gflow.checks import require_float, require_times
from gflow.flows.base import Flow, Observables
from gflow.flows.gram.modes import (
    effective_dimension,
    flow_factors,
    spread,
)
from gflow.flows.gram.operator import KernelOperator
from gflow.linalg.columns import on_columns

_NEGLIGIBLE = 1e-2  # of √eps: an error that no tolerance of a closed form sees
_SMALL = 300  # largest n at which it costs less than a Krylov space of any size
_CHEAP = 1000  # largest n at which the n³ operations of an eigendecomposition cost little


class KernelSpectrum(Flow):
    """A flow u̇ = −H(u − y) in the eigenvectors of H: its closed form, learning times and bound.

    Attributes
    ----------
    targets : Tensor, shape (n,) or (n, k)
        The targets y.
    """

    targets: Tensor
    _operator: KernelOperator

    @property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues of H, ascending; those at round-off level are exactly zero."""
        return self._operator.eigh[0]

    def _coefficients(self, u: Tensor) -> Tensor:
        """Coefficients of u in H's eigenvectors, (..., n) or (..., n, k)."""
        V = self._operator.eigh[1]
        return u @ V if self.targets.ndim == 1 else on_columns(V.mT.__matmul__, u)

    def _for_outputs(self, factors: Tensor) -> Tensor:
        """Factors (T, n) with a dimension for the outputs appended where states have one."""
        return factors if self.targets.ndim == 1 else factors[..., None]

    def apply_modes(self, factors: Tensor, u: Tensor) -> Tensor:
        """Compute V diag(factors) Vᵀu, a function of H applied to u.

        Parameters
        ----------
        factors : Tensor, shape (T, n)
            One factor for each eigenvalue, ascending.
        u : Tensor, shape (n,) or (n, k)
            One state.

        Returns
        -------
        Tensor, shape (T, *u.shape)
            The product for each row of factors.
        """
        V = self._operator.eigh[1]
        modes = self._for_outputs(factors) * self._coefficients(u)
        return modes @ V.mT if self.targets.ndim == 1 else on_columns(V.__matmul__, modes)

    # -- closed form ------------------------------------------------------------------

    def closed_form(self, y0: Tensor) -> str | None:
        """Name the eigendecomposition where it exists already or is cheap (n ≤ 1,000).

        `exact` computes it for any n, where ``method="krylov"`` is faster.
        """
        operator = self._operator
        is_cheap = operator.has_entries and len(self.targets) <= _CHEAP
        available = self.affine and (is_cheap or operator.is_decomposed)
        if y0.ndim != self.state_ndim or not available:
            return None
        return "eigendecomposition of H"

    def closed_form_products(self, y0: Tensor) -> int:
        # Measured for 1 and 10 columns: a Krylov space of half as many products as points takes as
        # long as the decomposition and what follows from it, and of more columns by so much fewer.
        n, columns = len(self.targets), self.targets[0].numel()
        return 0 if self._operator.is_decomposed or n <= _SMALL else n // (columns + 1)

    def exact(self, ts: Tensor, y0: Tensor) -> Tensor:
        """Compute u(t) = y + e^{−tH}(u₀ − y) at all times.

        Parameters
        ----------
        ts : Tensor, shape (T,)
            Times t ≥ 0.
        y0 : Tensor, shape (n,) or (n, k)
            The outputs u₀ at t = 0.

        Returns
        -------
        Tensor, shape (T, *y0.shape)
            The states.

        Raises
        ------
        InputError
            If the start is no state of the flow or an ensemble, H is known by its products
            alone, or H is not positive semidefinite.
        """
        y0 = require_float("a state", y0)
        self.check_state(y0)
        if y0.ndim != self.state_ndim or not self.affine:
            return super().exact(ts, y0)
        times = require_times(ts).to(y0)
        decay = flow_factors(self.eigenvalues, times)[0]
        us = self.apply_modes(decay, y0 - self.targets).add_(self.targets)
        at_start = times == 0
        return torch.where(self._for_outputs(at_start[:, None]), y0, us) if at_start.any() else us

    def eigenvalue_bounds(self, last: float) -> tuple[Tensor, Tensor] | None:
        """Return the least and the largest values that eigenvalues may have, (n,) each.

        Parameters
        ----------
        last : float
            The last time.

        Returns
        -------
        (Tensor, Tensor) or None
            None where round-off of the eigenvalues cannot matter until then.
        """
        lam = self.eigenvalues
        noise = len(lam) * torch.finfo(lam.dtype).eps * float(lam[-1])
        if last * noise <= _NEGLIGIBLE * torch.finfo(lam.dtype).eps ** 0.5:
            return None
        errors = self._operator.eigenvalue_errors
        return (lam - errors).clamp_min(0.0), lam + errors

    def mode_error(self, changes: Tensor, u: Tensor) -> Tensor:
        """Compute ‖V diag(changes) Vᵀu‖ at each time, (T,), for changes (T, n) of the factors."""
        modes = self._for_outputs(changes) * self._coefficients(u)
        return modes.flatten(1).norm(dim=1)

    def round_off(self, ts: Tensor, y0: Tensor) -> float:
        """Estimate what round-off of λ does to `exact`, relative to the largest state.

        Parameters
        ----------
        ts : Tensor, shape (T,)
            Times t ≥ 0.
        y0 : Tensor, shape (n,) or (n, k)
            The outputs u₀ at t = 0.

        Returns
        -------
        float
        """
        bounds = self.eigenvalue_bounds(float(ts.max()))
        if bounds is None:
            return 0.0
        change, _ = spread(*(flow_factors(lam, ts.to(y0)) for lam in bounds))
        size = torch.maximum(self.norm(y0), self.norm(self.exact(ts[-1:], y0)[0]))
        tiny = torch.finfo(y0.dtype).tiny
        return float(self.mode_error(change, y0 - self.targets).max() / size.clamp_min(tiny))

    def invariants(self, y: Tensor) -> Observables:
        """The residual in H's null space, which never moves, once H has been decomposed.

        No certificate is worth n³ operations that the solve did without.
        """
        if not self._has_null_space:
            return {}
        null = self.eigenvalues == 0
        modes = self._coefficients(y - self.targets)
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

    # -- what is learned, and when ------------------------------------------------------

    @property
    def stability_limit(self) -> float:
        """2/λ_max: descent is stable for smaller step sizes; infinite for H = 0."""
        largest = float(self.eigenvalues[-1])
        return 2 / largest if largest > 0 else math.inf

    @property
    def learning_times(self) -> Tensor:
        """1/λ of every mode, ascending, (n,): when e^{−λt} is 1/e; infinite in the null space.

        With step size η mode i takes 1/(ηλ_i) epochs.
        """
        return 1 / self.eigenvalues.flip(0)

    def target_energy(self, u0: Tensor) -> Tensor:
        """Share of ‖y − u₀‖² along each eigenvector, (n,), in the order of `learning_times`.

        Where λ repeats only the sum over its eigenvectors has a meaning. All zero where u₀ = y.
        """
        u0 = require_float("a state", u0)
        self.check_state(u0)
        modes = self._coefficients(self.targets - u0)
        energy = modes.square() if self.targets.ndim == 1 else modes.square().sum(-1)
        total = energy.sum()
        return energy.flip(0) / torch.where(total > 0, total, torch.ones_like(total))

    def effective_dimension(self, ts: Tensor | Sequence[float]) -> Tensor:
        """Σ_i λ_i/(λ_i + 1/t), (T,): see `gflow.flows.gram.modes.effective_dimension`."""
        return effective_dimension(self.eigenvalues, require_times(ts).to(self.reference_tensor))

    def residual_bound(self, ts: Tensor | Sequence[float], u0: Tensor) -> Tensor:
        """Compute e^{−2λ_min t}‖u₀ − y‖², the bound on ‖u(t) − y‖² (Du et al. 2019).

        Parameters
        ----------
        ts : Tensor or sequence of float, shape (T,)
            Times.
        u0 : Tensor, shape (n,) or (n, k)
            Outputs at t = 0.

        Returns
        -------
        Tensor, shape (T,)
            The bound at each time.
        """
        u0 = require_float("u0", u0)
        start = (u0 - self.targets).square().sum()
        return torch.exp(-2 * self.eigenvalues[0] * require_times(ts).to(u0)) * start

    def bound_slack(self, ts: Tensor | Sequence[float], us: Tensor, u0: Tensor) -> Tensor:
        """Compute `residual_bound` minus ‖u(t) − y‖².

        Along the flow it is never negative but for round-off, and zero where the start lies
        along the slowest mode.

        Parameters
        ----------
        ts : Tensor or sequence of float, shape (T,)
            Times.
        us : Tensor, shape (T, n) or (T, n, k)
            Outputs at these times.
        u0 : Tensor, shape (n,) or (n, k)
            Outputs at t = 0.

        Returns
        -------
        Tensor, shape (T,)
            The difference at each time.
        """
        return self.residual_bound(ts, u0) - self.norm(us - self.targets).square()

    def bound_holds(self, ts: Tensor | Sequence[float], us: Tensor, u0: Tensor) -> Tensor:
        """Whether ‖u(t) − y‖² ≤ e^{−2λ_min t}‖u₀ − y‖² (1 + 1e-6), up to round-off.

        Parameters
        ----------
        ts : Tensor or sequence of float, shape (T,)
            Times.
        us : Tensor, shape (T, n) or (T, n, k)
            Outputs at these times.
        u0 : Tensor, shape (n,) or (n, k)
            Outputs at t = 0.

        Returns
        -------
        Tensor of bool, shape (T,)
            Whether the bound holds at each time.
        """
        squares = self.norm(us - self.targets).square()
        bound = self.residual_bound(ts, u0)
        floor = torch.finfo(us.dtype).eps * (self.targets.square().sum() + bound[0])
        return squares <= bound * (1 + 1e-6) + floor
