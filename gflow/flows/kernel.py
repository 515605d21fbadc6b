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

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from gflow.checks import (
    require_callable,
    require_count,
    require_dtype_and_device,
    require_finite,
    require_float,
    require_nonempty,
    require_tensor,
    shown,
)
from gflow.errors import InputError
from gflow.flows.arguments import require_team
from gflow.flows.array_form import ArrayForm, squared_speed
from gflow.flows.base import Flow, Observables, gradient_of
from gflow.flows.gram.operator import KernelOperator, Product
from gflow.flows.gram.prediction import KernelPredictor, Prediction
from gflow.flows.gram.split_by_rows import SharedGram, shared_gram
from gflow.flows.gram.tiles import MEMORY, KernelFunction, gram
from gflow.linalg.arrays import shared_array

if TYPE_CHECKING:
    from gflow.distributed import Team

__all__ = ["KernelFlow", "Prediction", "kernel_rhs"]


def kernel_rhs(u: Tensor, H: Tensor, y: Tensor) -> Tensor:
    """Compute u̇ = −H(u − y).

    Parameters
    ----------
    u : Tensor, shape (..., n) or (..., n, k)
        Outputs.
    H : Tensor, shape (n, n)
        Symmetric kernel.
    y : Tensor, shape (n,) or (n, k)
        Targets; their dimensions decide which of the two shapes u has.

    Returns
    -------
    Tensor
        The velocity, of the shape of u.

    Examples
    --------
    >>> import torch
    >>> kernel_rhs(torch.zeros(2), 2 * torch.eye(2), torch.ones(2)).tolist()
    [2.0, 2.0]
    """
    if y.ndim == 1:
        return (y - u) @ H  # H is symmetric
    return H @ (y - u)


def _matrix_or_product(name: str, kernel: object) -> Any:
    """Return a kernel as a tensor or as a callable; InputError unless it is either."""
    if isinstance(kernel, type | Flow | torch.nn.Module):
        raise InputError(
            f"{name} must be a matrix or its product v ↦ {name} v, got {shown(kernel)}; for the "
            "kernel of a module use gflow.kernels.empirical_ntk"
        )
    return kernel if callable(kernel) else require_float(name, kernel)


