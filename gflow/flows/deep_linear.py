r"""Deep linear networks W = W_N⋯W_1, layer by layer.

With G = ∇ℓ(W),

    Ẇ_j = −(W_N⋯W_{j+1})ᵀ G (W_{j−1}⋯W_1)ᵀ

conserves the balancedness D_j = W_{j+1}ᵀW_{j+1} − W_jW_jᵀ (Arora, Cohen & Hazan 2018,
arXiv:1802.06509, eq. 7). From a balanced start, all D_j = 0, the product moves on its
own (`gflow.flows.end_to_end`), and (W_j⋯W_1)ᵀ(W_j⋯W_1) = [WᵀW]^{j/N} for every j.

Time unit: t = k·step_size of descent on the layers, with the loss as normalised.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from gflow.checks import (
    require_dtype_and_device,
    require_finite,
    require_float,
    require_number,
    require_numbers,
    require_times,
    shown,
)
from gflow.errors import InputError
from gflow.flows.array_form import ArrayForm, squared_speed
from gflow.flows.balanced_pair import (
    balanced_pair,
    pair_with_balance,
    resolved_modes,
    shared_balance,
)
from gflow.flows.base import Coordinates, Observables, ParameterFlow, RankGuard
from gflow.flows.discrete_changes import layer_changes
from gflow.flows.few_entries import few_entries, thin_observables, two_factors
from gflow.flows.hidden_modes import hidden_modes, hidden_rank, narrowed
from gflow.flows.lost_modes import round_off
from gflow.flows.of_matrix_loss import MatrixLossFlow
from gflow.flows.rank_guards import LayerGrowth, LayerGuard
from gflow.linalg.arrays import Array
from gflow.linalg.eigen import effective_rank, singular_modes, sym_power
from gflow.linalg.entries import EntryPattern
from gflow.losses import Loss, SquaredDistance

_LARGEST_PAIR = 1024  # numbers in two layers: steps solve larger ones faster than the closed form
_WORTHWHILE = 0.7  # of the size of a state: narrower layers that are this small save time

# -- pure functions ---------------------------------------------------------------


def partial_products(layers: Sequence[Array]) -> list[Array]:
    """Compute [W_1, W_2W_1, …, W_N⋯W_1] of layers [W_1, …, W_N], each (..., d_j, d_{j−1})."""
    return list(itertools.accumulate(layers, lambda product, layer: layer @ product))


def layer_product(layers: Sequence[Array]) -> Array:
    """Compute W_N⋯W_1 of layers [W_1, …, W_N], each (..., d_j, d_{j−1})."""
    return partial_products(layers)[-1]


def layerwise_rhs(
    layers: Sequence[Tensor], G: Tensor, products: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Compute Ẇ_j = −(W_N⋯W_{j+1})ᵀ G (W_{j−1}⋯W_1)ᵀ by one forward and one backward pass.

    Parameters
    ----------
    layers : sequence of Tensor
        [W_1, …, W_N], each (..., d_j, d_{j−1}).
    G : Tensor, shape (..., d_N, d_0)
        ∇ℓ at the product.
    products : sequence of Tensor, optional
        `partial_products` of the layers, where they are known already.

    Returns
    -------
    list of Tensor
        [Ẇ_1, …, Ẇ_N].

    Examples
    --------
    >>> import torch
    >>> W_1, W_2 = torch.tensor([[2.0]]), torch.tensor([[3.0]])
    >>> [rate.item() for rate in layerwise_rhs([W_1, W_2], G=torch.tensor([[-1.0]]))]
    [3.0, 2.0]
    """
    products = partial_products(layers[:-1]) if products is None else products
    rates = []
    backward = -G
    for j in range(len(layers) - 1, 0, -1):
        rates.append(backward @ products[j - 1].mT)
        backward = layers[j].mT @ backward
    rates.append(backward)
    return rates[::-1]


