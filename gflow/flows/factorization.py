r"""Symmetric factorisation W = UUᵀ, in the factor and in the product.

φ(U) = ℓ(UUᵀ), G = ∇ℓ(W), S = (G + Gᵀ)/2. Gradient flow of φ is

    U̇ = −2 S U        and        Ẇ = −2(X + Xᵀ),  X = S W

(Gunasekar et al. 2017, arXiv:1705.09280, for symmetric measurements, where S = ∇ℓ).
Where ∇ℓ is not symmetric (an unsymmetric mask or measurement), −2∇ℓᵀU is not the
gradient of φ: only the symmetrised form is. Rank and positive semidefiniteness are
conserved. Time unit: t = k·step_size of descent on U, with the loss as normalised.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gflow.checks import require_float, require_times
from gflow.errors import InputError
from gflow.flows.array_form import ArrayForm, reduced_form, squared_speed
from gflow.flows.base import Coordinates, Observables, ParameterFlow, RankGuard, ReducedFlow
from gflow.flows.closed_forms import riccati
from gflow.flows.discrete_changes import factor_changes, product_changes
from gflow.flows.few_entries import few_entries
from gflow.flows.lost_modes import factor_growth, round_off
from gflow.flows.of_matrix_loss import MatrixLossFlow
from gflow.flows.rank_guards import FactorGuard
from gflow.linalg.eigen import effective_rank, row_scaled, scaled_rank, without_round_off
from gflow.linalg.entries import EntryPattern
from gflow.losses import Loss, MatrixCompletion

# -- pure functions ---------------------------------------------------------------


def symmetric_part(G: Tensor) -> Tensor:
    """Compute (G + Gᵀ)/2."""
    return 0.5 * (G + G.mT)


def factor_rhs(U: Tensor, G: Tensor) -> Tensor:
    """Compute U̇ = −(G + Gᵀ)U.

    Parameters
    ----------
    U : Tensor, shape (..., d, k)
        The factor.
    G : Tensor, shape (..., d, d)
        The gradient ∇ℓ(UUᵀ), which need not be symmetric.

    Returns
    -------
    Tensor, shape (..., d, k)
        The velocity U̇.

    Examples
    --------
    >>> import torch
    >>> factor_rhs(torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0, 4.0], [0.0, 1.0]]))
    tensor([[-2.],
            [-4.]])
    """
    return -2 * symmetric_part(G) @ U


def product_rhs(W: Tensor, G: Tensor) -> Tensor:
    """Compute Ẇ = −2(X + Xᵀ), X = ½(G + Gᵀ)W.

    Parameters
    ----------
    W : Tensor, shape (..., d, d)
        Symmetric matrix.
    G : Tensor, shape (..., d, d)
        The gradient ∇ℓ(W), which need not be symmetric.

    Returns
    -------
    Tensor, shape (..., d, d)
        The velocity Ẇ.

    Examples
    --------
    >>> import torch
    >>> product_rhs(2 * torch.eye(1), -torch.eye(1))
    tensor([[8.]])
    """
    X = symmetric_part(G) @ W
    return -2 * (X + X.mT)


# -- flows ------------------------------------------------------------------------


def _check_square(loss: Loss) -> None:
    if loss.shape[0] != loss.shape[1]:
        raise InputError(
            "a factorization W = UUᵀ needs a loss of square matrices, got one of shape "
            f"{tuple(loss.shape)}; use EndToEndFlow or another loss"
        )


def _observables(W: Tensor, loss: Loss) -> Observables:
    eigenvalues = torch.linalg.eigvalsh(symmetric_part(W))
    sizes = eigenvalues.abs()
    scale = W.norm(dim=(-2, -1)).clamp_min(torch.finfo(W.dtype).tiny)
    return {
        "loss": loss(W),
        "eigenvalues": eigenvalues.flip(-1),
        "least_eigenvalue": eigenvalues[..., 0],
        "effective_rank": effective_rank(sizes),
        "nuclear_norm": sizes.sum(-1),
        "symmetry_defect": (W - W.mT).norm(dim=(-2, -1)) / scale,
    }


class FactorFlow(MatrixLossFlow, ParameterFlow):
    """Gradient flow of U for the loss of W = UUᵀ.

    Parameters
    ----------
    loss : Loss
        The loss ℓ(W) of square matrices; it need not be symmetric.

    Raises
    ------
    InputError
        If the loss takes matrices that are not square.

    Notes
    -----
    The state is U, (..., d, k), with any number of columns.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> flow = gflow.FactorFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)))
    >>> U = 0.5 * torch.eye(2, dtype=torch.float64)
    >>> flow(0.0, U)[0, 0].item(), flow.product(U)[0, 0].item()
    (0.75, 0.25)
    """

    observable_dims: ClassVar = {"eigenvalues": ("mode",)}

    def __init__(self, loss: Loss):
        super().__init__(loss)
        _check_square(loss)

    def describe(self) -> str:
        return repr(self._loss)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self._loss.shape[0], -1)

    def neurons(self, y: Tensor) -> tuple[Tensor, Tensor] | None:
        return y.mT, y.new_ones(y.shape[-1])

    def product(self, U: Tensor) -> Tensor:
        """Compute W = UUᵀ."""
        return U @ U.mT

    def end_to_end(self, y: Tensor) -> Tensor:
        return self.product(y)

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        if (pattern := few_entries(self._loss, y.shape[-1])) is not None:
            return self._by_entries(pattern, y)[1]
        return self._loss.symmetric_descent(self.product(y)) @ y

    def _by_entries(self, pattern: EntryPattern, y: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss and the velocity from a few entries of W."""
        values = pattern.of_product(y, y.mT)
        slopes = self._loss.entries_gradient(values)
        rate = -(pattern.times(slopes, y) + pattern.transposed_times(slopes, y))
        return self._loss.of_entries(values), rate

    def loss(self, y: Tensor) -> Tensor:
        if (pattern := few_entries(self._loss, y.shape[-1])) is not None:
            return self._loss.of_entries(pattern.of_product(y, y.mT))
        return self._loss(self.product(y))

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if type(self) is not FactorFlow:
            return super().loss_and_velocity(y)
        if (pattern := few_entries(self._loss, y.shape[-1])) is not None:
            return self._by_entries(pattern, y)
        W = self.product(y)
        return self._loss(W), self._loss.symmetric_descent(W) @ y

    def array_form(self) -> ArrayForm | None:
        loss = self._loss.on_arrays()
        if loss is None or type(self) is not FactorFlow:
            return None

        def velocity(U: np.ndarray) -> np.ndarray:
            rate: np.ndarray = loss.symmetric_descent(U @ U.swapaxes(-2, -1)) @ U
            return rate

        def loss_and_velocity(U: np.ndarray) -> tuple[float, np.ndarray]:
            W = U @ U.T
            return float(loss(W)), loss.symmetric_descent(W) @ U

        return ArrayForm(
            velocity,
            lambda U: float(loss(U @ U.T)),
            squared_speed,
            loss_and_velocity,
            many=True,
        )

    def discrete_changes(self, ts: Tensor, ys: Tensor) -> Observables:
        if few_entries(self._loss, ys.shape[-1]) is not None:
            return {}
        return factor_changes(ts, ys, self._loss.gradient)

    def in_singular_coordinates(self, y0: Tensor) -> str:
        few = few_entries(self._loss, y0.shape[-1]) is not None
        return "" if few or type(self) is not FactorFlow else "SpectralFlow(loss, symmetric=True)"

    def coordinates(self, y0: Tensor) -> Coordinates | None:
        """Return a factor with as many columns as the rank of U, where U has more."""
        if type(self) is not FactorFlow:  # a subclass may have another right-hand side
            return None
        _, sigma, Vh = torch.linalg.svd(row_scaled(y0), full_matrices=False)
        used = sigma > round_off(y0, max(y0.shape[-2:])) * sigma[..., :1]
        rank = max(int(used.sum(-1).max()), 1)
        if used.shape[-1] == y0.shape[-1] and bool(used.all()):
            return None
        if bool((scaled_rank(y0) > used.sum(-1)).any()):  # columns of sizes far apart
            return None
        kept = Vh[..., :rank, :]
        start = torch.where(used[..., None, :rank], y0 @ kept.mT, 0.0)
        return Coordinates(self, start, lambda U: U @ kept)

    def rank_guard(self, y0: Tensor, rtol: float) -> RankGuard | None:
        few = few_entries(self._loss, y0.shape[-1]) is not None
        if type(self) is not FactorFlow or few:
            return None
        return FactorGuard(self, y0, rtol, factor_growth(self._loss.gradient))

    def observables(self, y: Tensor) -> Observables:
        """Measure loss, eigenvalues of W, their least, effective rank, nuclear norm, symmetry."""
        return _observables(self.product(y), self._loss)

    @classmethod
    def example(cls) -> tuple[FactorFlow, Tensor]:
        i = torch.arange(4, dtype=torch.float64)
        U = torch.cos(i[:, None] + 2 * i[:3])
        return cls(_example_loss()), U


