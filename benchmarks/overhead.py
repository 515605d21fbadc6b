"""What the stepping loop costs per right-hand side evaluation, on a problem of two numbers.

ẏ = −Λ(y − 1), Λ = diag(2, 1): an evaluation is two operations on two numbers, so what a
solve takes beyond its evaluations is the method and the loop. The stabilised methods take as few
stages a step there as they can, so they are timed at what they are for, too: Λ = diag(2000, 1),
rtol 1e-4. "Alone" is the loop without what belongs to the method (the formula of a step; of bdf
the linear solve and its past) and without the flow's own loss, whose time is taken by a clock that
is set over at every call into these. Timed in turns; medians.

Run: python benchmarks/overhead.py [--repeats 7]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from measuring import Row
from peers import gflow_methods
from torch import Tensor

import gflow
from gflow.errors import InputError
from gflow.flows.base import ParameterFlow
from gflow.solvers.explicit import Dop853, Tsit5
from gflow.solvers.loop.past import Past
from gflow.solvers.loop.system import System
from gflow.solvers.rkc2 import RKC2
from gflow.solvers.rock4 import ROCK4

T, RTOL, ATOL = 40.0, 1e-8, 1e-11
STIFF, STIFF_RTOL = 2000.0, 1e-4
ALONE = ", alone"


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


class Split:
    """Seconds of a solve by whose they are: ``method``, ``f``, ``loss``, or else ``loop``."""

    def __init__(self) -> None:
        self.seconds = {"method": 0.0, "f": 0.0, "loss": 0.0, "loop": 0.0}
        self._whose, self._since = ["loop"], time.perf_counter()

    def over(self, whose: str | None) -> None:
        """Set the clock over to somebody, or back with None."""
        now = time.perf_counter()
        self.seconds[self._whose[-1]] += now - self._since
        if whose is None:
            self._whose.pop()
        else:
            self._whose.append(whose)
        self._since = now

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While calls into a method, a flow, and from a method into the loop are watched."""
        owned: dict[str, list[tuple[type, str]]] = {
            "method": [(method, "step") for method in (Tsit5, Dop853, RKC2, ROCK4)],
            "f": [(Tiny, "__call__")],
            "loss": [(Tiny, "loss")],
            "loop": [(System, name) for name in ("rhs", "velocity", "measure", "dissipation")],
        }
        owned["method"] += [
            (Past, name) for name in ("attempt", "add", "next_step", "shorter_step")
        ]
        with contextlib.ExitStack() as stack:
            for whose, functions in owned.items():
                for cls, name in functions:
                    watched = self._watched(getattr(cls, name), whose)
                    stack.enter_context(mock.patch.object(cls, name, watched))
            yield

    def _watched(self, function: Callable[..., Any], whose: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.over(whose)
            try:
                return function(*args, **kwargs)
            finally:
                self.over(None)

        return call


def not_the_loop(solve: Callable[[], tuple[float, int]]) -> float:
    """Seconds an evaluation that the method and the flow's loss take."""
    split = Split()
    with split.running():
        split.over("loop")
        _, evaluations = solve()
        split.over(None)
    return (split.seconds["method"] + split.seconds["loss"]) / evaluations


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
            beyond = seconds / row.rhs - _bare(flow, y0)
            times.setdefault(name, []).append(beyond)
            if row.family == "gflow":
                # The clock takes time, too, nearly all in the loop: so that is what is left.
                alone = f"{name}{ALONE}"
                found[alone] = dataclasses.replace(row, method=alone)
                times.setdefault(alone, []).append(beyond - not_the_loop(solve))
    for name, values in times.items():
        found[name].jvp, found[name].seconds = 0, [statistics.median(values)]
    return [row for row in found.values() if row.status == "ok"]


def table(found: list[Row]) -> str:
    """Markdown of `rows`."""
    lines = ["| method | evaluations | µs beyond an evaluation | of it the loop alone |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    alone = {row.method: f"{1e6 * row.wall:.1f}" for row in found}
    for row in found:
        if not row.method.endswith(ALONE):
            own = alone.get(f"{row.method}{ALONE}", "")
            lines.append(f"| {row.method} | {row.rhs:,} | {1e6 * row.wall:.1f} | {own} |")
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
