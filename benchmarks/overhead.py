"""The overhead of the stepping loop per right-hand side evaluation, on a problem of size two.

ẏ = −Λ(y − 1), Λ = diag(2, 1): an evaluation is two operations on two numbers, so the remaining time
of a solve is spent in the method and the loop. The stabilised methods use the fewest stages per
step there, so they are also timed on a stiff problem: Λ = diag(2000, 1), rtol 1e-4. "Alone" is the
loop without the method (the formula of a step; for bdf also the linear solve and the past states)
and without the flow's loss, whose time a clock measures at every call into these. Medians of
interleaved repeats.

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


class TimeSplit:
    """Seconds of a solve by part: ``method``, ``f``, ``loss``, or else ``loop``."""

    def __init__(self) -> None:
        self.seconds = {"method": 0.0, "f": 0.0, "loss": 0.0, "loop": 0.0}
        self._parts, self._since = ["loop"], time.perf_counter()

    def switch(self, part: str | None) -> None:
        """Attribute the following seconds to a part, or to the previous part with None."""
        now = time.perf_counter()
        self.seconds[self._parts[-1]] += now - self._since
        if part is None:
            self._parts.pop()
        else:
            self._parts.append(part)
        self._since = now

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Time the calls into a method and a flow, and from a method into the loop."""
        parts: dict[str, list[tuple[type, str]]] = {
            "method": [(method, "step") for method in (Tsit5, Dop853, RKC2, ROCK4)],
            "f": [(Tiny, "__call__")],
            "loss": [(Tiny, "loss")],
            "loop": [(System, name) for name in ("rhs", "velocity", "measure", "dissipation")],
        }
        parts["method"] += [
            (Past, name) for name in ("attempt", "add", "next_step", "shorter_step")
        ]
        with contextlib.ExitStack() as stack:
            for part, functions in parts.items():
                for cls, name in functions:
                    watched = self._watched(getattr(cls, name), part)
                    stack.enter_context(mock.patch.object(cls, name, watched))
            yield

    def _watched(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(None)

        return call


def seconds_outside_the_loop(solve: Callable[[], tuple[float, int]]) -> float:
    """Return the seconds per evaluation in the method and the flow's loss."""
    split = TimeSplit()
    with split.running():
        split.switch("loop")
        _, evaluations = solve()
        split.switch(None)
    return (split.seconds["method"] + split.seconds["loss"]) / evaluations


def _bare(flow: Tiny, y: Tensor) -> float:
    """Return the seconds of one evaluation."""
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
    """Return a row per method; its seconds are per evaluation, without the evaluation."""
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
    measured: dict[str, Row] = {}
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, solve in solves.items():
            row = measured.setdefault(name, Row("overhead", name, name.split()[0], RTOL, error=0.0))
            try:
                seconds, row.rhs = solve()
            except InputError as reason:
                row.status = f"not run: {reason}"
                continue
            beyond = seconds / row.rhs - _bare(flow, y0)
            times.setdefault(name, []).append(beyond)
            if row.family == "gflow":
                # The clock takes time, mostly in the loop: subtract the other parts.
                alone = f"{name}{ALONE}"
                measured[alone] = dataclasses.replace(row, method=alone)
                times.setdefault(alone, []).append(beyond - seconds_outside_the_loop(solve))
    for name, values in times.items():
        measured[name].jvp, measured[name].seconds = 0, [statistics.median(values)]
    return [row for row in measured.values() if row.status == "ok"]


def table(measured: list[Row]) -> str:
    """Return the rows as Markdown."""
    lines = ["| method | evaluations | µs beyond an evaluation | of which the loop alone |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    alone = {row.method: f"{1e6 * row.wall:.1f}" for row in measured}
    for row in measured:
        if not row.method.endswith(ALONE):
            alone_seconds = alone.get(f"{row.method}{ALONE}", "")
            lines.append(f"| {row.method} | {row.rhs:,} | {1e6 * row.wall:.1f} | {alone_seconds} |")
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
