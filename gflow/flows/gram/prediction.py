r"""Predictions of a kernel flow, at the training points and at others, at any times or steps.

    u(t)   = y + e^{−tH}(u₀ − y)
    u_*(t) = u_*(0) − H_* · t φ₁(−tH)(u₀ − y)
    u_k    = y + (I − ηH)^k(u₀ − y)
    u_{*,k} = u_{*,0} − H_* Σ_{j<k} η(I − ηH)^j(u₀ − y)

(Lee et al. 2019, arXiv:1902.06720, eq. 10, written without H⁻¹), by the eigendecomposition of H or,
for the flow, by Krylov spaces, which take products with H and H_* alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from gflow.checks import (
    require_bool,
    require_dtype_and_device,
    require_finite,
    require_float,
    require_positive,
    require_single_start,
    require_times,
    shown,
)
from gflow.errors import InputError
from gflow.flows.gram.krylov import krylov_outputs, krylov_test_outputs
from gflow.flows.gram.modes import (
    descent_factors,
    flow_factors,
    require_steps,
    spread,
)
from gflow.flows.gram.operator import Product
from gflow.flows.gram.spectrum import KernelSpectrum
from gflow.flows.gram.split_by_rows import SharedGram
from gflow.linalg.columns import on_columns
from gflow.linalg.exponential_action import warn_of_round_off

Factors: TypeAlias = tuple[Tensor, Tensor]


class Prediction(NamedTuple):
    """Outputs at the training points and at the test points.

    Attributes
    ----------
    train : Tensor, shape (T, n) or (T, n, k)
        Outputs at the training points.
    test : Tensor or None, shape (T, n_test) or (T, n_test, k)
        Outputs at the points not trained on; None where the flow has no ``H_test``.
    """

    train: Tensor
    test: Tensor | None


class KernelPredictor(KernelSpectrum):
    """A kernel flow that predicts outputs at points not trained on, by their kernel H_test.

    Attributes
    ----------
    H_test : Tensor of shape (n_test, n), callable, or None
        Kernel between test and training points, or its product v ↦ H_* v.
    """

    H_test: Tensor | Product | None

    def predict(
        self,
        ts: Tensor | Sequence[float],
        u0: Tensor,
        test_u0: Tensor | None = None,
        *,
        method: Literal["auto", "exact", "krylov"] = "auto",
        rtol: float = 1e-8,
        train: bool = True,
    ) -> Prediction:
        """Compute outputs at the training and the test points at any times.

        Parameters
        ----------
        ts : Tensor or sequence of float, shape (T,)
            Times t ≥ 0, in any order.
        u0 : Tensor, shape (n,) or (n, k)
            Outputs at the training points at t = 0.
        test_u0 : Tensor, shape (n_test,) or (n_test, k), optional
            Outputs at the test points at t = 0; zero by default.
        method : str
            ``exact``: one eigendecomposition for all times. ``krylov``: products with H and
            H_test alone, which may be callables. ``auto``: ``exact`` where the decomposition
            exists already or is cheap.
        rtol : float
            Error that ``krylov`` allows. At training points: of each output column at every
            time, relative to the larger of ‖u(0)‖ and ‖u(T)‖. At test points: in the norm over
            all test outputs, relative to how far they have moved at the last time; bounded a
            posteriori (with ‖H_*‖_F where H_test is a tensor, an estimate where it is a
            callable).
        train : bool
            Whether to compute outputs at the training points, most of the work where there are
            fewer test points.

        Returns
        -------
        Prediction
            ``train``, (T, *u0.shape), or (0, *u0.shape) where they are not computed, and
            ``test``, (T, n_test) or (T, n_test, k), or None where the flow has no ``H_test``.

        Raises
        ------
        InputError
            If an argument is out of range, H is not positive semidefinite, or ``exact`` is
            chosen where H or H_test is a callable.

        Warns
        -----
        RuntimeWarning
            If modes with eigenvalues near round-off of the largest decide about the outputs.

        Examples
        --------
        >>> import torch, gflow
        >>> H = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
        >>> flow = gflow.KernelFlow(H, torch.ones(2).double(), H_test=H[:1])
        >>> [u.tolist() for u in flow.predict([1e3], torch.zeros(2).double())]
        [[[1.0, 0.0]], [[1.0]]]
        """
        times = require_times(ts)
        u0, test_u0 = self._checked_starts(u0, test_u0)
        rtol, train = require_positive("rtol", rtol), require_bool("train", train)
        if not isinstance(method, str) or method not in ("auto", "exact", "krylov"):
            raise InputError(f"method must be auto, exact or krylov, got {shown(method)}")
        has_test_entries = self.H_test is None or self._test_matrix is not None
        is_cheap = has_test_entries and self.closed_form(u0) is not None
        if method == "exact" or (method == "auto" and is_cheap):
            weights = flow_factors(self.eigenvalues, times.to(u0))[1]
            bounds = self.eigenvalue_bounds(float(times.max())) if len(times) else None
            if bounds is not None:
                low, high = (flow_factors(lam, times.to(u0)) for lam in bounds)
                self._warn_of_round_off(u0, low, high)
            outputs = self.exact(times, u0) if train else u0.new_empty(0, *u0.shape)
            return Prediction(outputs, self._test_outputs(weights, u0, test_u0))
        test = None
        if self.H_test is not None:
            moved = krylov_test_outputs(self._operator, self.H_test, times, u0 - self.targets, rtol)
            test = (0.0 if test_u0 is None else test_u0) - moved
        if not train:
            return Prediction(u0.new_empty(0, *u0.shape), test)
        outputs = krylov_outputs(self._operator, times, u0, self.targets, rtol)
        at_start = self._for_outputs(times.to(outputs)[:, None]) == 0
        return Prediction(torch.where(at_start, u0, outputs), test)

    def exact_descent(
        self,
        steps: Tensor | Sequence[int],
        u0: Tensor,
        step_size: float,
        test_u0: Tensor | None = None,
    ) -> Prediction:
        """Compute descent u_k = y + (I − ηH)^k(u₀ − y) at any steps, without taking them.

        Step k is the flow's time t = kη.

        Parameters
        ----------
        steps : Tensor or sequence of int, shape (S,)
            Step counts k ≥ 0, in any order and of any size.
        u0 : Tensor, shape (n,) or (n, k)
            Outputs at the training points at step 0.
        step_size : float
            Step size η, on the sum ½‖u − y‖² (a mean over n points takes nη for the same path).
        test_u0 : Tensor, shape (n_test,) or (n_test, k), optional
            Outputs at the test points at step 0; zero by default.

        Returns
        -------
        Prediction
            ``train``, (S, *u0.shape), and ``test``, (S, n_test) or (S, n_test, k), or None
            where the flow has no ``H_test``.

        Raises
        ------
        InputError
            If H is a callable (`gflow.descend` takes its steps), or an unstable descent leaves
            the range of numbers.

        Warns
        -----
        RuntimeWarning
            If η ≥ 2/λ_max, where descent is unstable, with the value; or if modes with eigenvalues
            near round-off of the largest decide about the outputs.

        Examples
        --------
        >>> import torch, gflow
        >>> flow = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
        >>> flow.exact_descent([0, 1, 2], torch.zeros(1).double(), 0.5).train.tolist()
        [[0.0], [0.5], [0.75]]
        """
        counts = require_steps(steps, step_size).to(self.targets.device)
        u0, test_u0 = self._checked_starts(u0, test_u0)
        step_size = float(step_size)
        limit = self.stability_limit
        power, weights = descent_factors(self.eigenvalues, step_size, counts)
        if step_size >= limit:
            excess = f"step_size {step_size:g} is not below 2/λ_max = {limit:g}"
            if not bool(torch.isfinite(power).all() & torch.isfinite(weights).all()):
                raise InputError(
                    f"{excess}, and descent overflows by step {int(counts.max())}; "
                    "take smaller or fewer steps"
                )
            warnings.warn(f"{excess}: descent is unstable", RuntimeWarning, stacklevel=2)
        self._warn_of_descent(counts, u0, step_size)
        train = self._descent_states(power, counts, u0)
        return Prediction(train, self._test_outputs(weights, u0, test_u0))

    def closed_descent(
        self, y0: Tensor, step_size: float, products: int
    ) -> Callable[[Tensor], Tensor] | None:
        operator, n = self._operator, len(self.targets)
        if y0.ndim != self.state_ndim or not operator.has_entries:
            return None
        # An eigendecomposition takes the time of n to 2n products with one column.
        if not operator.is_decomposed and products * y0[0].numel() < n:
            return None
        lam = self.eigenvalues

        def states(steps: Tensor) -> Tensor:
            counts = steps.to(y0.device)
            power, _ = descent_factors(lam, step_size, counts)
            self._warn_of_descent(counts, y0, step_size)
            return self._descent_states(power, counts, y0)

        return states

    def _descent_states(self, power: Tensor, counts: Tensor, u0: Tensor) -> Tensor:
        """Descent at step counts (S,), from powers (1 − ηλ)^k of shape (S, n)."""
        us = self.apply_modes(power, u0 - self.targets).add_(self.targets)
        at_start = self._for_outputs(counts[:, None]) == 0
        return torch.where(at_start, u0, us)

    def _warn_of_descent(self, counts: Tensor, u0: Tensor, step_size: float) -> None:
        """Warn where round-off of the eigenvalues changes a stable descent at step counts."""
        if not len(counts) or step_size >= self.stability_limit:
            return
        bounds = self.eigenvalue_bounds(step_size * float(counts.max()))
        if bounds is not None:
            low, high = (descent_factors(lam, step_size, counts) for lam in bounds)
            self._warn_of_round_off(u0, low, high)

    def _warn_of_round_off(self, u0: Tensor, low: Factors, high: Factors) -> None:
        """Warn where round-off of the eigenvalues changes the outputs.

        Parameters
        ----------
        u0 : Tensor
            The start.
        low, high : (Tensor, Tensor)
            Factors of the least and the largest values that the eigenvalues may have.
        """
        change, _ = spread(low, high)
        residual = u0 - self.targets
        error = float(self.mode_error(change, residual).max())
        size = float(torch.maximum(self.norm(u0), self.norm(self.targets)))
        warn_of_round_off(error, size, u0.dtype, stacklevel=4)

    def _test_outputs(self, weights: Tensor, u0: Tensor, test_u0: Tensor | None) -> Tensor | None:
        """u_*(0) − H_* V diag(w) Vᵀ(u₀ − y) for weights w of shape (T, n)."""
        if self.H_test is None:
            return None
        H_test = self._test_matrix
        if H_test is None:
            raise InputError(
                "exact predictions need the entries of H_test, got its product v ↦ H_test v; pass "
                "H_test as a tensor, or use predict with method='krylov'"
            )
        lam, V = self._operator.eigh
        modes = self._for_outputs(weights) * self._coefficients(u0 - self.targets)
        to_test = H_test @ V
        # In the null space the weight is t or kη: round-off must not grow into an output.
        noise = 10 * len(lam) * torch.finfo(V.dtype).eps * H_test.norm(dim=1, keepdim=True)
        to_test = torch.where((lam == 0) & (to_test.abs() <= noise), 0.0, to_test)
        by_rows = self.targets.ndim == 1
        moved = modes @ to_test.mT if by_rows else on_columns(to_test.__matmul__, modes)
        return (0.0 if test_u0 is None else test_u0) - moved

    @property
    def _test_matrix(self) -> Tensor | None:
        """H_test as a matrix, gathered where processes share it; None where it is a product."""
        if isinstance(self.H_test, SharedGram) and self.H_test.has_entries:
            return self.H_test.entries
        return self.H_test if isinstance(self.H_test, Tensor) else None

    def _checked_starts(self, u0: Tensor, test_u0: Tensor | None) -> tuple[Tensor, Tensor | None]:
        u0 = require_float("u0", u0).detach()
        self.check_state(u0)
        require_single_start("a prediction", u0, self.state_ndim)
        if test_u0 is None:
            return u0, None
        test_u0 = require_float("test_u0", test_u0).detach()
        if self.H_test is None:
            raise InputError("test_u0 needs the kernel to the test points: pass H_test")
        H_test = self.H_test
        n = H_test.shape[0] if isinstance(H_test, Tensor | SharedGram) else len(test_u0)
        if test_u0.shape != (n, *u0.shape[1:]):
            raise InputError(
                f"test_u0 must have shape {(n, *u0.shape[1:])}, got {tuple(test_u0.shape)}; give "
                "one row for each test point"
            )
        require_dtype_and_device("test_u0", test_u0, u0, "u0")
        require_finite("test_u0", test_u0)
        return u0, test_u0
