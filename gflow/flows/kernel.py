r"""Kernel flow: what an ultra-wide network does in function space.

    u̇ = −H(u − y),   ℓ(u) = ½‖u − y‖²,   u(t) = y + e^{−tH}(u₀ − y)

with H symmetric positive semidefinite, perhaps singular (Jacot et al. 2018,
arXiv:1806.07572; Du et al. 2019, arXiv:1810.02054). Points not trained on:

    u_*(t) = u_*(0) − H_* · t φ₁(−tH) (u₀ − y),   φ₁(−z) = (1 − e^{−z})/z

(Lee et al. 2019, arXiv:1902.06720, eq. 10, written without H⁻¹), and the bound
‖u(t) − y‖² ≤ e^{−2λ_min t}‖u₀ − y‖².

Normalisation and time unit: the loss is a **sum** over points; t = k·step_size of
descent u_{k+1} = u_k − ηH(u_k − y), stable for η < 2/λ_max. With a mean over n points
(and the same H) time runs n times slower.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gflow import krylov
from gflow.errors import InputError
from gflow.flows.base import Flow, Observables, slope
from gflow.flows.kernel_operator import KernelOperator, Product
from gflow.losses import require_finite

_DIRECT = 1000  # up to this n the n³ of an eigendecomposition is no matter


def kernel_rhs(u: Tensor, H: Tensor, y: Tensor) -> Tensor:
    """u̇ = −H(u − y) for u (..., n) or (..., n, k), as targets y are (n,) or (n, k)."""
    if y.ndim == 1:
        return (y - u) @ H  # H is symmetric
    return H @ (y - u)


class KernelFlow(Flow):
    """Gradient flow of the outputs u under a fixed kernel.

    Parameters
    ----------
    H : Tensor of shape (n, n), or callable
        Symmetric positive semidefinite; it may be singular. A callable v ↦ H v, for v of
        shape (n,) or (n, k), serves where n × n numbers do not fit: ``krylov`` and the
        explicit methods need no more.
    targets : Tensor, shape (n,) or (n, k)
        y; k outputs share the kernel.
    H_test : Tensor of shape (n_test, n), or callable, optional
        Kernel between points not trained on (rows) and the training points; a callable
        maps v of shape (n,) or (n, k) to (n_test,) or (n_test, k).

    Raises
    ------
    InputError
        If H is not finite, square and symmetric, or shapes do not fit; when the
        eigenvalues are first needed, if one is negative beyond round-off, or if H is a
        callable.

    Notes
    -----
    The map from parameters to outputs is linear here, so discrete descent on the
    parameters is discrete descent on u: `parameter_flow` is this flow itself. One
    eigendecomposition, made when first needed, serves all times and starts. The residual in
    the null space, which never moves, is among the invariants once it has been made.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    >>> flow = gflow.KernelFlow(H, torch.tensor([1.0, 1.0], dtype=torch.float64))
    >>> u = flow.exact(torch.tensor([0.0, 1e9], dtype=torch.float64), torch.zeros(2).double())
    >>> u.tolist()
    [[0.0, 0.0], [1.0, 0.0]]
    """

    observable_dims: ClassVar = {"mode_residuals": ("mode",), "null_residual": ("null_mode",)}
    affine = True

    def __init__(
        self, H: Tensor | Product, targets: Tensor, H_test: Tensor | Product | None = None
    ):
        for name, value in (("H", H), ("targets", targets), ("H_test", H_test)):
            if value is None or (callable(value) and name != "targets"):
                continue
            if not (isinstance(value, Tensor) and value.is_floating_point()):
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise InputError(f"{name} must be a floating-point tensor, got {kind}")
        n = H.shape[0] if isinstance(H, Tensor) and H.ndim else len(targets)
        if targets.ndim not in (1, 2) or targets.shape[0] != n:
            raise InputError(
                f"targets must have shape (n,) or (n, k) with n = {n}, got {tuple(targets.shape)}"
            )
        require_finite("targets", targets)
        self._operator = KernelOperator(H, targets)
        if isinstance(H_test, Tensor):
            if H_test.ndim != 2 or H_test.shape[1] != n:
                raise InputError(f"H_test must have shape (n_test, {n}), got {tuple(H_test.shape)}")
            require_finite("H_test", H_test)
        self.targets = targets
        self.H_test = H_test

    @property
    def H(self) -> Tensor:
        """The matrix; InputError where only its products are known."""
        return self._operator.entries

    @property
    def state_shape(self) -> tuple[int, ...]:
        return tuple(self.targets.shape)

    @property
    def like(self) -> Tensor:
        given = self._operator.given
        return given if isinstance(given, Tensor) else self.targets

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
        return ((self.targets - y) * velocity).flatten(y.ndim - self.state_ndim).sum(-1)

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
        cheap = isinstance(known.given, Tensor) and len(known.given) <= _DIRECT
        if y0.ndim != self.state_ndim or not (cheap or known.is_decomposed):
            return None
        return "eigendecomposition of H"

    def exact(self, ts: Tensor, y0: Tensor) -> Tensor:
        """u(t) = y + e^{−tH}(u₀ − y) at all times, shape (T, *y0.shape)."""
        self.check_state(y0)
        if y0.ndim != self.state_ndim:
            return super().exact(ts, y0)
        elapsed = ts.to(y0)
        decay = torch.exp(elapsed[:, None] * -self.eigenvalues)
        us = self.apply_modes(decay, y0 - self.targets).add_(self.targets)
        at_start = elapsed == 0
        return torch.where(self._along_modes(at_start[:, None]), y0, us) if at_start.any() else us

    def exact_test(self, ts: Tensor, u0: Tensor, test_u0: Tensor | None = None) -> Tensor:
        """Outputs at the points not trained on, shape (T, n_test) or (T, n_test, k).

        Parameters
        ----------
        ts : Tensor, shape (T,)
        u0 : Tensor, shape (n,) or (n, k)
            Outputs at the training points at t = 0.
        test_u0 : Tensor, shape (n_test,) or (n_test, k), optional
            Outputs at the other points at t = 0; zero by default.

        Raises
        ------
        InputError
            If the flow was made without ``H_test``.
        """
        if not isinstance(self.H_test, Tensor):
            raise InputError(
                "exact_test needs the kernel to the test points: pass H_test, a tensor "
                "(krylov_test takes a callable too)"
            )
        self.check_state(u0)
        lam, V = self._operator.eigh
        t = ts.to(u0)[:, None]
        safe = torch.where(lam > 0, lam, torch.ones_like(lam))
        weight = torch.where(lam > 0, -torch.expm1(-t * lam) / safe, t)  # t φ₁(−tλ)
        modes = self._along_modes(weight) * self._modes(u0 - self.targets)
        to_test = self.H_test @ V
        # In the null space weight = t: round-off must not grow into an output.
        noise = 10 * len(lam) * torch.finfo(V.dtype).eps * self.H_test.norm(dim=1, keepdim=True)
        to_test = torch.where((lam == 0) & (to_test.abs() <= noise), 0.0, to_test)
        moved = modes @ to_test.mT if self.targets.ndim == 1 else to_test @ modes
        return -moved if test_u0 is None else test_u0 - moved

    def krylov_test(
        self, ts: Tensor, u0: Tensor, test_u0: Tensor | None = None, rtol: float = 1e-8
    ) -> Tensor:
        """As `exact_test` by Lanczos: no decomposition, and H and H_test may be callables.

        Parameters
        ----------
        ts : Tensor, shape (T,)
            Times t ≥ 0.
        u0, test_u0 : Tensor
            As for `exact_test`.
        rtol : float
            Error allowed, in the norm over all test outputs and relative to how far they
            have moved at the last time; bounded a posteriori (with ‖H_*‖_F where H_test is
            a tensor, an estimate where it is a callable).

        Examples
        --------
        >>> import torch, gflow
        >>> H = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
        >>> flow = gflow.KernelFlow(H, torch.ones(2).double(), H_test=lambda v: v[:1])
        >>> ts, u0 = torch.tensor([0.0, 1e3], dtype=torch.float64), torch.zeros(2).double()
        >>> flow.krylov_test(ts, u0).tolist()
        [[0.0], [0.5]]
        """
        if self.H_test is None:
            raise InputError("krylov_test needs the kernel to the test points: pass H_test")
        self.check_state(u0)
        H, H_test = self._operator, self.H_test
        norm = float(H_test.norm()) if isinstance(H_test, Tensor) else 0.0
        apply = (lambda v: H_test @ v) if isinstance(H_test, Tensor) else H_test

        def test(v: Tensor) -> Tensor:
            out = apply(v.reshape(-1, v.shape[-1]).mT).mT
            return out.reshape(*v.shape[:-1], out.shape[-1])

        columns = (u0 - self.targets).reshape(len(self.targets), -1).mT
        moved = krylov.outputs(H.rows, columns, ts, test, norm, rtol).mT
        moved = moved[..., 0] if self.targets.ndim == 1 else moved
        return (0.0 if test_u0 is None else test_u0) - moved

    def residual_bound(self, ts: Tensor, u0: Tensor) -> Tensor:
        """e^{−2λ_min t}‖u₀ − y‖², the bound on ‖u(t) − y‖² (Du et al. 2019), shape (T,)."""
        start = (u0 - self.targets).square().sum()
        return torch.exp(-2 * self.eigenvalues[0] * ts.to(u0)) * start

    def bound_holds(self, ts: Tensor, us: Tensor, u0: Tensor) -> Tensor:
        """Whether ‖u(t) − y‖² ≤ e^{−2λ_min t}‖u₀ − y‖² (1 + 1e-6) at each time, shape (T,)."""
        squares = self.norm(us - self.targets).square()
        bound = self.residual_bound(ts, u0)
        floor = torch.finfo(us.dtype).eps * (self.targets.square().sum() + bound[0])
        return squares <= bound * (1 + 1e-6) + floor

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
        if not isinstance(self._operator.given, Tensor):
            return {"loss": self.loss(y), "residual_norm": self.norm(residual)}
        modes = self._modes(residual)
        sizes = modes.abs() if self.targets.ndim == 1 else modes.norm(dim=-1)
        return {
            "loss": self.loss(y),
            "residual_norm": self.norm(residual),
            "mode_residuals": sizes.flip(-1),
        }

    @classmethod
    def example(cls) -> tuple[KernelFlow, Tensor]:
        i = torch.arange(5, dtype=torch.float64)
        J = torch.cos(i[:, None] * (1 + i[:4]))  # rank 4: H is singular
        return cls(J @ J.mT, torch.sin(i), H_test=torch.sin(i[:2, None] + i)), torch.zeros_like(i)
