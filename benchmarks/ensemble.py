"""Throughput of an ensemble: 1,000 starts in one call, by gflow and diffrax, and in a loop.

Deep linear networks 10-10-10-10 on ½‖W − M‖²_F from Gaussian layers of many scales, T = 10. gflow
integrates all starts in one call, each with individual steps; so does diffrax, compiled, by
`lax.map` (one start after another) and, in this script alone, by `vmap` (all until the last one
has ended). torchdiffeq's dopri5 is timed on a sample and scaled. Tolerances are tightened until the
largest error over the sample is at most torchdiffeq's. Medians of three interleaved repeats.

Run: python benchmarks/ensemble.py [--members 1000] [--sample 20]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import random
import sys
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from ensemble_jax import diffrax_solvers
from matched_error import by_method, certified_seconds, matched, solve_seconds
from measuring import NotRun, Row, first_line, measure_peak
from peers_jax import COLD
from problems import Problem
from scipy.integrate import solve_ivp
from torch import Tensor

import gflow
from gflow.flows.base import Flow
from gflow.losses import SquaredDistance
from gflow.trajectory import Trajectory

T = 10.0
RTOL = 1e-6
ENSEMBLE = "ensemble"  # the problem's name in rows
REFERENCE = "torchdiffeq dopri5"
_LADDER = (1e-5, 1e-6, 1e-7, 1e-8)
_DIMS = (10, 10, 10, 10)


def starts(members: int) -> tuple[Problem, Tensor]:
    """Return a member's problem, and Gaussian layers of scales 0.3 to 1.2, (members, 300)."""
    rng = torch.Generator().manual_seed(0)
    M = torch.randn(10, 10, generator=rng, dtype=torch.float64) / 10**0.5
    scales = 0.3 + 0.9 * torch.rand(members, 1, generator=rng, dtype=torch.float64)
    Y0 = scales * torch.randn(members, 300, generator=rng, dtype=torch.float64) / 10**0.5
    problem = Problem(
        name=ENSEMBLE,
        title="1,000 deep linear starts",
        make=lambda: gflow.LayerwiseFlow(SquaredDistance(M), _DIMS),
        y0=Y0[0],
        ts=(0.0, T),
        kind="matching",
        data={"target": M, "dims": _DIMS},
        scale=0.3,
    )
    return problem, Y0


def truth(flow: Flow, y0: Tensor) -> Tensor:
    """Return the state at T of one start, by DOP853 at rtol 1e-12."""
    solution = solve_ivp(
        lambda t, y: flow(t, torch.from_numpy(y)).numpy(),
        (0.0, T),
        y0.numpy(),
        method="DOP853",
        rtol=1e-12,
        atol=1e-14,
    )
    return torch.from_numpy(solution.y[:, -1].copy())


def integrate_all(flow: Flow, Y0: Tensor, rtol: float) -> Trajectory:
    """Integrate all starts in one call."""
    return gflow.integrate(flow, Y0, (0.0, T), "auto", rtol, 1e-3 * rtol)


class Solver(NamedTuple):
    """One solve of some members: seconds with and without a certificate, and the last states."""

    members: list[int]  # that it solves
    run: Callable[[float], tuple[float, float | None, Tensor]]  # of rtol


