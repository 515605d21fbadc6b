r"""Deep linear networks end to end: the flow of W = W_N⋯W_1 from a balanced start.

    Ẇ = −Σ_{j=1}^N [WWᵀ]^{(j−1)/N} G [WᵀW]^{(N−j)/N},   G = ∇ℓ(W)

(Arora, Cohen & Hazan 2018, arXiv:1802.06509, Theorem 1), and with a single output
Ẇ = −‖W‖^{2−2/N}(G + (N−1) G P_W), P_W = WᵀW/‖W‖² (their Claim 2). The singular values
obey σ̇_r = −N σ_r^{2−2/N} u_rᵀGv_r (Arora et al. 2019, arXiv:1905.13655, Theorem 3), so
rank is conserved for N ≥ 2.

Time unit: t = k·step_size of descent on the layers, with the loss as normalised.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.checks import require_count, require_depth, require_float, require_times
from gflow.errors import InputError
from gflow.flows.array_form import ArrayForm, reduced_form
from gflow.flows.base import Observables, RankGuard, ReducedFlow, gradient_of
from gflow.flows.closed_forms import aligned_mode, riccati, shared_singular_modes
from gflow.flows.deep_linear import (
    LayerwiseFlow,
    balanced_layers,
    example_matrix,
    matrix_observables,
)
from gflow.flows.discrete_changes import matrix_changes
from gflow.flows.jacobian import jacobian_product
from gflow.flows.of_matrix_loss import MatrixLossFlow
from gflow.flows.rank_guards import LayerGrowth, MatrixGuard
from gflow.linalg.eigen import without_round_off
from gflow.losses import Loss, SquaredDistance

# -- pure functions ---------------------------------------------------------------


def end_to_end_rhs(W: Tensor, G: Tensor, depth: int, rank: int | None = None) -> Tensor:
    """Compute Ẇ = −Σ_j [WWᵀ]^{(j−1)/N} G [WᵀW]^{(N−j)/N} from one thin SVD.

    With W = UΣVᵀ, d_N ≤ d_0 and a = σ^{2/N}, the part of G outside the range of Wᵀ meets
    a_r^{N−1} alone, and the rest K_rs = a_r^{N−1} + Σ_{j<N} a_r^{j−1} a_s^{N−j}:
    Ẇ = −U[(Σ_{j<N} a_r^{j−1} a_s^{N−j} ∘ (UᵀGV))Vᵀ + a^{N−1} ∘ (UᵀG)], the sum by
    Horner's rule, which needs no 0⁰ and no difference. Otherwise the transpose of it.

    Parameters
    ----------
    W : Tensor, shape (..., d_N, d_0)
        The end-to-end matrix.
    G : Tensor, shape (..., d_N, d_0)
        The gradient ∇ℓ(W).
    depth : int
        Number of layers N ≥ 1.
    rank : int, optional
        Singular values from this index on are round-off and count as zero; by default
        those below max(d_N, d_0)·ε·σ_1. Fractional powers amplify such noise: at depth
        5, (1e-16)^{2/5} = 4e-7.

    Returns
    -------
    Tensor, shape (..., d_N, d_0)
        The velocity Ẇ.

    Examples
    --------
    >>> import torch
    >>> W, G = torch.diag(torch.tensor([4.0, 0.0])), -torch.eye(2)
    >>> end_to_end_rhs(W, G, depth=2).diagonal().abs().tolist()   # N σ^(2 − 2/N) for each mode
    [8.0, 0.0]
    """
    if depth == 1:
        return -G
    if W.shape[-2] > W.shape[-1]:
        return end_to_end_rhs(W.mT, G.mT, depth, rank).mT
    # LAPACK is quicker on the tall one of W and Wᵀ, and needs no copy of a row-major W.
    V, sigma, Uh = torch.linalg.svd(W.mT, full_matrices=False)
    if rank is None:
        sigma = without_round_off(sigma, W.shape[-1])
    elif rank < sigma.shape[-1]:
        sigma = torch.cat([sigma[..., :rank], torch.zeros_like(sigma[..., rank:])], dim=-1)
    left = sigma.unsqueeze(-1).pow(2.0 / depth)  # a_r
    right = left.mT  # a_s
    UG = Uh @ G
    term = inside = right * (UG @ V)
    edge = left
    for _ in range(depth - 2):
        term = right * term
        inside = torch.addcmul(term, left, inside)
        edge = left * edge
    return -(Uh.mT @ torch.addcmul(inside @ V.mT, edge, UG))


def single_output_rhs(W: Tensor, G: Tensor, depth: int) -> Tensor:
    """Compute Ẇ = −‖W‖^{2−2/N}(G + (N−1) G P_W), which is 0 at W = 0 for N ≥ 2.

    Parameters
    ----------
    W : Tensor, shape (..., 1, d_0)
        The end-to-end matrix, with a single output.
    G : Tensor, shape (..., 1, d_0)
        The gradient ∇ℓ(W).
    depth : int
        Number of layers N ≥ 1.

    Returns
    -------
    Tensor, shape (..., 1, d_0)
        The velocity Ẇ.

    Examples
    --------
    >>> import torch
    >>> single_output_rhs(torch.tensor([[2.0, 0.0]]), torch.tensor([[-1.0, -1.0]]), depth=2)
    tensor([[4., 2.]])
    """
    if depth == 1:
        return -G
    norm = vector_norm(W, dim=-1, keepdim=True)
    return -(norm ** (2 - 2 / depth)) * (G + (depth - 1) * _along(W, G, norm))


def _along(W: Tensor, G: Tensor, norm: Tensor) -> Tensor:
    """G P_W, zero where W = 0."""
    unit = W / torch.where(norm > 0, norm, 1.0)
    return (G @ unit.mT) * unit


def _array_rhs(W: np.ndarray, G: np.ndarray, exponents: np.ndarray, rank: int | None) -> np.ndarray:
    """Compute Ẇ of `end_to_end_rhs` or `single_output_rhs` for one array W; NaN if the SVD fails.

    The exponents are 2j/N for j < N: Σ_{j<N} a_r^{j−1} a_s^{N−j} is a product of powers.
    """
    depth = len(exponents)
    if depth == 1:
        return -G
    if len(W) == 1:
        square = float(np.vdot(W, W))
        along = W * (float(np.vdot(G, W)) * (depth - 1) / square) if square else 0.0
        return -(square ** (1 - 1 / depth)) * (G + along)
    if W.shape[0] > W.shape[1]:
        return np.ascontiguousarray(_array_rhs(W.T, G.T, exponents, rank).T)
    try:
        U, sigma, Vh = np.linalg.svd(W, full_matrices=False)
    except np.linalg.LinAlgError:
        return np.full_like(W, np.nan, order="C")
    if rank is None:
        sigma[sigma <= W.shape[1] * np.finfo(W.dtype).eps * sigma[0]] = 0.0
    else:
        sigma[rank:] = 0.0
    powers = sigma[:, None] ** exponents
    UG = U.T @ G
    inside = (powers[:, :-1] @ powers[:, :0:-1].T) * (UG @ Vh.T)
    inner = inside @ Vh
    UG *= powers[:, -1:]
    inner += UG
    return -U @ inner


# -- the flow ---------------------------------------------------------------------


class EndToEndFlow(MatrixLossFlow, ReducedFlow):
    """The flow of the product W of a balanced deep linear network.

    Parameters
    ----------
    loss : Loss
        The loss ℓ(W), for any d_N × d_0.
    depth : int
        Number of layers N ≥ 1.
    rank : int, optional
        The rank of W, which the flow conserves for N ≥ 2: singular values beyond it are
        round-off and count as zero. `gflow.integrate` takes it from the start.
    hidden_width : int, optional
        Width of the hidden layers of `parameter_flow`, at least min(d_N, d_0), its default.

    Raises
    ------
    InputError
        If the depth, the rank or the hidden width is out of range.

    Notes
    -----
    The state is W, (..., d_N, d_0). A call takes one thin SVD; with one output none.
    ``exact`` covers ½‖W − M‖² (and losses equal to it up to scale): every start at depth
    1 and 2, starts aligned with M's singular vectors at any depth.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> flow = gflow.EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), depth=3)
    >>> W = 0.5 * torch.eye(2, dtype=torch.float64)
    >>> round(flow(0.0, W)[0, 0].item(), 6)   # N σ^(2−2/N) (m − σ)
    0.595275
    """

    observable_dims: ClassVar = {"singular_values": ("mode",)}

    def __init__(
        self,
        loss: Loss,
        depth: int,
        rank: int | None = None,
        hidden_width: int | None = None,
    ):
        super().__init__(loss)
        depth = require_depth(depth)
        full_rank = min(loss.shape)
        if hidden_width is not None:
            hidden_width = require_count("hidden_width", hidden_width)
        if rank is not None:
            rank = require_count("rank", rank, 0)
        if hidden_width is not None and hidden_width < full_rank:
            raise InputError(
                f"a balanced start needs hidden_width of at least min(d_N, d_0) = {full_rank}, "
                f"got {hidden_width}; widen the hidden layers"
            )
        if rank is not None and rank > full_rank:
            raise InputError(f"rank must be between 0 and {full_rank}, got {rank}")
        self.depth = depth
        self.rank = rank
        self.hidden_width = full_rank if hidden_width is None else hidden_width

    @property
    def state_shape(self) -> tuple[int, ...]:
        return self._loss.shape

    @property
    def single_output(self) -> bool:
        """Whether d_N = 1, where the flow needs no SVD."""
        return self._loss.shape[0] == 1

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        G = self._loss.gradient(y)
        if self.single_output:
            return single_output_rhs(y, G, self.depth)
        return end_to_end_rhs(y, G, self.depth, self.rank)

    def loss(self, y: Tensor) -> Tensor:
        return self._loss(y)

    def gradient(self, y: Tensor) -> Tensor:
        return self._loss.gradient(y)

    def array_form(self) -> ArrayForm | None:
        loss = self._loss.on_arrays()
        if loss is None or type(self) is not EndToEndFlow:
            return None
        dtype = torch.empty(0, dtype=self.reference_tensor.dtype).numpy().dtype
        exponents = np.arange(self.depth, dtype=dtype) * (2 / self.depth)

        def velocity(W: np.ndarray) -> np.ndarray:
            return _array_rhs(W, loss.gradient(W), exponents, self.rank)

        return reduced_form(loss, velocity)

    @functools.cached_property
    def parameter_flow(self) -> LayerwiseFlow:
        """`LayerwiseFlow` with hidden layers of ``hidden_width``."""
        d_out, d_in = self._loss.shape
        hidden = [self.hidden_width] * (self.depth - 1)
        return LayerwiseFlow(self._loss, [d_in, *hidden, d_out])

    def lift(self, y: Tensor) -> Tensor:
        """Build balanced layers with product y, as a state of `parameter_flow`."""
        return self.parameter_flow.balanced_start(self._truncated(y))

    def project(self, parameters: Tensor) -> Tensor:
        """Compute the product of the layers."""
        return self.parameter_flow.end_to_end(parameters)

    def reference(self, y: Tensor) -> Tensor:
        """Compute dy/dt by automatic differentiation, on layers of the flow's rank.

        Steps leave singular values beyond the rank within the tolerance: at rest, more than the
        velocity. The gradient is taken at y, as by the flow.
        """
        parameters = self.lift(y)
        beyond = y - self.project(parameters)
        velocity = -gradient_of(lambda p: self.loss(self.project(p) + beyond), parameters)
        return jacobian_product(self.project, parameters, velocity)

    def _truncated(self, W: Tensor) -> Tensor:
        if self.rank is None or self.depth == 1 or self.rank == min(self._loss.shape):
            return W
        U, sigma, Vh = torch.linalg.svd(W, full_matrices=False)
        k = self.rank
        return (U[..., :k] * sigma[..., None, :k]) @ Vh[..., :k, :]

    def discrete_changes(self, ts: Tensor, ys: Tensor) -> Observables:
        if self.depth == 1:
            return {}
        return matrix_changes(ts, ys, self._loss.gradient, self.depth)

    def in_singular_coordinates(self, y0: Tensor) -> str:
        other = self.depth == 1 or type(self) is not EndToEndFlow
        return "" if other else f"SpectralFlow(loss, depth={self.depth})"

    def rank_guard(self, y0: Tensor, rtol: float) -> RankGuard | None:
        if self.depth == 1 or self.single_output or type(self) is not EndToEndFlow:
            return None
        growth = LayerGrowth(self._loss.gradient, y0)
        return MatrixGuard(self, self._thin_layers, y0, rtol, growth)

    def _thin_layers(
        self, W: Tensor, rank: int
    ) -> tuple[LayerwiseFlow, Callable[[list[int]], LayerwiseFlow], Tensor]:
        """Return the layerwise flow of hidden widths rank, its constructor, and its start at W."""
        d_out, d_in = W.shape
        make = functools.partial(LayerwiseFlow, self._loss)
        flow = make([d_in, *[rank] * (self.depth - 1), d_out])
        U, sigma, Vh = torch.linalg.svd(W, full_matrices=False)
        root = sigma[:rank].pow(1 / self.depth)
        middle = [torch.diag(root)] * (self.depth - 2)
        start = flow.pack([root[:, None] * Vh[:rank], *middle, U[:, :rank] * root])
        return flow, make, start

    def for_start(self, y0: Tensor) -> EndToEndFlow:
        """Return this flow with the rank of the start, or of all starts of an ensemble."""
        if self.rank is not None or self.depth == 1 or self.single_output:
            return self
        ranks = torch.linalg.matrix_rank(y0).unique().tolist()
        if len(ranks) != 1 or ranks[0] == min(self._loss.shape):
            return self
        specialised = copy.copy(self)  # of the same class, whatever a subclass adds
        specialised.rank = int(ranks[0])
        return specialised

    def describe(self) -> str:
        return f"{self._loss!r}, depth {self.depth}"

    def observables(self, y: Tensor) -> Observables:
        """Measure loss, singular values, effective rank and nuclear norm.

        With a single output also ``projection_ratio``, ‖(N−1) G P_W‖/‖G‖: how much of the motion
        is along W.
        """
        observables = {"loss": self.loss(y), **matrix_observables(y)}
        if self.single_output:
            G = self._loss.gradient(y)
            along = (self.depth - 1) * _along(y, G, y.norm(dim=-1, keepdim=True))
            size = G.norm(dim=(-2, -1)).clamp_min(torch.finfo(y.dtype).tiny)
            observables["projection_ratio"] = along.norm(dim=(-2, -1)) / size
        return observables

    def closed_form(self, y0: Tensor) -> str | None:
        distance = self._loss.as_squared_distance()
        if distance is None or y0.ndim != 2:
            return None
        if self.depth == 1:
            return "linear: W = M + exp(−t)(W₀ − M)"
        if self.depth == 2:
            return "two-layer matrix Riccati solution"
        return (
            "aligned singular modes" if shared_singular_modes(y0, distance[0]) is not None else None
        )

    def exact(self, ts: Tensor, y0: Tensor) -> Tensor:
        y0 = require_float("a state", y0)
        self.check_state(y0)
        distance = self._loss.as_squared_distance()
        if distance is None or y0.ndim != 2:
            return super().exact(ts, y0)
        M, scale = distance
        times = require_times(ts).to(y0) * scale
        if self.depth == 1:
            return M + (y0 - M) * torch.exp(-times)[:, None, None]
        if self.depth == 2:
            d_in = self._loss.shape[1]
            F = y0.new_zeros(sum(self._loss.shape), sum(self._loss.shape))
            F[:d_in, d_in:], F[d_in:, :d_in] = M.mT, M
            first, second = balanced_layers(y0, self.parameter_flow.layer_dims)
            return riccati(F, torch.cat([first.mT, second]), 1.0, times)[:, d_in:, :d_in]
        aligned = shared_singular_modes(y0, M)
        if aligned is None:
            return super().exact(ts, y0)
        U, sigma, V, m = aligned
        at_start = (times == 0)[:, None, None]
        path = (U * aligned_mode(sigma, m, self.depth, times)[:, None, :]) @ V.mT
        return torch.where(at_start, y0, path)

    @classmethod
    def example(cls) -> tuple[EndToEndFlow, Tensor]:
        return cls(SquaredDistance(example_matrix()), depth=3), 0.5 * example_matrix().flip(-1)
