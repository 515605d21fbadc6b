"""The cost of a call of EndToEndFlow relative to the linear algebra that it needs.

The necessary operations are ∇ℓ(W), one thin SVD and four products (UᵀG, its product with V, and the
two that transform the result back). From 64×64 on, the flow may cost 1.5 times that. Smaller
matrices are shown without a bound: a call takes a tenth of a millisecond, a third of which is the
fixed cost of a dozen operations on tiny tensors.

Both are timed in interleaved repeats in one process on one thread, so that other load slows both. A
repeat is as many calls as fill 20 ms; the medians over the repeats are compared.

Run: python benchmarks/end_to_end.py [--repeats 31]
Exit status: 0 if every bounded ratio is within the bound, 1 otherwise.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import gflow
from gflow.losses import LinearRegression, Loss, SquaredDistance

DEPTH = 3
BOUND = 1.5
SHAPES = ((10, 64), (64, 10), (64, 64), (256, 256))  # (d_N, d_0)
RESULT = Path(__file__).parent / "results" / "end_to_end.md"


@dataclass(frozen=True)
class Row:
    """Median seconds per call."""

    shape: tuple[int, int]
    loss: str
    flow: float
    needed: float

    @property
    def bounded(self) -> bool:
        return min(self.shape) >= 64

    @property
    def ratio(self) -> float:
        return self.flow / self.needed


def needed(loss: Loss, W: Tensor) -> Tensor:
    """Compute the gradient, the thin SVD (of W or Wᵀ, the faster one) and the four products."""
    G = loss.gradient(W)
    if W.shape[0] > W.shape[1]:
        U, _, Vh = torch.linalg.svd(W, full_matrices=False)
        GV = G @ Vh.mT
        return (U @ (U.mT @ GV)) @ Vh
    V, _, Uh = torch.linalg.svd(W.mT, full_matrices=False)
    UG = Uh @ G
    return Uh.mT @ ((UG @ V) @ V.mT)


def seconds(call: Callable[[], Tensor], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def measure(loss: Loss, repeats: int) -> Row:
    flow = gflow.EndToEndFlow(loss, depth=DEPTH)
    W = torch.randn(loss.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pair: list[Callable[[], Tensor]] = [lambda: flow(0.0, W), lambda: needed(loss, W)]
    calls = max(1, round(0.02 / min(seconds(call, 20) for call in pair)))
    times: list[list[float]] = [[], []]
    for repeat in range(repeats):
        for which in (0, 1) if repeat % 2 else (1, 0):
            times[which].append(seconds(pair[which], calls))
    return Row(loss.shape, type(loss).__name__, *map(statistics.median, times))


def losses(shape: tuple[int, int]) -> list[Loss]:
    """Return a loss of each kind; the regression has four times as many samples as inputs."""
    rng = torch.Generator().manual_seed(0)
    inputs = shape[1]
    M = torch.randn(shape, generator=rng, dtype=torch.float64)
    X = torch.randn(4 * inputs, inputs, generator=rng, dtype=torch.float64)
    return [SquaredDistance(M), LinearRegression(X, X @ M.mT)]


def report(rows: list[Row], repeats: int) -> str:
    lines = [
        "# EndToEndFlow relative to the linear algebra that it needs",
        "",
        f"Depth {DEPTH}, float64, CPU, one thread, {repeats} interleaved repeats, median "
        "milliseconds per call.",
        f"Needed: the loss gradient, one thin SVD and four products. From 64 × 64 on the ratio "
        f"may be at most {BOUND};",
        "smaller ones show the fixed cost of a dozen operations on tiny tensors.",
        "",
        "| d_N × d_0 | loss | flow, ms | needed, ms | ratio |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.shape[0]} × {row.shape[1]} | {row.loss} | {1e3 * row.flow:.4f} "
        f"| {1e3 * row.needed:.4f} | {row.ratio:.2f} |"
        for row in rows
    ]
    lines += [
        "",
        f"{datetime.date.today()}, gflow {gflow.__version__}, torch {torch.__version__}, "
        f"numpy {np.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}.",
        "Command: `python benchmarks/end_to_end.py`",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=31, help="timings of each (default 31)")
    repeats = parser.parse_args().repeats
    if repeats < 1:
        parser.error(f"--repeats must be at least 1, got {repeats}")
    torch.set_num_threads(1)
    rows = [measure(loss, repeats) for shape in SHAPES for loss in losses(shape)]
    text = report(rows, repeats)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0 if all(row.ratio <= BOUND for row in rows if row.bounded) else 1


if __name__ == "__main__":
    sys.exit(main())
