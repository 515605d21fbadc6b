"""The problems on which solvers are measured; `references` has the true state at the end of each.

All are gradient flows in float64, seeded, on real digits or small random matrices; the
time unit and normalisation of each are those of its flow's module.

``kind`` and ``data`` of a problem suffice to write its right-hand side in another framework.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

import gflow
from gflow.flows.base import Flow
from gflow.kernels import two_layer_relu_gram
from gflow.losses import LinearRegression, MatrixCompletion, SquaredDistance


@dataclass(frozen=True)
class Problem:
    """A flow with its start, its times and how errors are measured.

    Attributes
    ----------
    make : callable
        Returns a new flow, so that no solve profits from the caches of an earlier one.
    y0 : Tensor
    ts : tuple of float
        Requested times; the error is measured at the last one.
    kind, data
        The right-hand side for other frameworks: ``kernel`` (H, targets), ``tanh``
        (inputs, targets, dims), ``linear`` (inputs, targets, dims: deep linear,
        mean over samples), ``matching`` (target, dims: deep linear, ½‖W − M‖²_F),
        ``completion`` (values, mask).
    scale : float
        A typical size of one component; the atol of peers is rtol times this.
    least : float
        The smallest ‖·‖₂ that matters; the atol of gflow is 1e-3·rtol·least.
    rms : bool
        Measure the root mean square of the error, not ‖error‖/‖truth‖.
    limit : float
        Seconds that one solve may take in the standard run.
    explicit_limit : float
        The same for standard explicit methods, whose cost can be projected.
    explicit_ladder : tuple of float
        Their tolerances where solves are slow: stability determines their cost, so that two
        tolerances suffice (and the last one alone, except for torchdiffeq). Empty: those of
        each method.
    ladder : tuple of float
        The tolerances of all other methods, where decades would take too long. Empty: those of
        each method.
    enough : float
        The error at which the tolerances of a method end.
    """

    name: str
    title: str
    make: Callable[[], Flow]
    y0: Tensor
    ts: tuple[float, ...]
    kind: str
    data: dict[str, Any] = field(repr=False)
    scale: float = 0.1
    least: float = 1.0
    rms: bool = False
    limit: float = 10.0
    explicit_limit: float = 10.0
    explicit_ladder: tuple[float, ...] = ()
    ladder: tuple[float, ...] = ()
    enough: float = 1e-6


# -- the problems -----------------------------------------------------------------------


def kernel(count: int) -> Problem:
    """Kernel flow of a two-layer ReLU network on digits, targets ±1 by parity, from zero."""
    inputs, labels = _digits(count)
    inputs = inputs / inputs.norm(dim=1, keepdim=True)
    H, targets = two_layer_relu_gram(inputs), 1.0 - 2.0 * (labels % 2).double()
    return Problem(
        name=f"kernel{count}",
        title=f"Kernel flow, {count:,} digits, T = 100",
        make=lambda: gflow.KernelFlow(H, targets),
        y0=torch.zeros(count, dtype=torch.float64),
        ts=(0.0, 100.0),
        kind="kernel",
        data={"H": H, "targets": targets},
        scale=1.0,
        least=float(targets.norm()),
        rms=True,
        limit=10.0 if count < 1000 else 6.0,
        explicit_limit=10.0 if count < 1000 else 3.0,
        explicit_ladder=(1e-3, 1e-7) if count < 1000 else (1e-3,),
        enough=1e-7 if count < 1000 else 1e-8,
    )


def completion() -> Problem:
    """W = UUᵀ, 30×30 of rank 3, half of the entries observed, U from 1e-3 times Gaussian."""
    d = 30
    rng = _seeded(1)
    factor = torch.randn(d, 3, generator=rng, dtype=torch.float64)
    values = factor @ factor.mT
    seen = torch.rand(d, d, generator=rng, dtype=torch.float64) < 0.5
    mask = seen.triu() | seen.triu().mT
    y0 = 1e-3 * torch.randn(d, d, generator=rng, dtype=torch.float64)
    return Problem(
        name="completion",
        title="W = UUᵀ completion, 30 × 30 of rank 3, T = 5,000",
        make=lambda: gflow.FactorFlow(MatrixCompletion(values, mask)),
        y0=y0,
        ts=(0.0, 5000.0),
        kind="completion",
        data={"values": values, "mask": mask},
        scale=1e-3,
        least=float(y0.norm()),
    )


def linear_digits() -> Problem:
    """Deep linear network 64-32-32-10 on all digits, one-hot targets, small Gaussian start."""
    inputs, labels = _digits(1797)
    inputs = inputs / 16 - (inputs / 16).mean(0)
    targets = nn.functional.one_hot(labels, 10).double()
    dims = (64, 32, 32, 10)
    rng = _seeded(2)
    loss = LinearRegression(inputs, targets)
    layers = [
        0.3 * torch.randn(b, a, generator=rng, dtype=torch.float64) / a**0.5
        for a, b in itertools.pairwise(dims)
    ]
    flow = gflow.LayerwiseFlow(loss, dims)
    return Problem(
        name="linear_digits",
        title="Deep linear network 64-32-32-10 on the digits, T = 1,000",
        make=lambda: gflow.LayerwiseFlow(loss, dims),
        y0=flow.pack(layers),
        ts=(0.0, 1000.0),
        kind="linear",
        data={"inputs": inputs, "targets": targets, "dims": dims},
        scale=0.05,
    )


def tanh(t_end: int) -> Problem:
    """The digits tanh network 64-64-64-10, mean over 500 samples of ½ squared error."""
    inputs, labels = _digits(500)
    inputs = inputs / 16 - (inputs / 16).mean(0)
    targets = nn.functional.one_hot(labels, 10).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Linear(64, 64, dtype=torch.float64),
            nn.Tanh(),
            nn.Linear(64, 64, dtype=torch.float64),
            nn.Tanh(),
            nn.Linear(64, 10, dtype=torch.float64),
        )
    y0 = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    return Problem(
        name=f"tanh{t_end}",
        title=f"Tanh network 64-64-64-10, 500 digits, T = {t_end:,}",
        make=lambda: gflow.NetworkFlow(module, half_squares, inputs, targets),
        y0=y0,
        ts=tuple(t for t in (0.0, 3.0, 30.0, 300.0, 3000.0) if t <= t_end),
        kind="tanh",
        data={"inputs": inputs, "targets": targets, "dims": (64, 64, 64, 10)},
        limit=15.0,
        explicit_limit=20.0 if t_end < 1000 else 4.0,
        explicit_ladder=(1e-4, 1e-7) if t_end < 1000 else (1e-4,),
        ladder=(1e-2, 1e-3, 1e-5, 1e-7, 1e-9) if t_end < 1000 else (1e-3, 1e-5, 1e-7, 1e-8),
    )


def tanh1000() -> Problem:
    """The digits tanh network from 0 to T = 1,000 without other times; not in `PROBLEMS`."""
    return replace(tanh(1000), name="tanh1000", ts=(0.0, 1000.0))


def half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """½ squared error, summed over classes and averaged over samples."""
    return 0.5 * (outputs - targets).square().sum(1).mean()


def plateau() -> Problem:
    """Deep linear 10-10-10-10 from a balanced W₀ of size 1e-6.

    The modes 3, 1 and 0.3 are learned one after another; T lies where the last one is learned.
    """
    M = torch.zeros(10, 10, dtype=torch.float64)
    M[[0, 1, 2], [0, 1, 2]] = torch.tensor([3.0, 1.0, 0.3], dtype=torch.float64)
    W0 = 1e-6 * torch.randn(10, 10, generator=_seeded(3), dtype=torch.float64)
    dims = (10, 10, 10, 10)
    flow = gflow.LayerwiseFlow(SquaredDistance(M), dims)
    y0 = flow.balanced_start(W0)
    return Problem(
        name="plateau",
        title="Plateaus: deep linear, depth 3, W₀ of size 1e-6, T = 300",
        make=lambda: gflow.LayerwiseFlow(SquaredDistance(M), dims),
        y0=y0,
        ts=(0.0, 300.0),
        kind="matching",
        data={"target": M, "dims": dims},
        scale=1e-3,
        least=float(y0.norm()),
        explicit_ladder=(1e-4, 1e-7),
    )


def non_stiff() -> Problem:
    """Deep linear 10-10-10-10 on ½‖W − M‖² for a short time, T = 1."""
    rng = _seeded(4)
    M = torch.randn(10, 10, generator=rng, dtype=torch.float64) / 10**0.5
    dims = (10, 10, 10, 10)
    flow = gflow.LayerwiseFlow(SquaredDistance(M), dims)
    layers = [torch.randn(10, 10, generator=rng, dtype=torch.float64) / 10**0.5 for _ in range(3)]
    return Problem(
        name="non_stiff",
        title="Not stiff: deep linear, depth 3, 10 × 10, T = 1",
        make=lambda: gflow.LayerwiseFlow(SquaredDistance(M), dims),
        y0=flow.pack(layers),
        ts=(0.0, 1.0),
        kind="matching",
        data={"target": M, "dims": dims},
        scale=0.3,
    )


#: Every problem by name, cheapest first.
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "non_stiff": non_stiff,
    "kernel300": lambda: kernel(300),
    "kernel1797": lambda: kernel(1797),
    "completion": completion,
    "linear_digits": linear_digits,
    "plateau": plateau,
    "tanh300": lambda: tanh(300),
    "tanh3000": lambda: tanh(3000),
}


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _digits(count: int) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs = torch.tensor(digits.data[:count], dtype=torch.float64)
    return inputs, torch.tensor(digits.target[:count])
