"""What the stepping loop costs per right-hand side evaluation, on a problem of two numbers.

ẏ = −Λ(y − 1), Λ = diag(2, 1): an evaluation is two operations on two numbers, so what a
solve takes beyond its evaluations is the loop. The stabilised methods take as few stages a step
there as they can, so they are timed at what they are for, too: Λ = diag(2000, 1), rtol 1e-4.
Timed in turns; medians.

Run: python benchmarks/overhead.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import torch
from measuring import Row
from peers import gflow_methods
from torch import Tensor

import gflow
from gflow.errors import InputError
from gflow.flows.base import ParameterFlow

T, RTOL, ATOL = 40.0, 1e-8, 1e-11
STIFF, STIFF_RTOL = 2000.0, 1e-4


class Tiny(ParameterFlow):
    """½(y − 1)ᵀΛ(y − 1)."""

    def __init__(self, fastest: float = 2.0) -> None:
        self._rates = torch.tensor([fastest, 1.0], dtype=torch.float64)

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (2,)

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        return self._rates * (1 - y)

    def loss(self, y: Tensor) -> Tensor:
        return 0.5 * (self._rates * (y - 1).square()).sum(-1)

    @classmethod
    def example(cls) -> tuple[Tiny, Tensor]:
        return cls(), torch.zeros(2, dtype=torch.float64)


def _bare(flow: Tiny, y: Tensor) -> float:
    """Seconds of one evaluation on its own."""
    began = time.perf_counter()
    for _ in range(500):
        flow(0.0, y)
    return (time.perf_counter() - began) / 500


def _torchdiffeq(flow: Tiny, y0: Tensor) -> tuple[float, int]:
    from torchdiffeq import odeint

    calls = 0

    def rhs(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return flow(t, y)

    ts = torch.tensor([0.0, T], dtype=torch.float64)
    began = time.perf_counter()
    with torch.no_grad():
        odeint(rhs, y0, ts, rtol=RTOL, atol=ATOL, method="dopri5")
    return time.perf_counter() - began, calls


def rows(repeats: int = 7) -> list[Row]:
    """One row a method; its seconds are per evaluation, the evaluation itself taken off."""
    flow, y0 = Tiny.example()

    def of(name: str, flow: Tiny, rtol: float) -> Callable[[], tuple[float, int]]:
        def solve() -> tuple[float, int]:
            stats = gflow.integrate(flow, y0, (0.0, T), name, rtol, ATOL).stats
            return stats.wall_seconds, stats.rhs_evals + stats.jvp_evals

        return solve

    solves = {"torchdiffeq dopri5": lambda: _torchdiffeq(flow, y0)}
    for method in gflow_methods():
        solves[method.name] = of(method.name.removeprefix("gflow "), flow, RTOL)
    for name in ("rkc2", "rock4"):
        solves[f"gflow {name}, stiff"] = of(name, Tiny(STIFF), STIFF_RTOL)
    found: dict[str, Row] = {}
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, solve in solves.items():
            row = found.setdefault(name, Row("overhead", name, name.split()[0], RTOL, error=0.0))
            try:
                seconds, row.rhs = solve()
            except InputError as reason:
                row.status = f"not run: {reason}"
                continue
            times.setdefault(name, []).append(seconds / row.rhs - _bare(flow, y0))
    for name, values in times.items():
        found[name].jvp, found[name].seconds = 0, [statistics.median(values)]
    return [row for row in found.values() if row.status == "ok"]


def table(found: list[Row]) -> str:
    """Markdown of `rows`."""
    lines = ["| method | evaluations | µs of loop an evaluation |", "| --- | ---: | ---: |"]
    lines += [f"| {row.method} | {row.rhs:,} | {1e6 * row.wall:.1f} |" for row in found]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(table(rows(repeats)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
