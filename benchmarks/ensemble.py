"""Throughput of an ensemble: 1,000 starts in one call, and a loop over torchdiffeq.

Deep linear networks 10-10-10-10 on ½‖W − M‖²_F from Gaussian layers of many scales, T = 10. gflow
integrates all starts in one call, each with individual steps; torchdiffeq's dopri5 is timed on a
sample and scaled. gflow's tolerance is tightened until its largest error over the sample is at most
torchdiffeq's. Medians of three interleaved repeats.

Run: python benchmarks/ensemble.py [--members 1000] [--sample 20]
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
import warnings

import torch
from measuring import Row, measure_peak
from scipy.integrate import solve_ivp
from torch import Tensor

import gflow
from gflow.losses import SquaredDistance
from gflow.trajectory import Trajectory

T = 10.0
RTOL = 1e-6
_DIMS = (10, 10, 10, 10)


def starts(members: int) -> tuple[gflow.LayerwiseFlow, Tensor]:
    """Return the flow, and Gaussian layers of scales 0.3 to 1.2 as (members, 300) states."""
    rng = torch.Generator().manual_seed(0)
    M = torch.randn(10, 10, generator=rng, dtype=torch.float64) / 10**0.5
    flow = gflow.LayerwiseFlow(SquaredDistance(M), _DIMS)
    scales = 0.3 + 0.9 * torch.rand(members, 1, generator=rng, dtype=torch.float64)
    return flow, scales * torch.randn(members, 300, generator=rng, dtype=torch.float64) / 10**0.5


def truth(flow: gflow.LayerwiseFlow, y0: Tensor) -> Tensor:
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


def integrate_all(flow: gflow.LayerwiseFlow, Y0: Tensor, rtol: float) -> Trajectory:
    """Integrate all starts in one call."""
    return gflow.integrate(flow, Y0, (0.0, T), "auto", rtol, 1e-3 * rtol)


def rows(members: int = 1000, sample: int = 20) -> list[Row]:
    """Return a row for torchdiffeq and rows for gflow; their costs are per member."""
    from torchdiffeq import odeint

    flow, Y0 = starts(members)
    picked = list(range(0, members, max(1, members // sample)))[:sample]
    truths = torch.stack([truth(flow, Y0[i]) for i in picked])

    def error(ys: Tensor) -> float:
        return float(((ys - truths).norm(dim=1) / truths.norm(dim=1)).max())

    calls = 0

    def rhs(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return flow(t, y)

    ts = torch.tensor([0.0, T], dtype=torch.float64)
    theirs = Row("ensemble", "torchdiffeq dopri5", "peer", RTOL)

    def loop() -> Tensor:
        began = time.perf_counter()
        with torch.no_grad():
            ends = [
                odeint(rhs, Y0[i], ts, rtol=RTOL, atol=0.3 * RTOL, method="dopri5")[-1]
                for i in picked
            ]
        theirs.seconds.append((time.perf_counter() - began) / len(picked))
        return torch.stack(ends)

    theirs.error = error(loop())
    theirs.rhs = round(calls / len(picked))
    measured = [theirs]
    for rtol in (10 * RTOL, RTOL, RTOL / 10, RTOL / 100):
        ours = Row("ensemble", "gflow auto", "gflow", rtol)
        measured.append(ours)
        try:
            path, ours.peak_mb = measure_peak(functools.partial(integrate_all, flow, Y0, rtol))
            for _ in range(3):
                began = time.perf_counter()
                integrate_all(flow, Y0, rtol)
                ours.seconds.append((time.perf_counter() - began) / members)
                loop()
        except gflow.GflowError as reason:
            ours.status = f"{type(reason).__name__}: {reason}"
            break
        ours.error, ours.rhs, ours.jvp = error(path.ys[-1][picked]), path.stats.rhs_evals, 0
        ours.chosen = path.stats.method
        if ours.error <= theirs.error:
            break
    return measured


def table(measured: list[Row]) -> str:
    """Return the rows as Markdown."""
    base = measured[0].wall
    lines = [
        "| method | rtol | largest error | milliseconds per member | throughput |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in measured:
        if row.answered:
            lines.append(
                f"| {row.method} {row.chosen} | {row.rtol:.0e} | {row.error:.1e} "
                f"| {1e3 * row.wall:.3f} | {base / row.wall:.1f} |"
            )
        else:
            lines.append(f"| {row.method} | {row.rtol:.0e} | {row.status} | – | – |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--sample", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print(table(rows(options.members, options.sample)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