class KernelFlow(KernelPredictor):
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

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__call__" in vars(cls):  # another velocity than −H(u − y): no closed form of this one
            cls.affine = False

    def __init__(
        self, H: Tensor | Product, targets: Tensor, H_test: Tensor | Product | None = None
    ):
        targets = require_float("targets", targets)
        H = _matrix_or_product("H", H)
        H_test = None if H_test is None else _matrix_or_product("H_test", H_test)
        n = len(targets) if targets.ndim else 0
        if isinstance(H, SharedGram) or (isinstance(H, Tensor) and H.ndim):
            n = H.shape[0]
        if targets.ndim not in (1, 2) or targets.shape[0] != n:
            raise InputError(
                f"targets must have shape (n,) or (n, k) with n = {n}, got "
                f"{tuple(targets.shape)}; give one row for each row of H"
            )
        require_nonempty("targets", targets)
        require_finite("targets", targets)
        self._operator = KernelOperator(H, targets)
        if isinstance(H_test, Tensor):
            if H_test.ndim != 2 or H_test.shape[1] != n:
                raise InputError(
                    f"H_test must have shape (n_test, {n}), got {tuple(H_test.shape)}; "
                    "its rows are the test points, its columns those of H"
                )
            require_finite("H_test", H_test)
            require_dtype_and_device("H_test", H_test, self.reference_tensor, "H")
        require_dtype_and_device("targets", targets, self.reference_tensor, "H")
        self.targets = targets
        self.H_test = H_test

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
        """Build the flow of a kernel function on points.

        Parameters
        ----------
        kernel : callable
            ``kernel(x1, x2=None)`` → Tensor (n1, n2), such as `two_layer_relu_gram`,
            ``functools.partial(ntk, depth=3)`` or ``functools.partial(empirical_ntk, module)``.
        x : Tensor, shape (n, ...)
            Training points.
        targets : Tensor, shape (n,) or (n, k)
            Their targets.
        x_test : Tensor, shape (n_test, ...), optional
            Points not trained on.
        max_memory : int
            Bytes. Where the matrices and the work on a tile fit they are computed once. Else
            every product computes the kernel again, tile by tile: for ``krylov``, which needs
            few products.
        team : Team, optional
            Split the rows of both matrices across these processes, each of which builds the flow
            with all points and has max_memory for its own rows. What needs a decomposition
            (``exact``, ``eigenvalues``) gathers H on rank 0: see `gflow.distributed`.

        Returns
        -------
        KernelFlow
            The flow with kernels K(x, x) and K(x_test, x).

        Raises
        ------
        InputError
            If the points or the kernel's values do not serve, or max_memory holds no tile.

        Examples
        --------
        >>> import torch, gflow
        >>> from gflow.kernels import two_layer_relu_gram
        >>> x, y = torch.eye(3).double(), torch.ones(3).double()
        >>> flow = gflow.KernelFlow.from_kernel(two_layer_relu_gram, x, y, x_test=x[:1])
        >>> flow.predict([0.0, 1e3], torch.zeros(3).double()).test.round(decimals=9).tolist()
        [[0.0], [1.0]]
        """
        require_callable("kernel", kernel, "kernel(x1, x2)")
        max_memory = require_count("max_memory", max_memory)
        require_team(team)
        x = require_tensor("x", x)
        x_test = None if x_test is None else require_tensor("x_test", x_test)
        if team is None or team.size == 1:
            H, H_test = gram(kernel, x, x_test, max_memory)
            return cls(H, targets, H_test)
        shared, shared_test = shared_gram(team, kernel, x, targets, x_test, max_memory)
        with team.collective():
            return cls(shared, targets, shared_test)

    @property
    def H(self) -> Tensor:
        """The matrix; InputError where only its products are known."""
        return self._operator.entries

    @property
    def state_shape(self) -> tuple[int, ...]:
        return tuple(self.targets.shape)

    @property
    def reference_tensor(self) -> Tensor:
        return self._operator.reference_tensor

    # -- right-hand side --------------------------------------------------------------

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self._product(self.targets - y)

    def _product(self, u: Tensor) -> Tensor:
        """H u, for u of the shape of a state or an ensemble."""
        return self._operator.rows(u) if self.targets.ndim == 1 else self._operator.columns(u)

    def loss(self, y: Tensor) -> Tensor:
        """½‖u − y‖², summed over points and outputs."""
        return 0.5 * self.norm(y - self.targets).square()

    def array_form(self) -> ArrayForm | None:
        given = self._operator.given
        H = shared_array(given) if isinstance(given, Tensor) else None
        if H is None or type(self) is not KernelFlow:
            return None
        targets: np.ndarray = self.targets.detach().numpy()

        def velocity(u: np.ndarray) -> np.ndarray:
            return H @ (targets - u)

        def loss_and_velocity(u: np.ndarray) -> tuple[float, np.ndarray]:
            missing = targets - u
            return 0.5 * squared_speed(u, missing), H @ missing

        return ArrayForm(
            velocity,
            lambda u: 0.5 * squared_speed(u, targets - u),
            lambda u, velocity: float(np.vdot(targets - u, velocity)),
            loss_and_velocity,
        )

    def norm(self, y: Tensor) -> Tensor:
        return torch.linalg.vector_norm(y, dim=(-1,) if self.targets.ndim == 1 else (-2, -1))

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        return self.inner(self.targets - y, velocity)

    def reference(self, y: Tensor) -> Tensor:
        g = gradient_of(self.loss, y)
        if self.targets.ndim == 2:
            return -self._operator.columns(g)
        return -self._operator.columns(g.reshape(-1, y.shape[-1]).mT).mT.reshape(y.shape)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        return -self._product(v)

    def spectral_radius(self, y: Tensor) -> float | None:
        """λ_max, or an upper bound at most 10 % above it, with no n³ work.

        max_i (|H|x)_i/x_i (Collatz and Wielandt) is tight where H has positive entries.
        """
        return self._operator.largest_eigenvalue_bound()

    @property
    def stationary_state(self) -> Tensor:
        return self.targets

    @property
    def parameter_flow(self) -> Flow:
        return self

    def lift(self, y: Tensor) -> Tensor:
        return y

    def project(self, parameters: Tensor) -> Tensor:
        return parameters

    # -- measurements -----------------------------------------------------------------

    def observables(self, y: Tensor) -> Observables:
        """Loss, residual norm ‖u − y‖, and the residual along each eigenvector (descending λ).

        The last only where H's entries are known.
        """
        residual = y - self.targets
        if not self._operator.has_entries:
            return {"loss": self.loss(y), "residual_norm": self.norm(residual)}
        modes = self._coefficients(residual)
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