def balanced_layers(W: Tensor | tuple[Tensor, Tensor], dims: Sequence[int]) -> list[Tensor]:
    """Build layers with product W and all D_j = 0: Σ^{1/N}Vᵀ, Σ^{1/N}, …, UΣ^{1/N}, zero-padded.

    Singular values at round-off level count as zero, so that the rank is W's.

    Parameters
    ----------
    W : Tensor, shape (..., d_N, d_0), or a pair of Tensor
        The product, or A (..., d_N, r) and B (..., r, d_0) with W = A B.
    dims : sequence of int
        [d_0, …, d_N]; every hidden width at least the rank of W.

    Returns
    -------
    list of Tensor
        [W_1, …, W_N], each (..., d_j, d_{j−1}).

    Raises
    ------
    InputError
        If a hidden width is below the rank.

    Examples
    --------
    >>> import torch
    >>> layers = balanced_layers(torch.tensor([[4.0]]), [1, 2, 1])
    >>> [tuple(layer.shape) for layer in layers], layer_product(layers).tolist()
    ([(2, 1), (1, 2)], [[4.0]])
    """
    depth = len(dims) - 1
    if depth == 1:
        return [W if isinstance(W, Tensor) else W[0] @ W[1]]
    U, sigma, Vh = singular_modes(W) if isinstance(W, Tensor) else _modes_of_product(*W)
    r = min(*dims, sigma.shape[-1])
    if bool((sigma[..., r:] != 0).any()):
        rank = int((sigma != 0).sum(-1).max())
        raise InputError(
            f"a balanced start needs hidden widths of at least its rank, {rank}, got "
            f"{min(dims[1:-1])}; widen the hidden layers, or start from a matrix of lower rank"
        )
    U, sigma, Vh = U[..., :r], sigma[..., :r], Vh[..., :r, :]
    root = sigma.pow(1 / depth)
    cores = [root[..., None] * Vh, *[torch.diag_embed(root)] * (depth - 2), U * root[..., None, :]]
    layers = []
    for j, core in enumerate(cores):
        rows = dims[j + 1] if j == depth - 1 else r
        columns = dims[j] if j == 0 else r
        layer = sigma.new_zeros(*sigma.shape[:-1], dims[j + 1], dims[j])
        layer[..., :rows, :columns] = core
        layers.append(layer)
    return layers


