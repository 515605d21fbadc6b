r"""The flow of W = Z diag(e^{c_k} B_k) Yᵀ, whose modes are followed in clusters.

Singular vectors of equal singular values are not defined, and turn fast where two come close. So
modes are grouped: between groups the frames Z and Y turn as singular vectors do
(`gflow.flows.singular.rates`); within a group they stand still, and a small matrix B_k with
determinant of constant size takes the flow of the group, e^{c_k} its scale. A group of one mode has
B = 1. Every singular value is accurate relative to itself: those of a group are at most a factor
of a hundred or so apart, and between groups there are logarithms alone. `ClusterGuard` groups the
modes anew on the way.

The state is [a; B_1, …; Z; Y] as one vector, with c = `expanded`(a): an error of a is one of
log σ down to 1e-1300, and relative to log σ far below, so that log σ may be −1e9.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.flows.array_form import ArrayForm
from gflow.flows.base import Chart, Observables, RankGuard, ReducedFlow
from gflow.flows.jacobian import in_transform
from gflow.flows.of_matrix_loss import MatrixLossFlow
from gflow.flows.singular.rates import library, mode_rates
from gflow.losses import Loss

_LEAST_WEIGHT = 1e-4  # of perturbations, relative to the largest
_TOO_WIDE = 12.0  # logs of singular values of a cluster: the least one is lost
_DENSE = 200  # numbers of a state whose Jacobian may be decomposed
_LOGS, _BEND = 3000.0, 6.0  # logs beyond the first have errors relative to them, over the second
_NEWTON = 20  # steps; some five are needed


def expanded(a: Any) -> Any:
    """Return logs c = a ± (β/2) e^{(|a|−α)/β} of the numbers a of a state, α = 3000 and β = 6.

    Examples
    --------
    >>> expanded(np.array([-100.0, -3120.0])).round(1).tolist()
    [-100.0, -1455498706.2]
    """
    xp = library(a)
    return a + xp.copysign(_beyond(a), a)


def expansion(a: Any) -> Any:
    """Return dc/da of `expanded`.

    Examples
    --------
    >>> expansion(np.array([-100.0, -3000.0])).round(6).tolist()
    [1.0, 1.5]
    """
    return 1.0 + _beyond(a) / _BEND


def _beyond(a: Any) -> Any:
    """Return (β/2) e^{(|a|−α)/β}, which is negligible where |a| is well below α."""
    return (0.5 * _BEND) * library(a).exp((abs(a) - _LOGS) / _BEND)


def compressed(logs: Any) -> Any:
    """Return the inverse of `expanded`, by Newton's method from above.

    Examples
    --------
    >>> expanded(compressed(np.array([-1.0, -290.0, -8e8]))).round(3).tolist()
    [-1.0, -290.0, -800000000.0]
    """
    xp, size = library(logs), abs(logs)
    a = xp.minimum(size, _LOGS + _BEND * xp.log1p(2.0 / _BEND * size))
    for _ in range(_NEWTON):
        a = a - (expanded(a) - size) / expansion(a)
    return xp.sign(logs) * a


class Layout:
    """Where the numbers of a state are.

    Parameters
    ----------
    clusters : sequence of int
        The number of modes of each cluster; modes are in the order of the clusters.
    shape : tuple of int
        Of W.
    symmetric : bool
        Whether W = UUᵀ, so that Y = Z is not stored.
    """

    def __init__(self, clusters: Sequence[int], shape: tuple[int, ...], *, symmetric: bool):
        self.clusters, self.symmetric = tuple(clusters), symmetric
        self.rank = r = sum(clusters)
        self.rows, self.columns = shape
        #: First mode, number of modes and place in the state of each B_k.
        self.blocks: list[tuple[int, int, int, int]] = []
        at, first = len(clusters), 0
        for k, count in enumerate(clusters):
            if count > 1:
                self.blocks.append((k, first, count, at))
                at += count * count
            first += count
        self.frame = at
        self.second = at + self.rows * r
        self.size = self.second + (0 if symmetric else self.columns * r)
        #: Cluster of each mode.
        self.of_mode = np.repeat(np.arange(len(clusters)), clusters)
        self.apart = self.of_mode[:, None] != self.of_mode

    def frames(self, y: Any) -> tuple[Any, Any]:
        """Return Z, (..., m, r), and Y, (..., n, r), views of the state."""
        Z = y[..., self.frame : self.second].reshape(*y.shape[:-1], self.rows, self.rank)
        if self.symmetric:
            return Z, Z
        return Z, y[..., self.second :].reshape(*y.shape[:-1], self.columns, self.rank)

    def block(self, y: Any, count: int, at: int) -> Any:
        """Return a block B_k, (..., count, count), a view of the state."""
        return y[..., at : at + count * count].reshape(*y.shape[:-1], count, count)


class ClusterFlow(MatrixLossFlow, ReducedFlow):
    """The flow of W from a balanced start in the coordinates [a; B_1, …; Z; Y].

    Parameters
    ----------
    loss : Loss
    depth : int
        N ≥ 2; 2 for W = UUᵀ.
    symmetric : bool
        Whether W = UUᵀ.
    clusters : sequence of int
        The number of modes of each cluster.
    guard : callable, optional
        ``guard(flow)`` is the guard that groups modes anew.
    """

    def __init__(
        self,
        loss: Loss,
        depth: int,
        symmetric: bool,
        clusters: Sequence[int],
        guard: Callable[[ClusterFlow], RankGuard] | None = None,
    ):
        super().__init__(loss)
        self.depth, self.symmetric = depth, symmetric
        self.layout = Layout(clusters, loss.shape, symmetric=symmetric)
        self._make_guard = guard

    @property
    def dense_jacobian(self) -> bool:  # type: ignore[override]
        return self.layout.size <= _DENSE

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.layout.size,)

    @property
    def network_loss(self) -> Loss:
        """The loss ℓ(W)."""
        return self._loss

    def pack(self, logs: Tensor, U: Tensor, V: Tensor) -> Tensor:
        """Return the state of singular values and vectors, in the order of the clusters.

        Parameters
        ----------
        logs : Tensor, shape (..., r)
        U, V : Tensor, shapes (..., m, r) and (..., n, r)

        Returns
        -------
        Tensor, shape (..., size)
        """
        scales, parts, first = [], [], 0
        for count in self.layout.clusters:
            chosen = logs[..., first : first + count]
            scales.append(chosen.mean(-1, keepdim=True))
            if count > 1:
                parts.append(torch.diag_embed((chosen - scales[-1]).exp()).flatten(-2))
            first += count
        frames = [U] if self.symmetric else [U, V]
        return torch.cat(
            [compressed(torch.cat(scales, -1)), *parts, *(frame.flatten(-2) for frame in frames)],
            dim=-1,
        )

    def modes(self, y: Any) -> tuple[Any, Any, Any]:
        """Return logs of the singular values, (..., r), and singular vectors U and V."""
        logs, _, U, V, *_ = self._decomposed(y)
        return logs, U, V

    def _decomposed(self, y: Any) -> tuple[Any, ...]:
        layout, xp = self.layout, library(y)
        scales = expanded(y[..., : len(layout.clusters)])
        Z, Y = layout.frames(y)
        logs = scales[..., layout.of_mode]
        if not layout.blocks:
            return logs, scales, Z, Y, None, None
        logs = 1.0 * logs
        left = _identities(layout.rank, y)
        right = left if self.symmetric else 1.0 * left
        for _, first, count, at in layout.blocks:
            chosen = slice(first, first + count)
            u, beta, vh = xp.linalg.svd(layout.block(y, count, at))
            left[..., chosen, chosen] = u
            if not self.symmetric:
                right[..., chosen, chosen] = vh.mT
            logs[..., chosen] += xp.log(beta)
        return logs, scales, Z @ left, Y @ right, left, right

    def _gradient(self, W: Any, gradient: Callable[[Any], Any]) -> Any:
        G = gradient(W)
        return G + G.mT if self.symmetric else G

    def _velocity(self, y: Any, gradient: Callable[[Any], Any]) -> Any:
        layout, xp = self.layout, library(y)
        logs, scales, U, V, left, right = self._decomposed(y)
        W = (U * xp.exp(logs)[..., None, :]) @ V.mT
        apart = layout.apart if xp is np else torch.as_tensor(layout.apart, device=y.device)
        rates = mode_rates(logs, U, V, self._gradient(W, gradient), self.depth, apart)
        velocity = xp.empty_like(y)
        growth = xp.diagonal(rates.scaled, 0, -2, -1)
        slowed = expansion(y[..., : len(layout.clusters)])
        if not layout.blocks:
            velocity[..., : layout.rank] = growth / slowed
        else:
            first = 0
            for k, count in enumerate(layout.clusters):
                mean = growth[..., first : first + count].mean(-1)
                velocity[..., k] = mean / slowed[..., k]
                first += count
        for k, first, count, at in layout.blocks:
            chosen = slice(first, first + count)
            inner = logs[..., chosen] - scales[..., k, None]
            larger = xp.maximum(inner[..., :, None], inner[..., None, :])
            D = rates.scaled[..., chosen, chosen] * xp.exp(larger)
            mean = growth[..., chosen].mean(-1)[..., None]
            D = D - _diagonal(mean * xp.exp(inner))
            rate = left[..., chosen, chosen] @ D @ right[..., chosen, chosen].mT
            velocity[..., at : at + count * count] = rate.reshape(*y.shape[:-1], count * count)
        frames = [(U, rates.left, rates.outside_left, left)]
        if not self.symmetric:
            frames.append((V, rates.right, rates.outside_right, right))
        at = layout.frame
        for vectors, turn, outside, within in frames:
            rate = vectors @ turn
            if outside is not None:
                rate = rate + outside
            if within is not None:
                rate = rate @ within.mT
            rate = rate.reshape(*y.shape[:-1], -1)
            velocity[..., at : at + rate.shape[-1]] = rate
            at += rate.shape[-1]
        return velocity

    @functools.cached_property
    def _arrays(self) -> ArrayForm | None:
        return self.array_form()

    def _plain(self, y: Tensor) -> bool:
        """Return whether a state can be computed with as an array, several times faster."""
        return (
            y.ndim == 1
            and type(y) is Tensor
            and y.device.type == "cpu"
            and not (y.requires_grad or in_transform())
            and self._arrays is not None
        )

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        if self._arrays is not None and self._plain(y):
            with np.errstate(all="ignore"):
                return torch.from_numpy(self._arrays.velocity(y.numpy()))
        return self._velocity(y, self.network_loss.gradient)

    def core(self, y: Any) -> Any:
        """Return diag(e^{c_k} B_k), (..., r, r)."""
        layout, xp = self.layout, library(y)
        scales = xp.exp(expanded(y[..., : len(layout.clusters)]))
        if not layout.blocks:
            return _diagonal(scales)
        core = _diagonal(scales[..., layout.of_mode])
        for k, first, count, at in layout.blocks:
            chosen = slice(first, first + count)
            core[..., chosen, chosen] = layout.block(y, count, at) * scales[..., k, None, None]
        return core

    def end_to_end(self, y: Any) -> Any:
        Z, Y = self.layout.frames(y)
        return Z @ self.core(y) @ Y.mT

    def loss(self, y: Tensor) -> Tensor:
        return self.network_loss(self.end_to_end(y))

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        if self._arrays is not None and self._plain(y) and self._plain(velocity):
            with np.errstate(all="ignore"):
                return y.new_tensor(self._arrays.dissipation(y.numpy(), velocity.numpy()))
        G = self.network_loss.gradient(self.end_to_end(y))
        return self._dissipation(y, velocity, G)

    def _dissipation(self, y: Any, velocity: Any, G: Any) -> Any:
        """Return −⟨G, Ẇ⟩ = −⟨ZᵀGY, core˙⟩ − ⟨GY coreᵀ, Ż⟩ − ⟨GᵀZ core, Ẏ⟩."""
        layout, xp = self.layout, library(y)
        Z, Y = layout.frames(y)
        dZ, dY = layout.frames(velocity)
        core, K = self.core(y), len(layout.clusters)
        a, scales = y[..., :K], None
        scales = xp.exp(expanded(a))
        rates = velocity[..., :K] * expansion(a)
        change = core * rates[..., layout.of_mode][..., None, :]
        for k, first, count, at in layout.blocks:
            chosen = slice(first, first + count)
            of_block = layout.block(velocity, count, at) * scales[..., k, None, None]
            change[..., chosen, chosen] += of_block
        moved = dZ @ core @ Y.mT + Z @ change @ Y.mT + Z @ core @ dY.mT
        return -(G * moved).sum((-2, -1))

    def array_form(self) -> ArrayForm | None:
        loss = self.network_loss.on_arrays()
        if loss is None or type(self) is not ClusterFlow:
            return None

        last: list[tuple[np.ndarray, np.ndarray]] = []

        def velocity(y: np.ndarray) -> np.ndarray:
            def gradient(W: np.ndarray) -> np.ndarray:
                G: np.ndarray = loss.gradient(W)
                last[:] = [(y.copy(), G)]
                return G

            return self._velocity(y, gradient)

        def dissipation(y: np.ndarray, v: np.ndarray) -> float:
            """Return the dissipation; a solver asks for it behind the velocity at the same y."""
            G = next((G for state, G in last if np.array_equal(state, y)), None)
            G = loss.gradient(self.end_to_end(y)) if G is None else G
            return float(self._dissipation(y, v, G))

        def value(y: np.ndarray) -> float:
            return float(loss(self.end_to_end(y)))

        return ArrayForm(
            velocity,
            value,
            dissipation,
            lambda y: (value(y), velocity(y)),
        )

    def tolerance_scale(self, y: Tensor) -> Tensor:
        """Return 1: errors of logs, of vectors and of blocks are measured as they are."""
        return torch.ones_like(y[..., 0])

    def perturbations(self, y: Any) -> Chart:
        """Return perturbations as long as those of balanced layers, which turn the frames alone.

        The flow of the layers is a gradient, so that its Jacobian is symmetric. With w = σ^{1/N}, a
        perturbation of log σ has the length w/√N of it, and a turn of two singular vectors that of
        the larger w. A log beyond the first 3000 counts as its a does: a mode of e^−8000 follows
        the others, and moves nothing, but with weights of at least 1e-4 in its log it would look as
        if what moves it grew.
        """
        layout, xp = self.layout, library(y)
        scales = expanded(y[..., : len(layout.clusters)])
        w = xp.exp((scales - xp.amax(scales, -1)[..., None]) / self.depth)
        w = xp.maximum(w, xp.full_like(w, _LEAST_WEIGHT))
        of_log = w * (0.5 if self.symmetric else self.depth**-0.5)
        of_mode = w[..., layout.of_mode]
        turn = xp.maximum(of_mode[..., :, None], of_mode[..., None, :]) * 0.5**0.5
        apart = layout.apart if xp is np else torch.as_tensor(layout.apart, device=y.device)

        def weighted(v: Any, power: float) -> Any:
            out = xp.empty_like(v)
            K = len(layout.clusters)
            out[..., :K] = v[..., :K] * of_log**power
            for k, _, count, at in layout.blocks:
                part = slice(at, at + count * count)
                out[..., part] = v[..., part] * of_log[..., k, None] ** power
            at = layout.frame
            for Z, dZ in zip(layout.frames(y), layout.frames(v), strict=True):
                inside = Z.mT @ dZ
                skew = 0.5 * (inside - inside.mT) * turn**power * apart
                rate = Z @ skew
                if Z.shape[-2] > layout.rank:
                    rate = rate + (dZ - Z @ inside) * of_mode[..., None, :] ** power
                rate = rate.reshape(*v.shape[:-1], -1)
                out[..., at : at + rate.shape[-1]] = rate
                at += rate.shape[-1]
                if self.symmetric:
                    break
            return out

        return Chart(lambda v: weighted(v, -1.0), lambda v: weighted(v, 1.0), size=1.0)

    def rank_guard(self, y0: Tensor, rtol: float) -> RankGuard | None:
        return None if self._make_guard is None else self._make_guard(self)

    def discrete_changes(self, ts: Tensor, ys: Tensor) -> Observables:
        """Say whether a cluster has become so wide that its least mode is lost, without a guard."""
        inner = torch.stack([self.modes(y)[0] for y in ys])
        parts = inner.split(list(self.layout.clusters), dim=-1)
        width = torch.stack([part.amax(-1) - part.amin(-1) for part in parts], -1)
        return {"resolved_rank": (width > _TOO_WIDE).any(-1).any(0).to(ys)}

    def states(self, y: Tensor) -> Tensor:
        """Return states of `SpectralFlow`, [log σ; U; V]."""
        logs, U, V = self.modes(y)
        frames = [U] if self.symmetric else [U, V]
        return torch.cat([logs, *(frame.flatten(-2) for frame in frames)], dim=-1)


def _identities(size: int, y: Any) -> Any:
    """Return an identity matrix for each state, (..., size, size)."""
    shape = (*y.shape[:-1], size)
    if isinstance(y, np.ndarray):
        return _diagonal(np.ones(shape, y.dtype))
    return torch.diag_embed(torch.ones(shape, dtype=y.dtype, device=y.device))


def _diagonal(values: Any) -> Any:
    """Return diagonal matrices, (..., r, r)."""
    if isinstance(values, np.ndarray):
        return values[..., None] * np.eye(values.shape[-1], dtype=values.dtype)
    return torch.diag_embed(values)
