"""The cost of the NTK of 2,000 points relative to the arithmetic that it needs.

The necessary operations are the matrix product of the points with themselves and, per hidden layer,
one pass of arccos and one of the square root over the matrix. A kernel may cost twice that, and use
at most four n × n matrices of memory. Both are timed in interleaved repeats in one process on one
thread, in CPU seconds, which other load disturbs least.

Run: python benchmarks/kernels.py [--points 2000] [--repeats 9] [--large 20000]
Exit status: 0 if every bounded ratio and the memory are within the bounds, 1 otherwise.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import measure_peak
from torch import Tensor

import gflow
from gflow.kernels import memory_needed, nngp, ntk

DEPTH, INPUTS, LARGE_DEPTH = 3, 784, 3
BOUND, MATRICES = 2.0, 4.0
RESULT = Path(__file__).parent / "results" / "kernels.md"
NETWORK: dict[str, Any] = {"depth": DEPTH, "w_std": 2**0.5, "b_std": 0.1}


@dataclass(frozen=True)
class Row:
    """Median CPU seconds of a call, and the increase of resident memory in n × n matrices."""

    label: str
    seconds: float
    needed: float
    matrices: float | None
    bounded: bool

    @property
    def ratio(self) -> float:
        return self.seconds / self.needed

    @property
    def within(self) -> bool:
        return self.ratio <= BOUND and (self.matrices is None or self.matrices < MATRICES)


@dataclass(frozen=True)
class Large:
    """One call of a size that nearly fills the memory of a small machine."""

    points: int
    predicted: str
    predicted_bytes: int
    peak_mb: float | None
    seconds: float


def needed(x: Tensor) -> Tensor:
    """Compute the product, then arccos and the square root once per layer, in place."""
    cosine = x @ x.mT
    cosine.div_(cosine.max()).clamp_(-1.0, 1.0)
    angle, sine = torch.empty_like(cosine), torch.empty_like(cosine)
    for _ in range(DEPTH):
        torch.arccos(cosine, out=angle)
        torch.sqrt(sine.zero_().add_(1.0).addcmul_(cosine, cosine, value=-1.0), out=sine)
    return angle


def points(n: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(n, INPUTS, generator=torch.Generator().manual_seed(0), dtype=dtype)


def seconds(call: Callable[[], Tensor]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def calls(x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return the measured kernels; the bounds hold for the first two."""
    x2 = x.clone()
    kinds: dict[str, Callable[[], Tensor]] = {
        "ntk relu": lambda: ntk(x, **NETWORK),
        "ntk relu, x2 given": lambda: ntk(x, x2, **NETWORK),
        "nngp relu": lambda: nngp(x, **NETWORK),
    }
    for name in ("erf", "gelu", "abs"):
        kinds[f"ntk {name}"] = functools.partial(ntk, x, activation=name, **NETWORK)
    kinds["ntk tanh (series)"] = functools.partial(ntk, x, activation=torch.tanh, **NETWORK)
    return kinds


def measure(n: int, repeats: int) -> list[Row]:
    x = points(n, torch.float64)
    every = {"needed": lambda: needed(x), **calls(x)}
    times: dict[str, list[float]] = {label: [] for label in every}
    for _ in range(repeats):
        for label, call in every.items():
            if "series" not in label or not times[label]:  # slow: once
                times[label].append(seconds(call))
    rows = []
    for label, call in every.items():
        _, peak = measure_peak(call)
        matrices = None if peak is None else peak * 2**20 / (8 * n * n)
        base = statistics.median(times["needed"])
        bounded = label.startswith("ntk relu")
        rows.append(Row(label, statistics.median(times[label]), base, matrices, bounded))
    return rows


def measure_large(n: int) -> Large:
    x = points(n, torch.float32)
    predicted = memory_needed(x, depth=LARGE_DEPTH)
    print(f"ntk of {n:,} points in float32 will take {predicted}", file=sys.stderr)
    start = time.process_time()

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done / total:4.0%}", end="", file=sys.stderr)

    _, peak = measure_peak(lambda: ntk(x, progress=progress, **NETWORK))
    spent = time.process_time() - start
    return Large(n, str(predicted), predicted.total, peak, spent)


def report(n: int, repeats: int, rows: list[Row], large: Large | None) -> str:
    lines = [
        "# Kernels relative to the arithmetic that they need",
        "",
        f"{n:,} × {INPUTS}, depth {DEPTH}, biases, float64, CPU, one thread; medians of {repeats} "
        "interleaved calls in CPU seconds.",
        f"Needed: the matrix product and {DEPTH} passes of arccos and square root over n × n. "
        f"`ntk relu` may cost {BOUND:g} times that and use less than {MATRICES:g} matrices.",
        "",
        "| kernel | seconds | ratio | peak, n × n matrices |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        peak = "–" if row.matrices is None else f"{row.matrices:.2f}"
        lines.append(f"| {row.label} | {row.seconds:.3f} | {row.ratio:.2f} | {peak} |")
    if large is not None:
        peak = "not measured" if large.peak_mb is None else f"{large.peak_mb * 2**20 / 1e9:.2f} GB"
        lines += [
            "",
            f"`ntk relu` of {large.points:,} × {INPUTS} points, depth {LARGE_DEPTH}, float32: "
            f"predicted {large.predicted}; increase of resident memory {peak}, "
            f"{large.seconds:.0f} CPU seconds on one thread.",
        ]
    lines += [
        "",
        f"{datetime.date.today()}, gflow {gflow.__version__}, torch {torch.__version__}, "
        f"numpy {np.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}.",
        "Command: `python benchmarks/kernels.py --large 20000`",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--points", type=int, default=2000, help="rows (default 2000)")
    parser.add_argument("--repeats", type=int, default=9, help="timings of each (default 9)")
    parser.add_argument(
        "--large", type=int, help="also one call with this number of points, in float32"
    )
    parser.add_argument("--result", type=Path, default=RESULT, help="the table's file")
    given = parser.parse_args()
    if given.repeats < 1 or given.points < 1 or (given.large is not None and given.large < 1):
        parser.error("--points, --repeats and --large must be at least 1")
    torch.set_num_threads(1)
    rows = measure(given.points, given.repeats)
    large = None if given.large is None else measure_large(given.large)
    text = report(given.points, given.repeats, rows, large)
    given.result.parent.mkdir(exist_ok=True)
    given.result.write_text(text, encoding="utf-8")
    print(text, end="")
    memory_holds = (
        large is None or large.peak_mb is None or large.peak_mb * 2**20 <= large.predicted_bytes
    )
    return 0 if memory_holds and all(row.within for row in rows if row.bounded) else 1


if __name__ == "__main__":
    sys.exit(main())