class ProductFlow(MatrixLossFlow, ReducedFlow):
    """The flow of W = UUᵀ itself, for symmetric positive semidefinite W.

    Parameters
    ----------
    loss : Loss
        The loss ℓ(W) of square matrices; it need not be symmetric.

    Raises
    ------
    InputError
        If the loss takes matrices that are not square; when a start is not symmetric
        positive semidefinite.

    Notes
    -----
    The state is W, (..., d, d). ``exact`` covers the fully observed ½‖W − M‖²_F from any
    start. Round-off outside the range of W grows like any other direction, so
    `gflow.integrate` follows U with as many columns as the rank of the start, and returns
    W = UUᵀ. From a start of size α² choose ``atol`` well below α².

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> flow = gflow.ProductFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)))
    >>> W0 = 0.25 * torch.eye(2, dtype=torch.float64)
    >>> flow.exact(torch.tensor([0.0, 100.0], dtype=torch.float64), W0)[:, 0, 0].tolist()
    [0.25, 1.0]
    """

    observable_dims: ClassVar = {"eigenvalues": ("mode",)}

    def __init__(self, loss: Loss):
        super().__init__(loss)
        _check_square(loss)

    def describe(self) -> str:
        return repr(self._loss)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self._loss.shape

    def check_state(self, y: Tensor) -> None:
        super().check_state(y)
        scale = float(y.abs().max())
        defect = float((y - y.mT).abs().max())
        limit = 1e3 * torch.finfo(y.dtype).eps
        if defect > limit * scale:
            raise InputError(
                f"W = UUᵀ must be symmetric, but |W − Wᵀ| reaches {defect:.3g}; "
                "start from (W + Wᵀ)/2"
            )
        least = float(torch.linalg.eigvalsh(y).min())
        if least < -limit * y.shape[-1] * scale:
            raise InputError(
                "W = UUᵀ must be positive semidefinite, but its least eigenvalue is "
                f"{least:.3g}; start from U @ U.mT"
            )

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        X = self._loss.symmetric_descent(y) @ y
        return X + X.mT

    def array_form(self) -> ArrayForm | None:
        loss = self._loss.on_arrays()
        if loss is None or type(self) is not ProductFlow:
            return None

        def velocity(W: np.ndarray) -> np.ndarray:
            X = loss.symmetric_descent(W) @ W
            return X + X.T

        return reduced_form(loss, velocity)

    def loss(self, y: Tensor) -> Tensor:
        return self._loss(y)

    def gradient(self, y: Tensor) -> Tensor:
        return self._loss.gradient(y)

    @functools.cached_property
    def parameter_flow(self) -> FactorFlow:
        """`FactorFlow` with d columns."""
        return FactorFlow(self._loss)

    def lift(self, y: Tensor) -> Tensor:
        """Compute U, d × d, with UUᵀ = W; eigenvalues at round-off count as zero.

        They are those of W with unit diagonal, so that small entries of W count, too: with
        W_ij = c_ij √(W_ii W_jj) and C = VΛVᵀ, U_ij = √W_ii V_ij √Λ_j.
        """
        scale = y.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
        inverse = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
        lam, V = torch.linalg.eigh(symmetric_part(inverse[..., None] * y * inverse[..., None, :]))
        roots = without_round_off(lam, y.shape[-1]).sqrt()
        return scale[..., None] * V * roots[..., None, :]

    def coordinates(self, y0: Tensor) -> Coordinates | None:
        """Return U with as many columns as the rank of the start, the largest of an ensemble."""
        if type(self) is not ProductFlow:  # a subclass may have another right-hand side
            return None
        U = self.lift(y0)
        used = U.reshape(-1, U.shape[-1]).ne(0).any(dim=0)
        used[-1] = True
        # An error δU of U is one of about 2 U δU of W.
        return Coordinates(self.parameter_flow, U[..., used].contiguous(), self.project, 0.5)

    def project(self, parameters: Tensor) -> Tensor:
        return parameters @ parameters.mT

    def invariants(self, y: Tensor) -> Observables:
        """Compute W − Wᵀ and the negative part of the least eigenvalue, both zero for ever."""
        least = torch.linalg.eigvalsh(symmetric_part(y))[..., 0]
        return {"antisymmetric_part": y - y.mT, "negative_part": least.clamp_max(0)}

    def invariant_scales(self, y: Tensor) -> Observables:
        size = y.norm(dim=(-2, -1))
        return {"antisymmetric_part": size, "negative_part": size}

    def discrete_changes(self, ts: Tensor, ys: Tensor) -> Observables:
        return product_changes(ys, self.lift(ys[0]).ne(0).any(dim=-2).sum(-1))

    def in_singular_coordinates(self, y0: Tensor) -> str:
        return "" if type(self) is not ProductFlow else "SpectralFlow(loss, symmetric=True)"

    def observables(self, y: Tensor) -> Observables:
        """Measure loss, eigenvalues of W, their least, effective rank, nuclear norm, symmetry."""
        return _observables(y, self._loss)

    def closed_form(self, y0: Tensor) -> str | None:
        if self._loss.as_squared_distance() is None or y0.ndim != 2:
            return None
        return "fully observed matrix Riccati solution"

    def exact(self, ts: Tensor, y0: Tensor) -> Tensor:
        y0 = require_float("a state", y0)
        self.check_state(y0)
        distance = self._loss.as_squared_distance()
        if distance is None or y0.ndim != 2:
            return super().exact(ts, y0)
        M, scale = distance
        # Ẇ = 2MW + 2WM − 4W², M symmetrised
        return riccati(2 * symmetric_part(M), self.lift(y0), 4.0, require_times(ts).to(y0) * scale)

    @classmethod
    def example(cls) -> tuple[ProductFlow, Tensor]:
        _, U = FactorFlow.example()
        return cls(_example_loss()), U @ U.mT


def _example_loss() -> MatrixCompletion:
    i = torch.arange(4, dtype=torch.float64)
    values = torch.sin(1 + i[:, None] * 3 + i)
    mask = (i[:, None] + 2 * i) % 3 != 0  # not symmetric, on purpose
    return MatrixCompletion(values, mask)
