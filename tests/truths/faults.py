"""Faults injected into right-hand sides and into solvers, to be caught by the certificate.

A faulty right-hand side is a flow whose velocity is not the gradient flow of its loss. A faulty
solver follows the right flow by small steps of RK4 and then hands on something else: other states,
or the right states at the wrong times. Its energy is the integral of the dissipation over the time
that it claims, at the states that it hands on; or, where ``consistent``, φ(y₀) − φ(y), as if the
fault were in the steps of states and energy alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

import gflow
from gflow.flows import EndToEndFlow, FactorFlow, Flow, LayerwiseFlow, ProductFlow
from gflow.losses import SquaredDistance
from gflow.solvers import methods
from gflow.solvers.base import Solver
from gflow.solvers.problem import EXPLODED, Problem, Stop
from tests.helpers import altered
from tests.truths.landscapes import landscape

# -- right-hand sides -------------------------------------------------------------


def _first_entry(flow: Flow, y: Tensor) -> Tensor:
    mask = torch.ones(y.shape[y.ndim - flow.state_ndim :], dtype=y.dtype)
    mask.view(-1)[0] = 0.0
    return mask


def _transposed(flow: Flow, t: float, y: Tensor) -> Tensor:
    """The velocity with its entries in the order of the transposed state."""
    velocity = flow(t, y)
    if flow.state_ndim == 2 and y.shape[-1] != y.shape[-2]:
        return velocity.mT.reshape(y.shape)
    return velocity.mT if flow.state_ndim == 2 else velocity.flip(-1)


class _Stale:
    """The velocity at the state of some evaluations before."""

    def __init__(self, delay: int = 6):
        self.delay, self.states = delay, []

    def __call__(self, flow: Flow, t: float, y: Tensor) -> Tensor:
        self.states.append(y.clone())
        old = self.states[max(0, len(self.states) - 1 - self.delay)]
        return flow(t, old if old.shape == y.shape else y)


def _frozen(flow: Flow, t: float, y: Tensor) -> Tensor:
    """The velocity without its largest entry."""
    velocity = flow(t, y)
    flat = velocity.flatten(y.ndim - flow.state_ndim)
    largest = flat.abs().argmax(dim=-1, keepdim=True)
    return flat.scatter(-1, largest, 0.0).view(velocity.shape)


RIGHT_HAND_SIDES: dict[str, Callable[[], Callable[[Flow, float, Tensor], Tensor]]] = {
    "sign": lambda: lambda flow, t, y: -flow(t, y),
    "factor 1.01": lambda: lambda flow, t, y: 1.01 * flow(t, y),
    "factor 2": lambda: lambda flow, t, y: 2 * flow(t, y),
    "transpose": lambda: _transposed,
    "missing term": lambda: lambda flow, t, y: flow(t, y) * _first_entry(flow, y),
    "frozen mode": lambda: _frozen,
    "stale velocity": _Stale,
    "wrong time unit": lambda: lambda flow, t, y: flow(t, y) / 7,
    "stop too early": lambda: lambda flow, t, y: flow(t, y) * float(t < 0.3),
}


def faulty_flow(flow: Flow, fault: str) -> Flow:
    """Return the flow with a fault of `RIGHT_HAND_SIDES` in its velocity."""
    faulty = altered(flow, RIGHT_HAND_SIDES[fault]())
    faulty.closed_form = lambda y0: None
    return faulty


# -- plateaus ---------------------------------------------------------------------


@dataclass
class Plateau:
    """A flow that leaves a plateau along known entries of its state.

    Attributes
    ----------
    flow : Flow
    y0 : Tensor
    ts : list of float
    escape : Tensor
        Of the shape of the state: 1 at the entries that leave, 0 elsewhere.
    """

    flow: Flow
    y0: Tensor
    ts: list[float]
    escape: Tensor

    def frozen(self, flow: Flow, t: float, y: Tensor) -> Tensor:
        """The velocity without what leaves."""
        return flow(t, y) * (1 - self.escape)

    def late(self, flow: Flow, t: float, y: Tensor) -> Tensor:
        """The velocity, half as fast in what leaves until it has grown to a hundredth."""
        slow = (flow.norm(y * self.escape) < 1e-2).to(y)
        slow = slow.reshape(*slow.shape, *[1] * flow.state_ndim)
        return flow(t, y) * (1 - 0.5 * slow * self.escape)


def plateaus() -> dict[str, Plateau]:
    """Return plateaus of four kinds of flows, each left after its first mode was learned."""
    saddle = landscape(rates=[30.0], wells=[1.0], starts=[[1e-6]])
    network = landscape(rates=[30.0], wells=[1.0], starts=[[1e-6]], network=True)
    M = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    second = torch.diag(torch.tensor([0.0, 1.0], dtype=torch.float64))
    factor = FactorFlow(SquaredDistance(M))
    layers = LayerwiseFlow(SquaredDistance(M), [2, 2, 2, 2])
    end_to_end = EndToEndFlow(SquaredDistance(M), 3)
    end_to_end.closed_form = lambda y0: None
    small = torch.eye(2, dtype=torch.float64)
    layer_times, factor_times = [0.0, 40.0, 300.0, 500.0], [0.0, 3.0, 7.0, 12.0]
    return {
        "saddle": Plateau(saddle.flow, saddle.y0, saddle.ts, torch.tensor([0.0, 1.0])),
        "network": Plateau(network.flow, network.y0, network.ts, torch.tensor([0.0, 1.0])),
        "FactorFlow": Plateau(factor, 1e-5 * small, factor_times, second),
        "LayerwiseFlow": Plateau(
            layers,
            layers.pack([5e-3 * small] * 3),
            layer_times,
            layers.pack([second] * 3),
        ),
        "EndToEndFlow": Plateau(end_to_end, 1e-6 * small, layer_times, second),
    }


# -- solvers ----------------------------------------------------------------------


@dataclass
class FaultySolver(Solver):
    """RK4 that hands on what a fault makes of the right path.

    Attributes
    ----------
    clock : callable
        Elapsed time, as a share of the length of the path, → that of the state handed on.
    change : callable
        (flow, y0, y) → the state handed on.
    rhs : callable
        (flow, t, y) → the velocity that it follows.
    steps : int
        Of RK4 between two requested times.
    consistent : bool
        Whether the energy is that of the states, whatever the time.
    """

    names = ("faulty",)
    clock: Callable[[float], float] = lambda share: share
    change: Callable[[Flow, Tensor, Tensor], Tensor] = lambda flow, y0, y: y
    rhs: Callable[[Flow, float, Tensor], Tensor] = lambda flow, t, y: flow(t, y)
    steps: int = 25
    consistent: bool = False

    def solve(self, problem: Problem, method: str) -> None:
        flow, y0 = problem.flow, problem.y0
        length = problem.ts[-1] - problem.ts[0]
        y, now = y0, 0.0  # the right path and its clock
        energy, rate = torch.zeros_like(problem.first_loss), flow.dissipation(y0, flow(0.0, y0))
        for a, b in zip(problem.ts[:-1], problem.ts[1:], strict=True):
            for i in range(1, self.steps + 1):
                t = b if i == self.steps else a + (b - a) * i / self.steps
                target = length * self.clock((t - problem.ts[0]) / length)
                try:
                    y, now = self._rk4(problem, y, now, target), target
                except torch.linalg.LinAlgError:  # of a state that overflowed
                    raise Stop(EXPLODED) from None
                handed = self.change(flow, y0, y)
                rate_before, rate = rate, flow.dissipation(handed, flow(t, handed))
                energy = energy + (b - a) / self.steps * 0.5 * (rate_before + rate)
                if self.consistent:
                    energy = problem.first_loss - flow.loss(handed)
                problem.accept(t, torch.cat([handed.reshape(-1), energy.reshape(-1)]))

    def _rk4(self, problem: Problem, y: Tensor, t: float, target: float) -> Tensor:
        if target == t:
            return y
        flow, h = problem.flow, target - t
        problem.rhs_evals += 4
        if not bool(torch.isfinite(y).all()):
            raise Stop(EXPLODED)
        k1 = self.rhs(flow, t, y)
        k2 = self.rhs(flow, t, y + h / 2 * k1)
        k3 = self.rhs(flow, t, y + h / 2 * k2)
        k4 = self.rhs(flow, t, y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def _late(share: float) -> float:
    """Waits from 0.3 to 0.6 of the path, and goes on from there."""
    return share if share < 0.3 else max(0.3, share - 0.3)


def _without_least_mode(flow: Flow, y0: Tensor, y: Tensor) -> Tensor:
    return _with_least_mode(flow, y0, y, 0.0)


def _with_reflected_mode(flow: Flow, y0: Tensor, y: Tensor) -> Tensor:
    return _with_least_mode(flow, y0, y, -1.0)


def _with_least_mode(flow: Flow, y0: Tensor, y: Tensor, factor: float) -> Tensor:
    """Change the least singular value that the start has, of the state or of the last layer."""
    if torch.equal(y, y0):
        return y
    if isinstance(flow, LayerwiseFlow):
        layers = flow.unpack(y)
        return flow.pack([*layers[:-1], _times_least(layers[-1], factor)])
    return _times_least(y, factor)


def _times_least(A: Tensor, factor: float) -> Tensor:
    U, sigma, Vh = torch.linalg.svd(A, full_matrices=False)
    rank = int((sigma > 1e-10 * sigma.max()).sum())
    sigma[rank - 1] *= factor
    return (U * sigma) @ Vh


def _swapped(flow: Flow, y0: Tensor, y: Tensor) -> Tensor:
    """Another member's path, from the first step on."""
    return y.flip(0)


