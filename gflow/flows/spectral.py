r"""Singular values and vectors of W as the state: of deep linear networks, and of W = UUᵀ.

W = U diag(e^l) Vᵀ follows the flow of the product of balanced layers (`gflow.flows.end_to_end`),

    l̇_r = −N σ_r^{1−2/N} u_rᵀGv_r,   σ = e^l,   G = ∇ℓ(W)

(Arora et al. 2019, arXiv:1905.13655, Theorem 3), and U and V turn as `gflow.flows.singular.rates`
says; or that of W = UUᵀ, the case N = 2 with G + Gᵀ for G and V = U. The logarithms have a relative
accuracy of each singular value that neither W nor its factors have: in float64 a mode of 1e-20
beside one of 1 is round-off in W, and one of 1e-30 in the layers of two. Singular vectors do not
exist where singular values meet, and turn fast nearby, so that a solve by gflow's own methods
groups the modes: `gflow.flows.singular.clusters`.

Errors of logs, of vectors and of angles are measured as they are: rtol is the largest error of each
in a step, so that all singular values, whatever their size, are right to some rtol. Time unit:
t = k·step_size of descent on the layers or on U, with the loss as normalised.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import ClassVar

import torch
from torch import Tensor

from gflow.checks import (
    require_bool,
    require_depth,
    require_dtype_and_device,
    require_finite,
    require_float,
    require_number,
)
from gflow.errors import InputError
from gflow.flows.base import Coordinates, Flow, Observables, ReducedFlow, gradient_of
from gflow.flows.deep_linear import LayerwiseFlow, example_matrix
from gflow.flows.factorization import FactorFlow, ProductFlow
from gflow.flows.of_matrix_loss import MatrixLossFlow
from gflow.flows.singular import bases, grouping
from gflow.flows.singular.rates import ModeRates, mode_rates, reference_rates
from gflow.linalg.eigen import effective_rank, singular_modes
from gflow.losses import Loss, SquaredDistance

_LIFTED = 25.0  # the largest range of logs that parameters and their product resolve
_LEAST = -600.0  # the least log of W whose parameters do not underflow


class SpectralFlow(MatrixLossFlow, ReducedFlow):
    """The flow of W = U diag(e^l) Vᵀ in its singular values and vectors.

    Parameters
    ----------
    loss : Loss
        The loss ℓ(W).
    depth : int
        Number of layers N ≥ 2 of the balanced deep linear network; 2 where ``symmetric``.
    symmetric : bool
        Whether W = UUᵀ, as in `FactorFlow`, instead of a product of layers.

    Raises
    ------
    InputError
        If the depth is below 2, or is given with ``symmetric``, or if the loss of a symmetric W
        takes matrices that are not square.

    Notes
    -----
    The state is [l; U; V] as one vector, (..., r(1 + m + n)) for W of rank r, m × n; [l; U] where
    symmetric. `start` makes it, and `unpack` takes it apart. From an ensemble of starts, or with
    checkpoints, sharpness or a library's method, modes are not grouped: singular values that meet
    then take short steps.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> target = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    >>> flow = gflow.SpectralFlow(SquaredDistance(target), symmetric=True)
    >>> path = gflow.integrate(flow, flow.start(log_scale=-138.0), [0.0, 20.0])   # 1e-60 I
    >>> flow.log_singular_values(path.ys[-1]).round(decimals=4).tolist()  # log 3; −138 + 4·20
    [1.0986, -58.0]
    """

    observable_dims: ClassVar = {"singular_values": ("mode",), "log_singular_values": ("mode",)}

    def __init__(self, loss: Loss, depth: int = 2, *, symmetric: bool = False):
        super().__init__(loss)
        self.symmetric = require_bool("symmetric", symmetric)
        self.depth = require_depth(depth)
        if self.depth < 2 or (self.symmetric and self.depth != 2):
            mend = "leave it out where symmetric=True" if self.symmetric else "or use EndToEndFlow"
            raise InputError(f"depth must be at least 2, got {self.depth}; {mend}")
        if self.symmetric and loss.shape[0] != loss.shape[1]:
            raise InputError(
                "a factorization W = UUᵀ needs a loss of square matrices, got one of shape "
                f"{tuple(loss.shape)}; leave symmetric=True out, or use another loss"
            )
        self.rank = min(loss.shape)  #: of W; `gflow.integrate` takes it from the start

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (-1,)

    def _numbers(self) -> int:
        """Return the number of a state's entries for each mode."""
        m, n = self._loss.shape
        return 1 + m if self.symmetric else 1 + m + n

    def check_state(self, y: Tensor) -> None:
        super().check_state(y)
        each, most = self._numbers(), min(self._loss.shape)
        if y.shape[-1] % each or y.shape[-1] > each * most:
            raise InputError(
                f"a state of SpectralFlow has {each} numbers for each of up to {most} modes, got "
                f"shape {tuple(y.shape)}; make it by flow.start(W0) or flow.start(log_scale=...)"
            )

    # -- states ---------------------------------------------------------------------

    def start(self, W0: Tensor | None = None, *, log_scale: float | None = None) -> Tensor:
        """Return the state of a matrix, or of e^{log_scale}·I.

        Parameters
        ----------
        W0 : Tensor, shape (..., m, n), optional
            The start, or an ensemble of the same rank. Where W = UUᵀ it is positive semidefinite.
        log_scale : float, optional
            Logarithm of the scale of W, of any size: −2302.6 is 1e-1000.

        Returns
        -------
        Tensor, shape (..., r(1 + m + n))
            [l; U; V]; [l; U] where symmetric. A basis for equal singular values is one that they
            take as they move apart.

        Raises
        ------
        InputError
            If neither or both are given, W0 has a wrong shape, rank 0 or, where W = UUᵀ, an
            eigenvalue below 0.

        Examples
        --------
        >>> flow, _ = SpectralFlow.example()
        >>> flow.log_singular_values(flow.start(log_scale=-1000.0)).tolist()
        [-1000.0, -1000.0]
        """
        if (W0 is None) == (log_scale is None):
            got = "neither" if W0 is None else "both"
            raise InputError(f"start takes W0 or log_scale, got {got}; write flow.start(W0)")
        like, shape = self.reference_tensor, self._loss.shape
        if W0 is None:
            scale = require_number("log_scale", log_scale)
            if not math.isfinite(scale):
                raise InputError(f"log_scale must be finite, got {scale}; write math.log(scale)")
            U, V = (
                torch.eye(size, self.rank, dtype=like.dtype, device=like.device) for size in shape
            )
            U, V = (frame.expand(*self.members, *frame.shape) for frame in (U, V))
            logs = U.new_full((*self.members, min(shape)), scale)
        else:
            logs, U, V = self._modes_of(W0)
        return self._state_of(logs, U, V)

    def _modes_of(self, W0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        W0 = require_float("W0", W0)
        shape = tuple(self._loss.shape)
        if tuple(W0.shape[-2:]) != shape:
            raise InputError(
                f"W0 must have shape (..., {shape[0]}, {shape[1]}), got "
                f"{tuple(W0.shape)}; pass the matrix W itself"
            )
        require_finite("W0", W0)
        require_dtype_and_device("W0", W0, self.reference_tensor, "the flow's data")
        if self.symmetric:
            ProductFlow(self._loss).check_state(W0)
            W0 = 0.5 * (W0 + W0.mT)
        U, sigma, Vh = singular_modes(W0)
        ranks = (sigma > 0).sum(-1).unique().tolist()
        if len(ranks) != 1 or ranks[0] == 0:
            what = "are of rank 0" if ranks[0] == 0 else f"have ranks {ranks}"
            raise InputError(
                f"starts must have one rank of at least 1, but {what}; a mode of size "
                "0 stays 0: start from a small matrix, or integrate one by one"
            )
        r = ranks[0]
        U, V = U[..., :r], Vh[..., :r, :].mT
        return sigma[..., :r].log(), U, U if self.symmetric else V

    def pack(self, logs: Tensor, U: Tensor, V: Tensor | None = None) -> Tensor:
        """Return the state of singular values and vectors.

        Parameters
        ----------
        logs : Tensor, shape (..., r)
            Logarithms of the singular values, in any order.
        U : Tensor, shape (..., m, r)
            Orthonormal columns.
        V : Tensor, shape (..., n, r), optional
            The same; U where symmetric.

        Returns
        -------
        Tensor, shape (..., r(1 + m + n)), or (..., r(1 + m))
        """
        frames = [U] if self.symmetric or V is None else [U, V]
        return torch.cat([logs, *(frame.flatten(-2) for frame in frames)], dim=-1)

    def unpack(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logs of singular values, (..., r), and singular vectors U and V, as views."""
        m, n = self._loss.shape
        r = y.shape[-1] // self._numbers()
        if self.symmetric:
            logs, left = y.split([r, m * r], dim=-1)
            U = left.unflatten(-1, (m, r))
            return logs, U, U
        logs, left, right = y.split([r, m * r, n * r], dim=-1)
        return logs, left.unflatten(-1, (m, r)), right.unflatten(-1, (n, r))

    def end_to_end(self, y: Tensor) -> Tensor:
        logs, U, V = self.unpack(y)
        return (U * logs.exp().unsqueeze(-2)) @ V.mT

    def log_singular_values(self, y: Tensor) -> Tensor:
        """Return the logs of the singular values (eigenvalues of UUᵀ), descending, (..., r)."""
        return self.unpack(y)[0].sort(dim=-1, descending=True).values

    def for_start(self, y0: Tensor) -> SpectralFlow:
        """Return this flow with the rank of the start."""
        r = y0.shape[-1] // self._numbers()
        if r == self.rank:
            return self
        specialised = copy.copy(self)
        for cached in ("parameter_flow", "_layers"):
            specialised.__dict__.pop(cached, None)
        specialised.rank = r
        return specialised

    # -- the right-hand side -----------------------------------------------------------

    def _gradient(self, W: Tensor) -> Tensor:
        G = self._loss.gradient(W)
        return G + G.mT if self.symmetric else G

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        logs, U, V = self.unpack(y)
        rates = mode_rates(logs, U, V, self._gradient(self.end_to_end(y)), self.depth)
        return self._velocity(U, V, rates)

    def _velocity(self, U: Tensor, V: Tensor, rates: ModeRates) -> Tensor:
        dU, dV = U @ rates.left, V @ rates.right
        if rates.outside_left is not None:
            dU = dU + rates.outside_left
        if rates.outside_right is not None:
            dV = dV + rates.outside_right
        return self.pack(rates.scaled.diagonal(dim1=-2, dim2=-1), dU, dV)

    def reference(self, y: Tensor) -> Tensor:
        """Compute dy/dt by automatic differentiation of the loss, and `reference_rates`."""
        logs, U, V = self.unpack(y)
        G = gradient_of(self._loss, self.end_to_end(y))
        G = G + G.mT if self.symmetric else G
        return self._velocity(U, V, reference_rates(logs, U, V, G, self.depth))

    def loss(self, y: Tensor) -> Tensor:
        return self._loss(self.end_to_end(y))

    def gradient(self, y: Tensor) -> Tensor:
        return gradient_of(self.loss, y)

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        logs, U, V = self.unpack(y)
        rate, dU, dV = self.unpack(velocity)
        S = logs.exp().unsqueeze(-2)
        moved = (dU * S) @ V.mT + (U * (S * rate.unsqueeze(-2))) @ V.mT + (U * S) @ dV.mT
        return -(self._loss.gradient(self.end_to_end(y)) * moved).sum((-2, -1))

    # -- what is known about it ----------------------------------------------------------

    @functools.cached_property
    def parameter_flow(self) -> Flow:
        """`LayerwiseFlow` with hidden layers as wide as the rank, or `FactorFlow`."""
        return FactorFlow(self._loss) if self.symmetric else self._layers

    @functools.cached_property
    def _layers(self) -> LayerwiseFlow:
        m, n = self._loss.shape
        return LayerwiseFlow(self._loss, [n, *[self.rank] * (self.depth - 1), m])

    def lift(self, y: Tensor) -> Tensor:
        """Build balanced layers with product W, or U diag(e^{l/2}).

        Raises
        ------
        InputError
            If singular values are so far apart that their product would lose some, or underflow.
        """
        logs, U, V = self.unpack(y)
        if bool((logs.amax(-1) - logs.amin(-1) > _LIFTED).any()) or bool((logs < _LEAST).any()):
            raise InputError(
                "singular values so small or so far apart are lost in the product of layers; "
                "descend from a larger start"
            )
        root = (logs / self.depth).exp()
        if self.symmetric:
            return U * root.unsqueeze(-2)
        middle = [torch.diag_embed(root)] * (self.depth - 2)
        first, last = root.unsqueeze(-1) * V.mT, U * root.unsqueeze(-2)
        return self._layers.pack([first, *middle, last])

    def project(self, parameters: Tensor) -> Tensor:
        """Compute singular values and vectors of the product, as `start` does."""
        if self.symmetric:
            U, sigma, _ = torch.linalg.svd(parameters, full_matrices=False)
            return self._state_of(2 * sigma.log(), U, U)
        W = self._layers.end_to_end(parameters)
        U, sigma, Vh = torch.linalg.svd(W, full_matrices=False)
        U, V = U[..., : self.rank], Vh[..., : self.rank, :].mT
        return self._state_of(sigma[..., : self.rank].log(), U, V)

    def _state_of(self, logs: Tensor, U: Tensor, V: Tensor) -> Tensor:
        """Return a state whose equal modes are those that the flow parts, of known signs."""
        if bool((logs.diff(dim=-1).abs() <= bases.EQUAL).any()):
            G = self._gradient((U * logs.exp().unsqueeze(-2)) @ V.mT)
            U, V = bases.with_gradient(logs, U, V, G)
        return self.pack(logs, *bases.signed(U, V))

    def tolerance_scale(self, y: Tensor) -> Tensor:
        """Return ‖W‖: only checks of energies use it, as coordinates have their own."""
        return self.unpack(y)[0].exp().norm(dim=-1)

    def relative_distance(self, ys: Tensor, truth: Tensor) -> Tensor:
        """Compute the larger of ‖W − W'‖/‖W'‖ and the largest |log σ − log σ'|.

        Singular vectors of close singular values may differ where W does not. Logs far below that
        of 1e-1300 count relative to their size.

        Parameters
        ----------
        ys, truth : Tensor, shape (T, ..., *state)
            States at the same times.

        Returns
        -------
        Tensor, shape (T, ...)
        """
        W, right = self.end_to_end(ys), self.end_to_end(truth)
        scale = right.norm(dim=(-2, -1)).clamp_min(torch.finfo(ys.dtype).tiny)
        logs, true_logs = self.log_singular_values(ys), self.log_singular_values(truth)
        gap = (logs - true_logs).abs() / (1e-3 * true_logs.abs()).clamp_min(1.0)
        return torch.maximum((W - right).norm(dim=(-2, -1)) / scale, gap.amax(-1))

    def coordinates(self, y0: Tensor) -> Coordinates | None:
        """Return the modes in clusters; each by itself for an ensemble."""
        if type(self) is not SpectralFlow:  # a subclass may have another right-hand side
            return None
        settings = grouping.Network(self._loss, self.depth, self.symmetric)
        return grouping.cluster_coordinates(settings, self.unpack(y0), grouped=y0.ndim == 1)

    def invariants(self, y: Tensor) -> Observables:
        """Compute UᵀU − I and VᵀV − I, zero for ever."""
        _, U, V = self.unpack(y)
        frames = {"left_orthogonality": U} | ({} if self.symmetric else {"right_orthogonality": V})
        eye = torch.eye(U.shape[-1], dtype=y.dtype, device=y.device)
        return {name: frame.mT @ frame - eye for name, frame in frames.items()}

    def invariant_scales(self, y: Tensor) -> Observables:
        return {name: torch.ones_like(y[..., 0]) for name in self.invariants(y)}

    def observables(self, y: Tensor) -> Observables:
        """Measure loss, singular values and their logs, effective rank and nuclear norm."""
        logs = self.log_singular_values(y)
        sigma = logs.exp()
        return {
            "loss": self.loss(y),
            "singular_values": sigma,
            "log_singular_values": logs,
            "effective_rank": effective_rank(sigma),
            "nuclear_norm": sigma.sum(-1),
        }

    @classmethod
    def example(cls) -> tuple[SpectralFlow, Tensor]:
        flow = cls(SquaredDistance(example_matrix()), depth=3)
        return flow, flow.start(0.5 * example_matrix().flip(-1))