def rows(members: int = 1000, sample: int = 20, repeats: int = 3, vmap: bool = False) -> list[Row]:
    """Return the rows of all methods; their costs are per member.

    The first is torchdiffeq's, whose error is the one to match.
    """
    problem, Y0 = starts(members)
    flow = problem.make()
    picked = list(range(0, members, max(1, members // sample)))[:sample]
    truths = torch.stack([truth(flow, Y0[i]) for i in picked])
    everyone = list(range(members))
    solvers = {REFERENCE: Solver(picked, functools.partial(_loop, problem, Y0[picked]))}
    solvers["gflow auto"] = Solver(everyone, functools.partial(_one_call, flow, Y0))
    measured: list[Row] = []
    try:
        compiled = diffrax_solvers(problem, Y0, vmap)
    except NotRun as reason:
        status = f"not run: {reason}"
        measured.append(Row(ENSEMBLE, "diffrax", "peer", RTOL, status))
        compiled = {}
    for name, (_, run) in compiled.items():
        solvers[name] = Solver(everyone, run)

    for name, solver in solvers.items():
        family = "gflow" if name.startswith("gflow") else "peer"
        for rtol in (RTOL,) if name == REFERENCE else _LADDER:
            row = Row(ENSEMBLE, name, family, rtol, rhs=None, jvp=None)
            measured.append(row)
            try:
                (_, _, ends), row.peak_mb = measure_peak(functools.partial(solver.run, rtol))
            except (gflow.GflowError, RuntimeError) as reason:
                row.status = f"{type(reason).__name__}: {first_line(reason)}"
                continue
            ends = ends if solver.members is picked else ends[picked]
            row.error = float(((ends - truths).norm(dim=1) / truths.norm(dim=1)).max())
            if name != REFERENCE and row.error <= _level(measured):
                break
    groups = by_method([row for row in measured if row.answered], ENSEMBLE).values()
    order = [row for group in groups for row in group[-2:]]  # on both sides of the error
    for turn in range(repeats):
        random.Random(turn).shuffle(order)
        for row in order:
            solver = solvers[row.method]
            seconds, inner, _ = solver.run(row.rtol)
            row.seconds.append(seconds / len(solver.members))
            if inner is not None:
                row.inner_seconds.append(inner / len(solver.members))
    cold = [
        dataclasses.replace(
            row,
            method=row.method + COLD,
            seconds=[seconds + compiled[row.method][0] / members for seconds in row.seconds],
        )
        for row in measured
        if row.method in compiled and row.seconds
    ]
    return measured + cold


def _level(measured: list[Row]) -> float:
    """Return the error to match."""
    return next(row.error or 0.0 for row in measured if row.method == REFERENCE)


def _loop(problem: Problem, Y0: Tensor, rtol: float) -> tuple[float, None, Tensor]:
    from torchdiffeq import odeint

    flow, atol = problem.make(), problem.scale * rtol
    ts = torch.tensor(problem.ts, dtype=torch.float64)
    began = time.perf_counter()
    with torch.no_grad():
        ends = [odeint(flow, y0, ts, rtol=rtol, atol=atol, method="dopri5")[-1] for y0 in Y0]
    return time.perf_counter() - began, None, torch.stack(ends)


def _one_call(flow: Flow, Y0: Tensor, rtol: float) -> tuple[float, float, Tensor]:
    began = time.perf_counter()
    path = integrate_all(flow, Y0, rtol)
    return time.perf_counter() - began, path.stats.wall_seconds, path.ys[-1]


def table(measured: list[Row]) -> str:
    """Return the rows as Markdown, and the milliseconds at the error to match."""
    level, groups = _level(measured), by_method(measured, ENSEMBLE)
    lines = [
        "| method | rtol | largest error | solve, ms per member | with certificate |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in measured:
        if row.seconds:
            certified = f"{1e3 * row.wall:.3f}" if row.inner_seconds else "–"
            lines.append(
                f"| {row.method} | {row.rtol:.0e} | {row.error:.1e} "
                f"| {1e3 * row.solve:.3f} | {certified} |"
            )
        elif not row.answered:
            lines.append(f"| {row.method} | {row.rtol:.0e} | {row.status} | – | – |")
    auto = matched(groups.get("gflow auto", []), level, solve_seconds)
    lines += [
        "",
        f"At error {level:.1e}; relative to the seconds of gflow's solve alone:",
        "",
        "| method | solve, ms per member | ratio | with certificate | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, group in groups.items():
        cells = []
        for seconds in (solve_seconds, certified_seconds):
            value = matched(group, level, seconds)
            if value is None or auto is None:
                cells += ["–", "–"]
            else:
                ratio = f"{value.value / auto.value:.2f}"
                cells += [f"{value.mark} {1e3 * value.value:.3f}".strip(), ratio]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(table(rows(options.members, options.sample, vmap=True)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
