"""Where solving the runs of a sweep as one ensemble is faster than solving each alone.

First table: solves of sixteen random starts by `auto`, rtol 1e-8, at 101 times, alone and as one
ensemble, by the size of a state; it determines `gflow.sweeping.ensembles.MAX_STATE_SIZE`. Second
table: paths that become stiff. Then a sweep of deep-linear over seeds on two workers, with and
without ``--apart``. Medians of interleaved repeats.

Run: python benchmarks/ensembles_of_runs.py [--repeats 3] [--seeds 60] [--trial]
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from result_files import write_result
from torch import Tensor

from gflow import EndToEndFlow, ProductFlow, integrate
from gflow.execution.batching import run_batched
from gflow.flows.base import Flow
from gflow.losses import MatrixCompletion, SquaredDistance
from gflow.scenario import load_scenario
from gflow.sweeping.engine import run_sweep
from gflow.sweeping.ensembles import MAX_STATE_SIZE, MIN_ROCK4_MEMBERS, Ensembles, can_batch
from gflow.sweeping.plan import make_plan
from gflow.sweeping.workers import WorkerConfig

STARTS, TIMES = 16, [0.05 * i for i in range(101)]
SIZES = (3, 10, 20, 30, 45, 64)


def end_to_end(d: int) -> tuple[Flow, list[Tensor]]:
    """Return the end-to-end flow of depth 3 for a random d×d target, and small random starts."""
    rng = torch.Generator().manual_seed(d)
    target = torch.randn(d, d, generator=rng, dtype=torch.float64) / d**0.5
    flow = EndToEndFlow(SquaredDistance(target), depth=3)
    starts = torch.randn(STARTS, d, d, generator=rng, dtype=torch.float64) / d
    return flow, list(0.3 * starts)


def layers(d: int) -> tuple[Flow, list[Tensor]]:
    """Return the flow of the layers of the same network."""
    return parameter_flow(*end_to_end(d))


def product(d: int) -> tuple[Flow, list[Tensor]]:
    """Return the flow of W = UUᵀ with half of the entries observed, and random starts."""
    rng = torch.Generator().manual_seed(d)
    half = torch.randn(d, 3, generator=rng, dtype=torch.float64) / d**0.5
    mask = torch.rand(d, d, generator=rng) < 0.5
    starts = torch.randn(STARTS, d, d, generator=rng, dtype=torch.float64) * (0.3 / d**0.5)
    flow = ProductFlow(MatrixCompletion(half @ half.mT, mask | mask.mT))
    return flow, [U @ U.mT for U in starts]


def factor(d: int) -> tuple[Flow, list[Tensor]]:
    """Return the flow of the factor U of the same problem."""
    return parameter_flow(*product(d))


def parameter_flow(flow: Flow, starts: list[Tensor]) -> tuple[Flow, list[Tensor]]:
    """Return the parameter flow of a reduced flow, and the lifted starts."""
    return flow.parameter_flow, [flow.lift(start) for start in starts]


def compare(flow: Flow, starts: list[Tensor], repeats: int) -> tuple[float, float]:
    """Return the median seconds per start, alone and in one ensemble."""
    alone, ensemble = interleaved_medians(
        lambda: [integrate(flow, y0, TIMES, rtol=1e-8, atol=1e-11) for y0 in starts],
        lambda: integrate(flow, torch.stack(starts), TIMES, rtol=1e-8, atol=1e-11),
        repeats,
    )
    return alone / len(starts), ensemble / len(starts)


def interleaved_medians(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Return the median seconds of two calls in interleaved repeats."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, taken in zip((first, second), times, strict=True):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def size_rows(repeats: int) -> list[str]:
    """Return the rows of the first table."""
    lines = []
    for make in (end_to_end, layers, product, factor):
        for d in SIZES:
            flow, starts = make(d)
            alone, ensemble = compare(flow, starts, repeats)
            lines.append(
                f"| {type(flow).__name__} | {starts[0].numel():,} | {1e3 * alone:.1f} | "
                f"{1e3 * ensemble:.1f} | {alone / ensemble:.1f} |"
            )
            print(lines[-1], flush=True)
    return lines


def run_individually(jobs: Sequence[Callable[[], object]]) -> None:
    """Execute each job individually."""
    for job in jobs:
        job()


def run_in_lockstep(jobs: Sequence[Callable[[], object]]) -> None:
    """Execute the jobs as a worker executes the runs of a group."""
    run_batched(jobs, Ensembles().serve, can_batch)


def horizon_rows(repeats: int) -> list[str]:
    """Return the rows of the second table: scenarios whose paths become stiff, or do not."""
    lines = []
    for name, key, t_end in (
        ("deep-linear", "seed", 20.0),
        ("deep-linear", "seed", 1_000.0),
        ("deep-matrix", "seed", 1_000.0),
        ("factorization", "init_scale", 10_000.0),
    ):
        for count in (4, MIN_ROCK4_MEMBERS, 32):
            values = [i if key == "seed" else 1e-3 * 1.05**i for i in range(count)]
            runs = [load_scenario(name, {key: value, "t_end": t_end}) for value in values]
            setups = [(run, run.setup()) for run in runs]
            ts = [t_end * i / 20 for i in range(21)]
            jobs = [
                functools.partial(integrate, s.flow, s.y0, ts, rtol=run.rtol, atol=run.atol)
                for run, s in setups
            ]
            alone, ensemble = interleaved_medians(
                functools.partial(run_individually, jobs),
                functools.partial(run_in_lockstep, jobs),
                repeats,
            )
            lines.append(
                f"| {name} | {t_end:,.0f} | {count} | {1e3 * alone / count:.0f} | "
                f"{1e3 * ensemble / count:.0f} | {alone / ensemble:.2f} |"
            )
            print(lines[-1], flush=True)
    return lines


def time_sweeps(seeds: int, repeats: int) -> tuple[float, float]:
    """Return the median seconds of a sweep of deep-linear, with individual runs and in groups."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(repeats):
        for apart, taken in times.items():
            with tempfile.TemporaryDirectory() as root:
                began = time.perf_counter()
                plan = make_plan("deep-linear", seeds=seeds, apart=apart)
                progress = run_sweep(plan, Path(root) / "sweep", WorkerConfig(workers=2))
                taken.append(time.perf_counter() - began)
                if progress.done < seeds:
                    raise RuntimeError(f"{progress.done} of {seeds} runs done: {progress.failed}")
    return statistics.median(times[True]), statistics.median(times[False])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--trial", action="store_true", help="print the tables only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, longer = size_rows(options.repeats), horizon_rows(options.repeats)
    apart, grouped = time_sweeps(options.seeds, options.repeats)
    lines = [
        "# Runs solved as one ensemble",
        "",
        f"{STARTS} starts, milliseconds per start. `gflow.sweeping.ensembles.MAX_STATE_SIZE` is "
        f"{MAX_STATE_SIZE:,}.",
        "",
        "| flow | size of a state | alone | in one ensemble | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        "Shipped scenarios, 21 requested times, milliseconds per solve. Alone, stiff solves use "
        f"bdf; ensembles of at least {MIN_ROCK4_MEMBERS} members use rock4. In smaller ensembles, "
        "members that become stiff are solved alone, and so are the next solves of their runs.",
        "",
        "| scenario | T | runs | alone | in one ensemble | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *longer,
        "",
        f"`gflow sweep deep-linear --seeds {options.seeds}` on two workers, including their start: "
        f"{apart:.1f} s with `--apart`, {grouped:.1f} s in groups, a ratio of "
        f"{apart / grouped:.1f}.",
    ]
    write_result("ensembles_of_runs", lines, trial=options.trial)
    return 0


if __name__ == "__main__":
    sys.exit(main())
