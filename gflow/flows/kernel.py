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

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from gflow.checks import require_finite, require_single_start
from gflow.errors import InputError
from gflow.flows.gram.modes import (
    descent_factors,
    flow_factors,
    require_steps,
    require_times,
)
from gflow.flows.gram.split_by_rows import SharedGram, shared_gram
from gflow.flows.gram.tiles import MEMORY, KernelFunction, gram
from gflow.flows.kernel_dynamics import KernelDynamics
from gflow.linalg import exponential as krylov

if TYPE_CHECKING:
    from gflow.distributed import Team

_FEW = 2**20  # numbers in a basis that are no matter


class Prediction(NamedTuple):
    """Outputs at the training points, (T, n) or (T, n, k), and at those not trained on,
    (T, n_test) or (T, n_test, k); None where the flow has no ``H_test``."""

    train: Tensor
    test: Tensor | None


def kernel_rhs(u: Tensor, H: Tensor, y: Tensor) -> Tensor:
    """u̇ = −H(u − y) for u (..., n) or (..., n, k), as targets y are (n,) or (n, k)."""
    if y.ndim == 1:
        return (y - u) @ H  # H is symmetric
    return H @ (y - u)


class KernelFlow(KernelDynamics):
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

    @classmethod
    def from_kernel(
        cls,
        kernel: KernelFunction,
        x: Tensor,
        targets: Tensor,
        x_test: Tensor | None = None,
        *,
        max_memory: int = MEMORY,
        team: Team | None = None,
    ) -> KernelFlow:
        """The flow of a kernel function on points.

        Parameters
        ----------
        kernel : callable
            ``kernel(x1, x2=None)`` → Tensor (n1, n2), such as `two_layer_relu_gram`,
            ``functools.partial(ntk, depth=3)`` or ``functools.partial(empirical_ntk, module)``.
        x : Tensor, shape (n, ...)
        targets : Tensor, shape (n,) or (n, k)
        x_test : Tensor, shape (n_test, ...), optional
            Points not trained on.
        max_memory : int
            Bytes. Where the matrices and the work on a tile fit they are made, once. Else every
            product makes the kernel anew, tile by tile: for ``krylov``, which needs few.
        team : Team, optional
            Split the rows of both matrices across these processes, each of which makes the flow
            with all points and has max_memory for its own rows. What needs a decomposition
            (``exact``, ``eigenvalues``) gathers H in the first: see `gflow.distributed`.

        Examples
        --------
        >>> import torch, gflow
        >>> from gflow.kernels import two_layer_relu_gram
        >>> x, y = torch.eye(3).double(), torch.ones(3).double()
        >>> flow = gflow.KernelFlow.from_kernel(two_layer_relu_gram, x, y, x_test=x[:1])
        >>> flow.predict([0.0, 1e3], torch.zeros(3).double()).test.round(decimals=9).tolist()
        [[0.0], [1.0]]
        """
        if team is None or team.size == 1:
            H, H_test = gram(kernel, x, x_test, max_memory)
            return cls(H, targets, H_test)
        shared, shared_test = shared_gram(team, kernel, x, targets, x_test, max_memory)
        with team.together():
            return cls(shared, targets, shared_test)

    # -- predictions ----------------------------------------------------------------

    def predict(
        self,
        ts: Tensor | Sequence[float],
        u0: Tensor,
        test_u0: Tensor | None = None,
        *,
        method: Literal["auto", "exact", "krylov"] = "auto",
        rtol: float = 1e-8,
    ) -> Prediction:
        """Outputs at the training and the test points at any times, in one call.

        Parameters
        ----------
        ts : Tensor or sequence, shape (T,)
            Times t ≥ 0, in any order.
        u0 : Tensor, shape (n,) or (n, k)
            Outputs at the training points at t = 0.
        test_u0 : Tensor, shape (n_test,) or (n_test, k), optional
            Outputs at the other points at t = 0; zero by default.
        method : str
            ``exact``: one eigendecomposition for all times. ``krylov``: none, H by its products.
            ``auto``: the former where it is there or cheap.
        rtol : float
            Of ``krylov``: the error of each output column at every time, relative to the larger
            of ‖u(0)‖ and ‖u(T)‖; at test points as in `krylov_test`.

        Examples
        --------
        >>> import torch, gflow
        >>> H = torch.tensor([[2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
        >>> flow = gflow.KernelFlow(H, torch.ones(2).double(), H_test=H[:1])
        >>> [u.tolist() for u in flow.predict([1e3], torch.zeros(2).double())]
        [[[1.0, 0.0]], [[1.0]]]
        """
        times = require_times(ts)
        self._check_starts(u0, test_u0)
        if method not in ("auto", "exact", "krylov"):
            raise InputError(f"method must be auto, exact or krylov, got {method!r}")
        known = self.H_test is None or self._test_matrix is not None
        if method == "exact" or (method == "auto" and known and self.closed_form(u0) is not None):
            train = self.exact(times, u0)
            return Prediction(
                train, None if self.H_test is None else self.exact_test(times, u0, test_u0)
            )
        test = None if self.H_test is None else self.krylov_test(times, u0, test_u0, rtol)
        columns, y = self._columns(u0 - self.targets), self._columns(self.targets)
        parts = zip(self._groups(columns), self._groups(y), strict=True)
        left = [krylov.decayed(self._operator.rows, r, times, rest, rtol) for r, rest in parts]
        train = self._by_point(left).add_(self.targets)
        return Prediction(
            torch.where(self._along_modes(times.to(y)[:, None]) == 0, u0, train), test
        )

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
        self._check_starts(u0, test_u0)
        times = torch.as_tensor(ts).to(u0)
        return self._moved_test(lambda lam: flow_factors(lam, times)[1], u0, test_u0)

    def _moved_test(
        self, weights: Callable[[Tensor], Tensor], u0: Tensor, test_u0: Tensor | None
    ) -> Tensor:
        """u_*(0) − H_* V diag(w) Vᵀ(u₀ − y) for weights λ ↦ w of shape (T, n)."""
        H_test = self._test_matrix
        if H_test is None:
            raise InputError(
                "exact_test needs the kernel to the test points: pass H_test, a tensor "
                "(krylov_test takes a callable too)"
            )
        lam, V = self._operator.eigh
        modes = self._along_modes(weights(lam)) * self._modes(u0 - self.targets)
        to_test = H_test @ V
        # In the null space the weight is t or kη: round-off must not grow into an output.
        noise = 10 * len(lam) * torch.finfo(V.dtype).eps * H_test.norm(dim=1, keepdim=True)
        to_test = torch.where((lam == 0) & (to_test.abs() <= noise), 0.0, to_test)
        moved = modes @ to_test.mT if self.targets.ndim == 1 else to_test @ modes
        return (0.0 if test_u0 is None else test_u0) - moved

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
        self._check_starts(u0, test_u0)
        H, H_test = self._operator, self.H_test
        norm = float(H_test.norm()) if isinstance(H_test, Tensor) else 0.0
        apply = (lambda v: H_test @ v) if isinstance(H_test, Tensor) else H_test

        def test(v: Tensor) -> Tensor:
            out = apply(v.reshape(-1, v.shape[-1]).mT).mT
            return out.reshape(*v.shape[:-1], out.shape[-1])

        columns = self._columns(u0 - self.targets)
        times = torch.as_tensor(ts)
        moved = [krylov.outputs(H.rows, r, times, test, norm, rtol) for r in self._groups(columns)]
        return (0.0 if test_u0 is None else test_u0) - self._by_point(moved)

    def exact_descent(
        self,
        steps: Tensor | Sequence[int],
        u0: Tensor,
        step_size: float,
        test_u0: Tensor | None = None,
    ) -> Prediction:
        """Descent u_k = y + (I − ηH)^k(u₀ − y) at any steps, without taking them.

        Step k is the flow's time t = kη. At points not trained on it is
        u_{*,k} = u_{*,0} − H_* Σ_{j<k} η(I − ηH)^j (u₀ − y).

        Parameters
        ----------
        steps : Tensor or sequence of int, shape (S,)
            k ≥ 0, in any order and of any size.
        u0, test_u0 : Tensor
            As for `predict`.
        step_size : float
            η, on the sum ½‖u − y‖² (a mean over n points takes nη for the same path).

        Warns
        -----
        RuntimeWarning
            If η ≥ 2/λ_max, where descent is unstable, with the value.

        Raises
        ------
        InputError
            If H is a callable (`gflow.descend` takes its steps), or an unstable descent leaves
            the range of numbers.

        Examples
        --------
        >>> import torch, gflow
        >>> flow = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
        >>> flow.exact_descent([0, 1, 2], torch.zeros(1).double(), 0.5).train.tolist()
        [[0.0], [0.5], [0.75]]
        """
        counts = require_steps(steps, step_size).to(self.like.device)
        self._check_starts(u0, test_u0)
        limit = self.stability_limit
        power, weight = descent_factors(self.eigenvalues, step_size, counts)
        if step_size >= limit:
            beyond = f"step_size {step_size:g} is not below 2/λ_max = {limit:g}"
            if not bool(torch.isfinite(power).all() & torch.isfinite(weight).all()):
                raise InputError(f"{beyond}, and descent overflows by step {int(counts.max())}")
            warnings.warn(f"{beyond}: descent is unstable", RuntimeWarning, stacklevel=2)
        train = self.apply_modes(power, u0 - self.targets) + self.targets
        started = self._along_modes(counts[:, None]) == 0
        test = None if self.H_test is None else self._moved_test(lambda lam: weight, u0, test_u0)
        return Prediction(torch.where(started, u0, train), test)

    def _check_starts(self, u0: Tensor, test_u0: Tensor | None) -> None:
        self.check_state(u0)
        require_single_start("a prediction", u0, self.state_ndim)
        if test_u0 is None:
            return
        if self.H_test is None:
            raise InputError("test_u0 needs the kernel to the test points: pass H_test")
        H_test = self.H_test
        n = H_test.shape[0] if isinstance(H_test, Tensor | SharedGram) else len(test_u0)
        if test_u0.shape != (n, *u0.shape[1:]) or test_u0.dtype != u0.dtype:
            raise InputError(
                f"test_u0 must have shape {(n, *u0.shape[1:])} and dtype {u0.dtype}, got "
                f"{tuple(test_u0.shape)} of {test_u0.dtype}"
            )
        require_finite("test_u0", test_u0)

    def _columns(self, u: Tensor) -> Tensor:
        """A state's outputs, one a row: (k, n)."""
        return u.reshape(len(u), -1).mT

    def _groups(self, columns: Tensor) -> tuple[Tensor, ...]:
        """Outputs whose Krylov spaces are made at once. Beside a matrix H their bases, of some
        250 vectors, stay below n × n numbers; a product that makes H anew is made for all."""
        if not self._operator.has_entries:
            return (columns,)
        n = columns.shape[1]
        return columns.split(max(1, n // 512, _FEW // (256 * n)))

    def _by_point(self, parts: list[Tensor]) -> Tensor:
        """Groups of (T, outputs, points) as (T, points) or (T, points, k)."""
        moved = torch.cat(parts, dim=1)
        return moved[:, 0] if self.targets.ndim == 1 else moved.mT

    @classmethod
    def example(cls) -> tuple[KernelFlow, Tensor]:
        i = torch.arange(5, dtype=torch.float64)
        J = torch.cos(i[:, None] * (1 + i[:4]))  # rank 4: H is singular
        return cls(J @ J.mT, torch.sin(i), H_test=torch.sin(i[:2, None] + i)), torch.zeros_like(i)
