"""Guards of the rank of paths: modes below resolution are left out, and layers balanced anew.

A guard sees accepted states. Where a mode has fallen below a fraction of the tolerance, or near
round-off, and decays, the solve goes on without it (`gflow.flows.lost_modes`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gflow.flows.base import Coordinates, Correction, RankGuard
from gflow.flows.hidden_modes import (
    DANGER,
    Hidden,
    balanced_anew,
    hidden_modes,
    hidden_rank,
    hidden_stacks,
    modes_in_danger,
    narrowed,
    relative_unbalance,
)
from gflow.flows.lost_modes import (
    Outside,
    determinant_sign,
    growth_outside,
    rank_above,
    round_off,
)
from gflow.linalg.eigen import scaled_singular_values

_BELOW_TOLERANCE = 1e-2  # of rtol: modes this small are left out once they decay
_UNRELIABLE = 0.3  # of rtol: singular values this small are those of errors
_UNRELIABLE_DEFECT = 0.1  # unbalance of a mode, relative, at which its layers are those of errors
_FLIPPED = 30.0  # of rtol: modes this small are left out where round-off took them through zero
_FLOOR = 1e3  # of round-off: modes this small are no longer followed reliably
_LARGEST_RTOL = 0.01  # above it the largest mode would be small, too


def _leave_out_below(rtol: float, y: Tensor) -> float:
    """Return the relative size below which modes that decay are left out."""
    return max(_BELOW_TOLERANCE * rtol, _FLOOR * torch.finfo(y.dtype).eps)


def _blurred_below(rtol: float, y: Tensor) -> float:
    """Return the relative size below which round-off blurs a mode by more than errors may be."""
    eps = torch.finfo(y.dtype).eps
    return 2 * eps / max(min(1e3 * rtol, 0.05), 1e4 * eps)


def _relative_least(sizes: Tensor, rank: int) -> float:
    """Return the size of the mode of that number, relative to the largest."""
    return float(sizes[rank - 1] / sizes[0]) if 0 < rank <= len(sizes) else 1.0


def _margin(size: float, below: float) -> float:
    """Return the logarithmic distance of a size from where modes are left out, at least 0."""
    return max(math.log(max(size, 1e-300) / below), 0.0)


class LayerGuard(RankGuard):
    """Of balanced layers of a deep linear network.

    Parameters
    ----------
    flow : LayerwiseFlow
        Of depth 2 at least.
    make : callable
        ``make(dims)`` is the flow of other widths.
    y0 : Tensor, shape (size)
        The start, balanced.
    rtol : float
        Relative tolerance of the solve.
    growth : LayerGrowth
        Of the modes of W that are left out.
    """

    def __init__(
        self,
        flow: Any,  # LayerwiseFlow, which imports this module
        make: Callable[[list[int]], Any],
        y0: Tensor,
        rtol: float,
        growth: LayerGrowth,
    ):
        self._flow, self._make, self._growth = flow, make, growth
        self._rtol = rtol = min(rtol, _LARGEST_RTOL)
        self._below, self._blurred = _leave_out_below(rtol, y0), _blurred_below(rtol, y0)
        noise = round_off(y0, max(flow.layer_dims))
        self._rank = hidden_rank(flow.unpack(y0), noise)

    def check(self, y: Tensor) -> Coordinates | Correction | None:
        layers = self._flow.unpack(y)
        modes = hidden_modes(layers)
        defects = torch.cat([relative_unbalance(layers, j, m) for j, m in enumerate(modes)])
        defect = float(defects.max())
        self.margin = 0.0
        # A mode near the tolerance is left out once the errors of a step are near its size.
        near = _FLIPPED * self._rtol if defect > _UNRELIABLE_DEFECT else self._below
        below = max(near, self._below)
        rank = max(rank_above(mode.sizes, below) for mode in modes)
        size = min(_relative_least(mode.sizes, self._rank) for mode in modes)
        if size < _FLIPPED * self._rtol and self._growth.flipped(layers, modes, self._rank):
            return self._without(layers, modes, self._rank - 1)
        if 0 < rank < self._rank and self._decay(y, rank, modes):
            return self._without(layers, modes, rank)
        self.blurred_growth = 0.0
        seen = max(rank_above(mode.sizes, self._blurred) for mode in modes)
        if 0 < seen < self._rank:
            sizes = (scaled_singular_values(stack) for stack in hidden_stacks(layers))
            if max(rank_above(size, self._blurred) for size in sizes) < self._rank:
                floor = self._blurred * float(modes[0].sizes[0])
                growth = self._growth(self._flow.end_to_end(y), seen)
                self.blurred_growth = max(floor ** (self._flow.depth - 2) * float(growth), 0.0)
        if defect > DANGER:
            chosen = modes_in_danger(layers, modes)
            flow = self._flow
            return Correction(lambda y: flow.pack(balanced_anew(flow.unpack(y), chosen)))
        room = 0.5 * math.log(DANGER / max(defect, 1e-30))
        self.margin = min(_margin(size, max(_FLIPPED * self._rtol, self._below)), room)
        return None

    def _decay(self, y: Tensor, rank: int, modes: list[Hidden]) -> bool:
        layers, rates = self._flow.unpack(y), self._flow.unpack(self._flow(0.0, y))
        change = y.new_zeros(self._rank - rank)
        for j, mode in enumerate(modes):
            h = mode.directions[rank : self._rank]
            change += ((h @ layers[j]) * (h @ rates[j])).sum(1)
            change += ((layers[j + 1] @ h.mT) * (rates[j + 1] @ h.mT)).sum(0)
        return bool((change < 0).all())

    def _without(self, layers: list[Tensor], modes: list[Hidden], rank: int) -> Coordinates:
        flow = self._flow
        new, widened = narrowed(layers, modes, rank)
        narrow = self._make([new[0].shape[1], *(layer.shape[0] for layer in new)])

        def from_states(states: Tensor) -> Tensor:
            return narrow.pack(narrowed(flow.unpack(states), modes, rank)[0])

        size = max(float(mode.sizes[rank]) for mode in modes if len(mode.sizes) > rank) / 2**0.5
        start = narrow.pack(new)
        return Coordinates(
            narrow,
            start,
            lambda states: flow.pack(widened(narrow.unpack(states))),
            note=f"hidden layers of rank {rank}",
            outside=Outside(size, flow.depth, lambda W: self._growth(W, rank)),
            guard=LayerGuard(narrow, self._make, start, self._rtol, self._growth),
            from_states=from_states,
        )


class MatrixGuard(RankGuard):
    """Of the end-to-end matrix: it goes on as balanced layers as narrow as the rank left.

    Parameters
    ----------
    flow : EndToEndFlow
        Of depth 2 at least.
    layers : callable
        ``layers(W, rank)`` is the layerwise flow of hidden widths rank, its constructor by widths,
        and its balanced start.
    y0 : Tensor, shape (d_N, d_0)
        The start.
    rtol : float
        Relative tolerance of the solve.
    growth : LayerGrowth
        As in `LayerGuard`.
    """

    def __init__(
        self,
        flow: Any,  # EndToEndFlow, which imports this module
        layers: Callable[[Tensor, int], tuple[Any, Callable[[list[int]], Any], Tensor]],
        y0: Tensor,
        rtol: float,
        growth: LayerGrowth,
    ):
        self._flow, self._layers, self._growth = flow, layers, growth
        self._rtol = rtol = min(rtol, _LARGEST_RTOL)
        self._below, self._blurred = _leave_out_below(rtol, y0), _blurred_below(rtol, y0)
        self._rank = rank_above(torch.linalg.svdvals(y0), round_off(y0, max(y0.shape)))

    def check(self, y: Tensor) -> Coordinates | None:
        flow = self._flow
        U, sigma, Vh = torch.linalg.svd(y, full_matrices=False)
        rank = rank_above(sigma, max(_UNRELIABLE * self._rtol, self._below))
        size = _relative_least(sigma, self._rank)
        flipped = size < _FLIPPED * self._rtol and self._growth.flipped([y], [], self._rank)
        rates = (U.mT @ flow(0.0, y) @ Vh.mT).diagonal()
        decays = rates < 0
        self.blurred_growth, seen = 0.0, rank_above(sigma, self._blurred)
        if 0 < seen < self._rank:
            floor = (self._blurred * float(sigma[0])) ** (1 - 2 / flow.depth)
            growth = float(self._growth(y, seen))
            self.blurred_growth = max(flow.depth * floor * growth, 0.0)
        if not (0 < rank < self._rank or flipped):
            self.margin = _margin(size, max(_FLIPPED * self._rtol, self._below))
            return None
        self.margin = 0.0
        rank = min(rank, self._rank - 1)
        if not flipped and not bool(decays[rank : self._rank].all()):
            return None
        narrow, make, start = self._layers(y, rank)
        # Round-off may show a mode smaller than it is.
        noise = max(y.shape) * torch.finfo(y.dtype).eps * float(sigma[0])
        size = max(float(sigma[rank]), noise) ** (1 / flow.depth)
        return Coordinates(
            narrow,
            start,
            narrow.end_to_end,
            tolerance=1 / flow.depth,
            note=f"hidden layers of rank {rank}",
            outside=Outside(size, flow.depth, lambda W: self._growth(W, rank)),
            guard=LayerGuard(narrow, make, start, self._rtol, self._growth),
        )


class FactorGuard(RankGuard):
    """Of the factor U of W = UUᵀ: it goes on with fewer columns.

    Parameters
    ----------
    flow : FactorFlow
    y0 : Tensor, shape (d, k)
        The start.
    rtol : float
        Relative tolerance of the solve.
    growth : callable
        ``growth(W, rank)`` is the largest eigenvalue of −2S on the directions outside.
    """

    def __init__(
        self,
        flow: Any,  # FactorFlow, which imports this module
        y0: Tensor,
        rtol: float,
        growth: Callable[[Tensor, int], Tensor],
    ):
        self._flow, self._growth = flow, growth
        self._rtol = rtol = min(rtol, _LARGEST_RTOL)
        self._below, self._blurred = _leave_out_below(rtol, y0), _blurred_below(rtol, y0)
        noise = round_off(y0, max(y0.shape))
        self._rank = rank_above(scaled_singular_values(y0), noise)

    def check(self, y: Tensor) -> Coordinates | None:
        sigma = torch.linalg.svdvals(y)
        self.blurred_growth, seen = 0.0, rank_above(sigma, self._blurred)
        if 0 < seen < self._rank:
            scaled = scaled_singular_values(y)
            if rank_above(scaled, self._blurred) < self._rank:
                growth = float(self._growth(self._flow.product(y), seen))
                self.blurred_growth = max(growth, 0.0)
        rank = rank_above(sigma, self._below)
        Vh = self._modes_that_decay(y, rank) if 0 < rank < self._rank else None
        if Vh is None:
            self.margin = _margin(_relative_least(sigma, self._rank), self._below)
            return None
        self.margin = 0.0
        kept = Vh[:rank].mT
        start = y @ kept
        return Coordinates(
            self._flow,
            start,
            lambda states: states @ kept.mT,
            note=f"{rank} columns",
            outside=Outside(float(sigma[rank]), 2, lambda W: self._growth(W, rank)),
            guard=FactorGuard(self._flow, start, self._rtol, self._growth),
            from_states=lambda states: states @ kept,
        )

    def _modes_that_decay(self, y: Tensor, rank: int) -> Tensor | None:
        """Return the right singular vectors, in rows, if all modes beyond the rank decay."""
        Vh = torch.linalg.svd(y, full_matrices=False).Vh
        rates = ((y @ Vh.mT) * (self._flow(0.0, y) @ Vh.mT)).sum(0)
        return Vh if bool((rates[rank : self._rank] < 0).all()) else None


class LayerGrowth:
    """−uᵀGv of the modes of W beyond a rank, for a path from W0.

    Parameters
    ----------
    gradient : callable
        ∇ℓ.
    W0 : Tensor, shape (d_N, d_0)
        The end-to-end matrix at the start, whose determinant keeps its sign.

    Examples
    --------
    >>> growth = LayerGrowth(lambda W: W - torch.eye(2), torch.eye(2))
    >>> growth(torch.diag(torch.tensor([1.0, 0.0])), 1).item()
    1.0
    """

    def __init__(self, gradient: Callable[[Tensor], Tensor], W0: Tensor):
        self._gradient, self._sign = gradient, determinant_sign(W0)

    def __call__(self, W: Tensor, rank: int) -> Tensor:
        """Return the growth at W of the modes beyond the rank."""
        return growth_outside(W, self._gradient(W), rank, self._sign)

    def flipped(self, layers: Sequence[Tensor], modes: Sequence[Hidden], rank: int) -> bool:
        """Return whether the product of layers has a determinant of the other sign."""
        if not self._sign or rank != layers[0].shape[1]:
            return False
        square = narrowed(layers, modes, rank)[0]
        signs = [torch.linalg.slogdet(layer).sign for layer in square]
        return bool(torch.stack(signs).prod() == -self._sign)