def _frozen_entry(flow: Flow, y0: Tensor, y: Tensor) -> Tensor:
    """The entry that has moved most stands still."""
    moved = (y - y0).reshape(-1).abs()
    result = y.clone().reshape(-1)
    result[moved.argmax()] = y0.reshape(-1)[moved.argmax()]
    return result.view(y.shape)


SOLVERS: dict[str, Callable[[], FaultySolver]] = {
    "sign": lambda: FaultySolver(rhs=lambda flow, t, y: -flow(t, y)),
    "factor 1.01": lambda: FaultySolver(clock=lambda share: 1.01 * share),
    "factor 2": lambda: FaultySolver(clock=lambda share: 2 * share),
    "transpose": lambda: FaultySolver(rhs=_transposed),
    "missing term": lambda: FaultySolver(rhs=lambda flow, t, y: flow(t, y) * _first_entry(flow, y)),
    "frozen mode": lambda: FaultySolver(change=_frozen_entry),
    "stale velocity": lambda: FaultySolver(rhs=_Stale(24)),
    "wrong time unit": lambda: FaultySolver(clock=lambda share: share / 7),
    "late exit": lambda: FaultySolver(clock=_late),
    "stop too early": lambda: FaultySolver(clock=lambda share: min(share, 0.3)),
}
OF_MATRICES = {
    "lost rank": lambda: FaultySolver(change=_without_least_mode),
    "lost sign": lambda: FaultySolver(change=_with_reflected_mode),
}
OF_ENSEMBLES = {"swapped members": lambda: FaultySolver(change=_swapped)}
MATRIX_FLOWS = (EndToEndFlow, LayerwiseFlow, ProductFlow, FactorFlow)


@contextlib.contextmanager
def faulty_solver(solver: FaultySolver) -> Iterator[None]:
    """Offer a faulty solver as method ``faulty``."""
    methods()["faulty"] = solver
    try:
        yield
    finally:
        del methods()["faulty"]


def certificate(flow: Flow, y0: Tensor, ts: list[float], solver: FaultySolver, rtol: float):
    """Return the certificate of a solve by a faulty solver; of the part before it stopped."""
    with faulty_solver(solver):
        try:
            return gflow.integrate(flow, y0, ts, "faulty", rtol, 1e-3 * rtol).certificate
        except gflow.IntegrationError as stopped:
            return stopped.trajectory.certificate