def _modes_of_product(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return `singular_modes` of A B, by the modes of a matrix as small as A has columns."""
    first, R = torch.linalg.qr(left)
    second, S = torch.linalg.qr(right.mT)
    U, sigma, Vh = singular_modes(R @ S.mT)
    return first @ U, sigma, Vh @ second.mT


def _concatenated(layers: Sequence[Tensor]) -> Tensor:
    """Return layers as one vector, W_1 first, row by row."""
    return torch.cat([layer.flatten(-2) for layer in layers], dim=-1)


def matrix_observables(W: Tensor) -> Observables:
    """Compute singular values, effective rank and nuclear norm of W (..., d_N, d_0)."""
    sigma = torch.linalg.svdvals(W)
    return {
        "singular_values": sigma,
        "effective_rank": effective_rank(sigma),
        "nuclear_norm": sigma.sum(-1),
    }


# -- the flow ---------------------------------------------------------------------


class LayerwiseFlow(MatrixLossFlow, ParameterFlow):
    """Gradient flow of the layers of a deep linear network.

    Parameters
    ----------
    loss : Loss
        The loss ℓ(W) of the product W = W_N⋯W_1.
    dims : sequence of int
        [d_0, d_1, …, d_N]; d_0 and d_N must fit the loss.

    Raises
    ------
    InputError
        If a width is not a positive whole number or the ends do not fit the loss.

    Notes
    -----
    The state is all layers in one vector of length Σ d_j d_{j−1}, W_1 first, row by row.
    ``exact`` covers two layers on ½‖W − M‖² (and losses equal to it up to scale) from starts with
    W_2ᵀW_2 − W_1W_1ᵀ = λI, as ``balanced_start(W0, balance=λ)`` makes them, except those whose
    path round-off decides: beside a saddle, or with modes of sizes far apart.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> loss = SquaredDistance(torch.eye(2, dtype=torch.float64))
    >>> flow = gflow.LayerwiseFlow(loss, dims=[2, 3, 2])
    >>> y0 = flow.balanced_start(0.1 * torch.eye(2, dtype=torch.float64))
    >>> y0.shape, [tuple(layer.shape) for layer in flow.unpack(y0)]
    (torch.Size([12]), [(3, 2), (2, 3)])
    >>> round(flow.loss(y0).item(), 4)
    0.81
    """

    observable_dims: ClassVar = {
        "singular_values": ("mode",),
        "balancedness": ("layer_pair",),
        "balanced_product_defect": ("layer",),
    }

    def __init__(self, loss: Loss, dims: Sequence[int]):
        super().__init__(loss)
        given = require_numbers("dims", dims, "[d_0, ..., d_N], such as [3, 2, 1]")
        widths = [int(d) for d in given]
        if len(widths) < 2 or widths != given or min(widths) < 1:
            raise InputError(
                "dims must be at least two positive whole numbers [d_0, ..., d_N], "
                f"got {shown(list(dims))}; for example [3, 2, 1]"
            )
        if (widths[-1], widths[0]) != tuple(loss.shape):
            raise InputError(
                f"dims must run from d_0 = {loss.shape[1]} to d_N = {loss.shape[0]} "
                f"to fit the loss, got {widths}; change its ends or the loss"
            )
        self.layer_dims = tuple(widths)
        self.depth = len(widths) - 1
        self._shapes = [(widths[j + 1], widths[j]) for j in range(self.depth)]
        self._sizes = [rows * columns for rows, columns in self._shapes]
        #: The entries of W that are computed instead of W, if they are few.
        self._entries = few_entries(loss, min(widths[1:-1])) if self.depth > 1 else None

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (sum(self._sizes),)

    def pack(self, layers: Sequence[Tensor]) -> Tensor:
        """Concatenate the layers [W_1, …, W_N], each (..., d_j, d_{j−1}), to one state."""
        if not isinstance(layers, Iterable) or isinstance(layers, Tensor | np.ndarray | str):
            raise InputError(
                f"layers must be a list of tensors, got {shown(layers)}; write [W_1, ...]"
            )
        layers = [require_float("each layer", layer) for layer in layers]
        shapes = [tuple(layer.shape[-2:]) for layer in layers]
        if shapes != self._shapes:
            raise InputError(f"layers must have shapes {self._shapes}, got {shapes}")
        return _concatenated(layers)

    def unpack(self, y: Tensor) -> list[Tensor]:
        """Return the layers [W_1, …, W_N] of a state, as views."""
        parts = y.split(self._sizes, dim=-1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute W = W_N⋯W_1, shape (..., d_N, d_0)."""
        return layer_product(self.unpack(y))

    def balanced_start(self, W0: Tensor | tuple[Tensor, Tensor], balance: float = 0.0) -> Tensor:
        """Build the balanced layers with product W0, as a state.

        Parameters
        ----------
        W0 : Tensor, shape (..., d_N, d_0), or a pair of Tensor
            The product, of a rank that no hidden width is below; or A (..., d_N, r) and
            B (..., r, d_0) with W0 = A B, of which the product is not made where balance is 0.
        balance : float, optional
            λ of W_2ᵀW_2 − W_1W_1ᵀ = λI, other than 0 for two layers only: from the rank of W0 to
            d_N hidden units for λ > 0, to d_0 for λ < 0.

        Returns
        -------
        Tensor, shape (..., size)
            A solve follows hidden layers as narrow as the rank of W0.

        Raises
        ------
        InputError
            If W0 has the wrong shape, a hidden width is below its rank, or no start has this
            balance.
        """
        balance = float(require_number("balance", balance))
        if not math.isfinite(balance) or (balance != 0 and self.depth != 2):
            raise InputError(
                f"balance must be a finite number, other than 0 for two layers only, got {balance} "
                f"for depth {self.depth}; leave it out"
            )
        factors = W0 if isinstance(W0, tuple | list) else (W0,)
        if len(factors) > 2:
            raise InputError(f"the start W0 must be a matrix or a pair, got {len(factors)} tensors")
        checked = []
        for factor in factors:
            factor = require_float("the start W0", factor)
            require_finite("the start W0", factor)
            require_dtype_and_device("the start W0", factor, self.reference_tensor, "the loss")
            checked.append(factor)
        shape = (*checked[0].shape[-2:-1], *checked[-1].shape[-1:])
        inner = {checked[0].shape[-1], checked[-1].shape[-2 if checked[-1].ndim > 1 else -1]}
        if shape != tuple(self._loss.shape) or (len(checked) == 2 and len(inner) > 1):
            raise InputError(
                f"the start W0 must have shape {tuple(self._loss.shape)}, got "
                f"{' and '.join(str(tuple(x.shape)) for x in checked)}"
            )
        if balance != 0:
            W = checked[0] if len(checked) == 1 else checked[0] @ checked[1]
            return self.pack(pair_with_balance(W, self.layer_dims[1], balance))
        product = checked[0] if len(checked) == 1 else (checked[0], checked[1])
        return self.pack(balanced_layers(product, self.layer_dims))

    def entries(self, y: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Compute W at some entries, such as those not observed, without W itself.

        Parameters
        ----------
        y : Tensor, shape (..., size)
            A state or an ensemble.
        rows, columns : Tensor of int64, shape (m,)
            Which entries, from 0.

        Returns
        -------
        Tensor, shape (..., m)
        """
        if self.depth == 1:
            return self.end_to_end(y)[..., rows, columns]
        _, left, right = two_factors(self.unpack(y))
        order = torch.argsort(rows, stable=True)
        pattern = EntryPattern(rows[order], columns[order], self._loss.shape)
        values = pattern.of_product(left, right)
        return torch.empty_like(values).index_copy(-1, order, values)

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        layers = self.unpack(y)
        if self._entries is not None:
            return self._by_entries(self._entries, layers)[1]
        return self._rates(layers, partial_products(layers))

    def _by_entries(self, pattern: EntryPattern, layers: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute the loss and the velocity from a few entries of W."""
        k, left, right = two_factors(layers)
        values = pattern.of_product(left, right)
        slopes = self._loss.entries_gradient(values)
        by_left = pattern.times(slopes, right.mT)
        by_right = pattern.transposed_times(slopes, left).mT
        rates = [*layerwise_rhs(layers[:k], by_right), *layerwise_rhs(layers[k:], by_left)]
        return self._loss.of_entries(values), _concatenated(rates)

    def _rates(self, layers: list[Tensor], products: list[Tensor]) -> Tensor:
        return _concatenated(layerwise_rhs(layers, self._loss.gradient(products[-1]), products))

    def loss_and_velocity(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if type(self) is not LayerwiseFlow:
            return super().loss_and_velocity(y)
        layers = self.unpack(y)
        if self._entries is not None:
            return self._by_entries(self._entries, layers)
        products = partial_products(layers)
        return self._loss(products[-1]), self._rates(layers, products)

    def loss(self, y: Tensor) -> Tensor:
        if self._entries is not None:
            _, left, right = two_factors(self.unpack(y))
            return self._loss.of_entries(self._entries.of_product(left, right))
        return self._loss(self.end_to_end(y))

    def array_form(self) -> ArrayForm | None:
        loss = self._loss.on_arrays()
        if loss is None or type(self) is not LayerwiseFlow:
            return None
        ends = list(itertools.accumulate(self._sizes))
        slices = [slice(end - size, end) for end, size in zip(ends, self._sizes, strict=True)]
        parts = list(zip(slices, self._shapes, strict=True))

        def unpack(y: np.ndarray) -> list[np.ndarray]:
            return [y[..., part].reshape(*y.shape[:-1], *shape) for part, shape in parts]

        def rates(layers: list[np.ndarray], products: list[np.ndarray]) -> np.ndarray:
            backward = loss.gradient(products[-1])
            np.negative(backward, out=backward)
            state = np.empty((*backward.shape[:-2], ends[-1]), backward.dtype)
            views = unpack(state)
            for j in range(len(layers) - 1, 0, -1):
                np.matmul(backward, products[j - 1].swapaxes(-2, -1), out=views[j])
                backward = layers[j].swapaxes(-2, -1) @ backward
            views[0][...] = backward
            return state

        def velocity(y: np.ndarray) -> np.ndarray:
            layers = unpack(y)
            return rates(layers, partial_products(layers))

        def value(y: np.ndarray) -> float:
            return float(loss(layer_product(unpack(y))))

        def loss_and_velocity(y: np.ndarray) -> tuple[float, np.ndarray]:
            layers = unpack(y)
            products = partial_products(layers)
            return float(loss(products[-1])), rates(layers, products)

        return ArrayForm(velocity, value, squared_speed, loss_and_velocity, many=True)

    def invariants(self, y: Tensor) -> Observables:
        """Compute the matrices D_j = W_{j+1}ᵀW_{j+1} − W_jW_jᵀ as ``balancedness_j``."""
        layers = self.unpack(y)
        return {
            f"balancedness_{j + 1}": layers[j + 1].mT @ layers[j + 1] - layers[j] @ layers[j].mT
            for j in range(self.depth - 1)
        }

    def invariant_scales(self, y: Tensor) -> Observables:
        squares = [layer.square().sum(dim=(-2, -1)) for layer in self.unpack(y)]
        return {f"balancedness_{j + 1}": squares[j] + squares[j + 1] for j in range(self.depth - 1)}

    def is_balanced(self, y: Tensor) -> Tensor:
        """Whether all D_j vanish to round-off, shape (...): rank and sign of det W then stay."""
        small = torch.ones(y.shape[:-1], dtype=torch.bool, device=y.device)
        scales = self.invariant_scales(y)
        for name, D in self.invariants(y).items():
            allowed = 1e3 * torch.finfo(y.dtype).eps * scales[name]
            small &= D.norm(dim=(-2, -1)) <= allowed
        return small

    def _balanced_pair(self, y0: Tensor) -> tuple[Tensor, float, float] | None:
        """Return M, the loss's scale and λ of ½‖W − M‖² from a λ-balanced start of two layers."""
        if self.depth != 2 or y0.ndim != 1 or type(self) is not LayerwiseFlow:
            return None
        distance, layers = self._loss.as_squared_distance(), self.unpack(y0)
        balance = None if distance is None else shared_balance(layers)
        if distance is None or balance is None:
            return None
        M = distance[0].double()
        modes = resolved_modes(layers[0].double(), layers[1].double(), M, balance)
        rank = hidden_rank(layers, round_off(y0, max(self.layer_dims)))
        return (*distance, balance) if modes is not None and modes.shape[1] == rank else None

    def closed_form(self, y0: Tensor) -> str | None:
        if y0.shape[-1] > _LARGEST_PAIR:
            return None
        found = self._balanced_pair(y0)
        return found and f"two-layer matrix Riccati solution, balance {found[2]:.6g}"

    def exact(self, ts: Tensor, y0: Tensor) -> Tensor:
        y0 = require_float("a state", y0)
        self.check_state(y0)
        found = self._balanced_pair(y0)
        if found is None:
            return super().exact(ts, y0)
        M, scale, balance = found
        first, second = self.unpack(y0)
        times = require_times(ts).to(y0.device) * scale
        return self.pack(balanced_pair(first, second, M, balance, times))

    def coordinates(self, y0: Tensor) -> Coordinates | None:
        """Return hidden layers as narrow as the rank of a start whose rank its widths exceed."""
        if self.depth == 1 or y0.ndim > 1 or type(self) is not LayerwiseFlow:
            return None
        layers = self.unpack(y0)
        rank = hidden_rank(layers, round_off(y0, max(self.layer_dims)))
        if not 0 < rank < min(self.layer_dims):
            return None
        narrow_layers, widened = narrowed(layers, hidden_modes(layers), rank)
        narrow = LayerwiseFlow(self._loss, [self.layer_dims[0], *map(len, narrow_layers)])
        pairs = zip(widened(narrow_layers), layers, strict=True)
        # Zeros stay exact zeros: narrower layers are for speed alone.
        are_zeros = all(torch.equal(a, b) for a, b in pairs)
        if are_zeros and narrow.state_shape[0] > _WORTHWHILE * y0.numel():
            return None
        return Coordinates(
            narrow, narrow.pack(narrow_layers), lambda y: self.pack(widened(narrow.unpack(y)))
        )

    def discrete_changes(self, ts: Tensor, ys: Tensor) -> Observables:
        if self.depth == 1 or self._entries is not None:
            return {}
        balanced = self.is_balanced(ys[0])
        return layer_changes(ts, self.unpack(ys), self._loss.gradient, balanced)

    def in_singular_coordinates(self, y0: Tensor) -> str:
        other = self.depth == 1 or type(self) is not LayerwiseFlow or self._entries is not None
        if other or not bool(self.is_balanced(y0).all()):
            return ""
        return f"SpectralFlow(loss, depth={self.depth})"

    def rank_guard(self, y0: Tensor, rtol: float) -> RankGuard | None:
        if self.depth == 1 or type(self) is not LayerwiseFlow or self._entries is not None:
            return None
        if not bool(self.is_balanced(y0)):
            return None
        growth = LayerGrowth(self._loss.gradient, self.end_to_end(y0))
        return LayerGuard(self, functools.partial(LayerwiseFlow, self._loss), y0, rtol, growth)

    def neurons(self, y: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.depth == 1:
            return None
        first = self.unpack(y)[0]
        return first, first.new_ones(first.shape[-2])

    def describe(self) -> str:
        widths = [self._shapes[0][1], *(shape[0] for shape in self._shapes)]
        return f"{self._loss!r}, widths {', '.join(map(str, widths))}"

    def observables(self, y: Tensor) -> Observables:
        """Measure loss, singular values, effective rank, nuclear norm and balancedness ‖D_j‖_F.

        ``balanced_product_defect`` is the relative defect of
        (W_j⋯W_1)ᵀ(W_j⋯W_1) = [WᵀW]^{j/N} for each j.
        """
        defects = [D.norm(dim=(-2, -1)) for D in self.invariants(y).values()]
        if self._entries is not None:
            _, left, right = two_factors(self.unpack(y))
            balancedness = {"balancedness": torch.stack(defects, dim=-1)}
            return {"loss": self.loss(y), **thin_observables(left, right), **balancedness}
        W = self.end_to_end(y)
        observables = {"loss": self._loss(W), **matrix_observables(W)}
        if self.depth > 1:
            observables["balancedness"] = torch.stack(defects, dim=-1)
            observables["balanced_product_defect"] = self._product_defects(y, W)
        return observables

    def _product_defects(self, y: Tensor, W: Tensor) -> Tensor:
        gram = W.mT @ W
        product = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
        defects = []
        for j, layer in enumerate(self.unpack(y)[:-1], start=1):
            product = layer @ product
            power = sym_power(gram, j / self.depth)
            scale = power.norm(dim=(-2, -1)).clamp_min(torch.finfo(W.dtype).tiny)
            defects.append((product.mT @ product - power).norm(dim=(-2, -1)) / scale)
        return torch.stack(defects, dim=-1)

    @classmethod
    def example(cls) -> tuple[LayerwiseFlow, Tensor]:
        loss = SquaredDistance(example_matrix())
        flow = cls(loss, [3, 4, 3, 2])
        layers = [0.5 * example_matrix(*shape) for shape in flow._shapes]
        return flow, flow.pack(layers)


def example_matrix(rows: int = 2, columns: int = 3) -> Tensor:
    """Return a small matrix of full rank without symmetry, for ``example()``.

    Parameters
    ----------
    rows, columns : int
        Its shape.

    Returns
    -------
    Tensor, shape (rows, columns)
        The matrix.

    Examples
    --------
    >>> example_matrix(1, 2).shape
    torch.Size([1, 2])
    """
    i = torch.arange(rows, dtype=torch.float64)[:, None]
    j = torch.arange(columns, dtype=torch.float64)
    return torch.cos(1.0 + 2 * i + j + i * j)
