"""The flow of the digits tanh network to T = 1,000 by gflow, Runge-Kutta 4 and small-step descent.

Cohen et al. 2021 (arXiv:2103.00065) integrate the flow by the classical Runge-Kutta method with
steps of 1/λ_max, which is updated at regular times (their default factor of 1; here at 100 times).
Others run descent with a step 20 times smaller than the one studied, which is Euler's method (here
1/(20 λ_max)). ``gflow.integrate(method="auto")`` uses tolerances from 1e-4 to 1e-11.

The cost is right-hand sides (four per step of Runge-Kutta) + 2 × Hessian-vector products, which the
fixed steps need for λ_max, from warm starts (``gflow.spectra``). Errors are relative errors of the
last state, against SciPy's DOP853 at rtol 1e-11. Matched: relative to the smallest cost of gflow
with at most the error of the row.

Run: python benchmarks/rk4.py [--t-end 1000]
Exit status: 0 if Runge-Kutta costs at least 10 times as much as gflow, 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from problems import tanh1000
from references import error
from result_files import write_result
from torch import Tensor

import gflow
from gflow.flows.base import Flow
from gflow.flows.sharpness import sharpness

T_END, TIMES, BOUND = 1000.0, 100, 10.0
RTOLS = tuple(10.0**-k for k in range(4, 12))
Step = Callable[[Flow, Tensor, float], Tensor]


@dataclass(frozen=True)
class Row:
    """One computation of the last state; ``cost`` is in gradient-equivalents."""

    name: str
    rhs: int
    products: int
    error: float
    seconds: float
    matched: float | None = None

    @property
    def cost(self) -> int:
        return self.rhs + 2 * self.products


def runge_kutta(flow: Flow, y: Tensor, h: float) -> Tensor:
    """Return one step of the classical method of order 4."""
    first = flow(0.0, y)
    second = flow(0.0, y + h / 2 * first)
    third = flow(0.0, y + h / 2 * second)
    last = flow(0.0, y + h * third)
    return y + h / 6 * (first + 2 * (second + third) + last)


def euler(flow: Flow, y: Tensor, h: float) -> Tensor:
    """Return one step of descent."""
    return y + h * flow(0.0, y)


def fixed_steps(
    flow: Flow, y: Tensor, t_end: float, step: Step, share: float
) -> tuple[Tensor, int, int]:
    """Return the last state, steps and products, with steps of at most share/λ_max."""
    span, steps, products, start = t_end / TIMES, 0, 0, None
    for _ in range(TIMES):
        top = sharpness(flow, y, start=start)
        start, products = top.vectors, products + top.products
        count = int(-(-span * float(top.values[0]) // share))
        for _ in range(count):
            y = step(flow, y, span / count)
        steps += count
    return y, steps, products


def measure(t_end: float) -> list[Row]:
    """Return all rows, gflow's first; seconds are CPU seconds of this process."""
    problem = replace(tanh1000(), ts=(0.0, t_end))
    flow, y0 = problem.make(), problem.y0
    rows: list[Row] = []
    for rtol in RTOLS:
        began = time.process_time()
        path = gflow.integrate(flow, y0, problem.ts, "auto", rtol, 1e-3 * rtol)
        spent, stats = time.process_time() - began, path.stats
        *_, last = stats.reason.split("; ")
        later = f", {last}" if " from t = " in last else ""
        name = f"gflow auto, rtol {rtol:.0e} ({stats.method}{later})"
        wrong = error(problem, path.ys[-1])
        rows.append(Row(name, stats.rhs_evals, stats.jvp_evals, wrong, spent))
    methods: list[tuple[str, Step, float, int]] = [
        ("Runge-Kutta 4, steps of 1/λ_max", runge_kutta, 1.0, 4),
        ("Euler, steps of 1/(20 λ_max)", euler, 1 / 20, 1),
    ]
    ours = list(rows)
    for name, step, share, stages in methods:
        began = time.process_time()
        y, steps, products = fixed_steps(flow, y0, t_end, step, share)
        spent, wrong = time.process_time() - began, error(problem, y)
        costs = [row.cost for row in ours if row.error <= wrong]
        row = Row(name, stages * steps, products, wrong, spent)
        rows.append(replace(row, matched=row.cost / min(costs) if costs else None))
    return rows


def report(rows: list[Row], t_end: float) -> list[str]:
    lines = [
        "# The flow by gflow, by Runge-Kutta at 1/sharpness, and by small-step descent",
        "",
        f"Digits tanh network 64-64-64-10, 8,970 parameters, T = {t_end:,.0f}, float64, CPU, one "
        "thread.",
        "Cost: right-hand sides + 2 × Hessian-vector products, which the fixed steps need for "
        f"λ_max at {TIMES} times.",
        "Error: relative error of the last state, against DOP853 at rtol 1e-11. The last column is "
        "the cost relative to the smallest cost of gflow with at most that error.",
        "",
        "| method | right-hand sides | products | cost | error | CPU s | cost / gflow's |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    return lines + [
        f"| {row.name} | {row.rhs:,} | {row.products:,} | {row.cost:,} | {row.error:.1e} "
        f"| {row.seconds:.1f} | {'' if row.matched is None else f'{row.matched:.1f}'} |"
        for row in rows
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--t-end", type=float, default=T_END, help="shorter for a trial")
    t_end = parser.parse_args().t_end
    if not t_end > 0:
        parser.error(f"--t-end must be positive, got {t_end:g}")
    torch.set_num_threads(1)
    rows = measure(t_end)
    write_result("rk4", report(rows, t_end), trial=t_end != T_END)
    matched = next(row.matched for row in rows if row.name.startswith("Runge"))
    return 0 if matched is not None and matched >= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
