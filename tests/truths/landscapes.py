"""Sums of scalar landscapes, turned at random: valleys, saddles and hills with closed forms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import gflow
from gflow.flows.base import ParameterFlow
from tests.helpers import randn
from tests.truths.case import Truth


class Landscape(ParameterFlow):
    """φ(Qu) = Σ ½λ(u_i − c_i)² + Σ ¼μ(u_j² − 1)²: quadratic coordinates, then double wells.

    Parameters
    ----------
    rates, centres : Tensor, shape (k,)
        Of the quadratic coordinates; a negative rate is a hill.
    wells : Tensor, shape (m,)
        Rates μ at which the double wells are left.
    Q : Tensor, shape (k + m, k + m), or None
        A rotation.
    """

    def __init__(self, rates: Tensor, centres: Tensor, wells: Tensor, Q: Tensor | None = None):
        self.rates, self.centres, self.wells, self.Q = rates, centres, wells, Q

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (len(self.rates) + len(self.wells),)

    @property
    def reference_tensor(self) -> Tensor:
        return self.rates

    def loss(self, y: Tensor) -> Tensor:
        u = y if self.Q is None else y @ self.Q
        k = len(self.rates)
        wells = 0.25 * self.wells * (u[..., k:].square() - 1).square()
        return (0.5 * self.rates * (u[..., :k] - self.centres).square()).sum(-1) + wells.sum(-1)

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        u = y if self.Q is None else y @ self.Q
        k = len(self.rates)
        v = u[..., k:]
        rate = torch.cat([self.rates * (self.centres - u[..., :k]), self.wells * (v - v**3)], -1)
        return rate if self.Q is None else rate @ self.Q.mT

    @classmethod
    def example(cls) -> tuple[Landscape, Tensor]:
        ones = torch.ones(1, dtype=torch.float64)
        return cls(ones, ones, ones), torch.tensor([2.0, 0.1], dtype=torch.float64)


class Point(torch.nn.Module):
    """A module whose output is its parameter."""

    def __init__(self, w: Tensor):
        super().__init__()
        self.w = torch.nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        return self.w


def rotation(n: int, seed: int) -> Tensor:
    """Return a random rotation."""
    return torch.linalg.qr(randn(n, n, seed=seed))[0]


def well(b: Tensor, mu: Tensor, t: Tensor) -> Tensor:
    """Compute u(t) of u̇ = μ(u − u³) from b, without overflow."""
    # u = b/√(b² + (1 − b²) e^{−2μt})
    return b / (b.square() + (1 - b.square()) * torch.exp(-2 * mu * t)).clamp_min(1e-320).sqrt()


def landscape(
    *,
    rates: list[float],
    wells: list[float],
    starts: list[list[float]],
    hills: list[float] = (),
    hill_start: float = 1e-8,
    turn: int | None = None,
    network: bool = False,
    single: bool = False,
) -> Truth:
    """Make a landscape with valleys at 1, double wells and hills.

    Parameters
    ----------
    rates : list of float
        Of the valleys, which start at 2.
    wells : list of float
        Rates at which the double wells are left.
    starts : list of list of float
        For each member the starts in the double wells; one member is no ensemble.
    hills : list of float
        Growth rates of the hills, which start at ``hill_start``.
    hill_start : float
    turn : int, optional
        The seed of a rotation.
    network : bool
        Whether the flow is a `NetworkFlow` of a criterion.
    single : bool
        Whether float32.
    """
    dtype = torch.float32 if single else torch.float64
    growth, mu = torch.tensor(list(hills)).double(), torch.tensor(list(wells)).double()
    lam = torch.cat([torch.tensor(list(rates)).double(), -growth])
    centres = torch.cat([torch.ones(len(rates)), torch.zeros(len(hills))]).double()
    b = torch.tensor(starts).double().reshape(len(starts), len(wells))
    n = len(lam) + len(mu)
    Q = None if turn is None else rotation(n, turn)
    flow = Landscape(
        lam.to(dtype), centres.to(dtype), mu.to(dtype), None if Q is None else Q.to(dtype)
    )
    first = torch.cat([torch.full((len(rates),), 2.0), torch.full((len(hills),), hill_start)])
    u0 = torch.cat([first.double().expand(len(b), -1), b], dim=1)
    y0 = (u0 if Q is None else u0 @ Q.mT).to(dtype)
    if Q is None and single:  # the truth of what is stored
        u0, b = y0.double(), y0.double()[:, len(lam) :]
        lam, mu = flow.rates.double(), flow.wells.double()
    if len(b) == 1:
        u0, y0, b = u0[0], y0[0], b[0]

    def at(elapsed: list[float]) -> Tensor:
        t = torch.tensor(elapsed, dtype=torch.float64).reshape(-1, *[1] * u0.ndim)
        quadratic = centres + (u0[..., : len(lam)] - centres) * torch.exp(-lam * t)
        u = torch.cat([quadratic, well(b, mu, t).expand(*quadratic.shape[:-1], len(mu))], dim=-1)
        return u if Q is None else u @ Q.mT

    # Exits, and for hills the time at which they reach 1.
    exits = [-math.log(x) / m for row in starts for x, m in zip(row, wells, strict=True) if x > 0]
    reach = [-math.log(hill_start) / g for g in hills]
    end = min([1.2 * max(exits, default=0.0) + 8.0 / min(wells, default=1.0), *reach])
    ts = {
        0.0,
        end,
        0.3 * end,
        *(t for e in exits for t in (0.5 * e, e - 1, e, e + 2) if 0 < t < end),
    }
    ts = sorted(ts)
    if len(ts) > 14:
        ts = [0.0, *ts[1 : -1 : max(1, len(ts) // 10)], ts[-1]]
    least = min([abs(x) for row in starts for x in row if x] + ([hill_start] if hills else [1.0]))
    round_off = 0.0 if Q is None else 100 * torch.finfo(dtype).eps / least
    stiffness = float(lam.abs().max() if len(lam) else 1.0) * end
    if network:
        flow = _as_network(flow, y0 if y0.ndim == 1 else y0[0])
    return Truth(flow, y0, ts, at, batch=y0.ndim - 1, stiffness=stiffness, round_off=round_off)


def _as_network(flow: Landscape, w: Tensor) -> gflow.NetworkFlow:
    zero = torch.zeros(1, dtype=w.dtype)
    return gflow.NetworkFlow(Point(w.clone()), lambda w, _: flow.loss(w), zero, zero)
