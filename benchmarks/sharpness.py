"""The cost of the sharpness along a flow: the digits tanh network to T = 1,000.

λ_max of the Hessian at 100 times, each started from the eigenvectors of the previous time
(`gflow.integrate` with ``sharpness=1``), at states from dense output, relative to the flow alone.
The cost is right-hand sides + 2 × Hessian-vector products, and median CPU seconds of interleaved
repeats. The eigenvalues are compared with those at a tight tolerance.

Run: python benchmarks/sharpness.py [--repeats 5] [--t-end 1000]
Exit status: 0 if both ratios are at most 1.5, 1 otherwise.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass

import torch
from problems import Problem, tanh1000
from result_files import write_result
from torch import Tensor

import gflow
from gflow.flows.sharpness import sharpness_along

T_END, TIMES, RTOL, BOUND = 1000.0, 100, 1e-6, 1.5


@dataclass(frozen=True)
class Row:
    """One solve, with or without sharpness; ``cost`` is in gradient-equivalents."""

    rhs: int
    products: int
    seconds: float
    sharpness: Tensor

    @property
    def cost(self) -> int:
        return self.rhs + 2 * self.products


def solve(problem: Problem, t_end: float, measured: bool) -> Row:
    """Integrate to t_end, and optionally measure λ_max at `TIMES` times."""
    flow = problem.make()
    ts = [t_end * i / TIMES for i in range(TIMES + 1)] if measured else [0.0, t_end]
    tolerances, k = (RTOL, 1e-3 * RTOL), int(measured)
    began = time.process_time()
    path = gflow.integrate(flow, problem.y0, ts, "auto", *tolerances, dense=measured, sharpness=k)
    spent, stats = time.process_time() - began, path.stats
    return Row(stats.rhs_evals, stats.jvp_evals, spent, path.sharpness[1:])


def accuracy(problem: Problem, t_end: float, measured: Tensor) -> Tensor:
    """Return the relative error of λ_max at every fifth time, against a tight tolerance."""
    flow = problem.make()
    ts = [t_end * i / TIMES for i in range(0, TIMES + 1, 5)]
    path = gflow.integrate(flow, problem.y0, ts, "auto", RTOL / 10, 1e-4 * RTOL)
    truth, _ = sharpness_along(flow, path.ys[1:], tol=1e-6)
    return (measured[4::5] / truth - 1).abs()[:, 0]


def report(alone: list[Row], both: list[Row], errors: Tensor, t_end: float) -> list[str]:
    lines = [
        "# Sharpness along the flow",
        "",
        f"Digits tanh network 64-64-64-10, 8,970 parameters, T = {t_end:,.0f}, auto at rtol "
        f"{RTOL:.0e}, λ_max at {TIMES} times; float64, CPU, one thread.",
        "Cost: right-hand sides + 2 × Hessian-vector products; at most "
        f"{BOUND} times the flow alone. Seconds: medians of {len(alone)} interleaved repeats.",
        "",
        "| | right-hand sides | products | cost | CPU s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, rows in (("flow", alone), ("flow and sharpness", both)):
        row, spent = rows[0], statistics.median(r.seconds for r in rows)
        lines.append(f"| {name} | {row.rhs:,} | {row.products:,} | {row.cost:,} | {spent:.2f} |")
    cost, spent = ratios(alone, both)
    return [
        *lines,
        f"| ratio | | | {cost:.2f} | {spent:.2f} |",
        "",
        f"λ_max from {float(both[0].sharpness[0, 0]):.1f} at the first time to "
        f"{float(both[0].sharpness[-1, 0]):.1f} at the last; relative error at every fifth time: "
        f"median {float(errors.median()):.1e}, largest {float(errors.max()):.1e}.",
    ]


def ratios(alone: list[Row], both: list[Row]) -> tuple[float, float]:
    """Return the ratios of the costs and of the median seconds."""
    seconds = [statistics.median(row.seconds for row in rows) for rows in (both, alone)]
    return both[0].cost / alone[0].cost, seconds[0] / seconds[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="timings of each (default 5)")
    parser.add_argument("--t-end", type=float, default=T_END, help="shorter for a trial")
    arguments = parser.parse_args()
    repeats, t_end = arguments.repeats, arguments.t_end
    if repeats < 1 or not t_end > 0:
        parser.error(f"--repeats and --t-end must be positive, got {repeats} and {t_end:g}")
    torch.set_num_threads(1)
    problem = tanh1000()
    rows: dict[bool, list[Row]] = {False: [], True: []}
    for repeat in range(repeats):
        for measured in (False, True) if repeat % 2 else (True, False):
            rows[measured].append(solve(problem, t_end, measured))
    errors = accuracy(problem, t_end, rows[True][0].sharpness)
    write_result("sharpness", report(rows[False], rows[True], errors, t_end), trial=t_end != T_END)
    return 0 if max(ratios(rows[False], rows[True])) <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
