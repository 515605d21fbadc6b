"""The peak memory of a solve in states, by method and size, and the lines that hold it.

A state count is the peak of a solve less the larger of the peaks of one evaluation and of one
Hessian product, after a warm-up solve of another size, over the bytes of one state. The flow is
that of φ = ½Σλ_i w_i² + ¼Σw_i⁴, by automatic differentiation, with λ from 1 to 1,000; the requested
times are the start and the end, which count as two states.

Each solve runs in a process of its own. The allocations of torch are counted one by one
(live_memory.py); the resident set, with memory returned to the system when it is freed, is the
check. Small states are NumPy arrays in a solve, whose memory is not counted: here they are tensors.

Run: python benchmarks/memory.py [--sizes 1e4 1e5 1e6 1e7] [--methods bdf rkc2] [--holders]
Exit status: 0 if every count at 1e6 parameters is within its bound, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from live_memory import LiveMemory
from result_files import write_result
from torch import Tensor

import gflow
from gflow.flows.base import ParameterFlow
from gflow.solvers.loop import system

METHODS = ("tsit5", "dop853", "rkc2", "rock4", "bdf", "auto")
BOUNDS = {"tsit5": 16.0, "rkc2": 12.0, "rock4": 12.0, "bdf": 24.0}  # states at BOUNDED_SIZE
SIZES, BOUNDED_SIZE = (10_000, 100_000, 1_000_000, 10_000_000), 1_000_000
T_END, FASTEST, RTOL, ATOL = 0.002, 3.0, 1e-4, 1e-6
_RETURN_MEMORY = {  # glibc keeps no freed block that has the size of a state
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "0",
    "MALLOC_MMAP_THRESHOLD_": "65536",
}


@dataclass
class Row:
    """One solve; memory in states."""

    method: str
    size: int
    dtype: str
    evaluation: float
    product: float
    peak: float
    resident: float | None
    evaluations: int
    holds: bool
    holders: dict[str, float] = field(default_factory=dict)

    @property
    def states(self) -> float:
        return self.peak - max(self.evaluation, self.product)


def quartic(size: int, dtype: torch.dtype) -> tuple[ParameterFlow, Tensor]:
    """Return the flow and its start."""
    rates = torch.logspace(0, FASTEST, size, dtype=dtype)
    flow = gflow.flow_from_loss(lambda w: 0.5 * (rates * w) @ w + 0.25 * w.square() @ w.square())
    start = torch.cos(torch.arange(size, dtype=torch.float64)).to(dtype) + 0.2
    return flow.for_start(start), start


def measure(method: str, size: int, dtype: torch.dtype) -> Row:
    """Solve in this process."""
    for warm_up in (1000, max(size // 8, 1000)):
        flow, y0 = quartic(warm_up, dtype)
        gflow.integrate(flow, y0, [0.0, T_END], method, RTOL, ATOL)
    flow, y0 = quartic(size, dtype)
    state = y0.numel() * y0.element_size()
    evaluation, _ = _peak(lambda: flow(0.0, y0), state)
    product, _ = _peak(lambda: flow.jvp(y0, y0), state)
    paths: list[gflow.Trajectory] = []
    solve = lambda: paths.append(  # noqa: E731
        gflow.integrate(flow, y0, [0.0, T_END], method, RTOL, ATOL)
    )
    counted, resident = _peak(solve, state)
    holders: Counter[str] = Counter()
    for line, nbytes in counted.at_peak:
        holders[line] += nbytes
    return Row(
        method,
        size,
        str(dtype).removeprefix("torch."),
        evaluation.peak / state,
        product.peak / state,
        counted.peak / state,
        None if resident is None else resident / state,
        paths[0].stats.rhs_evals,
        paths[0].certificate.holds,
        {line: nbytes / state for line, nbytes in holders.most_common()},
    )


def _peak(call: Callable[[], object], state: int) -> tuple[LiveMemory, int | None]:
    """Return the memory that a call counts, and the growth of the resident set in bytes."""
    before = _reset_resident()
    with LiveMemory(least=state // 4) as counted:
        call()
    return counted, None if before is None else _status("VmHWM") - before


def _reset_resident() -> int | None:
    """Reset the peak of the resident set, and return the set; None off Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def in_fresh_process(method: str, size: int, dtype: str) -> Row:
    """Return `measure` of a new process."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", method, str(size), dtype]
    environment = {**os.environ, **_RETURN_MEMORY, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return Row(**json.loads(done.stdout.splitlines()[-1]))


def report(rows: list[Row], holders: bool) -> list[str]:
    """Return the rows as Markdown, and the holders of each peak if they are wanted."""
    lines = [
        "# Peak memory of a solve, in states",
        "",
        "States beyond the larger of one evaluation and one Hessian product, of a flow by "
        "automatic differentiation, two requested times, CPU. Beside them the peaks, and the "
        "growth of the resident set. From 131,072 numbers on, methods keep few vectors.",
        "",
        "| method | parameters | dtype | evaluation | product | peak | resident | states | bound | "
        "evaluations | certificate |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        resident = "" if row.resident is None or row.size < 100_000 else f"{row.resident:.1f}"
        bound = BOUNDS.get(row.method) if row.size == BOUNDED_SIZE else None
        lines.append(
            f"| {row.method} | {row.size:,} | {row.dtype} | {row.evaluation:.1f} | "
            f"{row.product:.1f} | {row.peak:.1f} | {resident} | {row.states:.1f} | "
            f"{'' if bound is None else f'{bound:.0f}'} | {row.evaluations} | "
            f"{'holds' if row.holds else 'DOES NOT HOLD'} |"
        )
    for row in rows if holders else []:
        lines += ["", f"Held at the peak of {row.method}, {row.size:,} parameters:", ""]
        lines += ["| states | allocated by |", "| ---: | --- |"]
        lines += [f"| {size:.1f} | `{line}` |" for line, size in row.holders.items()]
    return lines


def within_bounds(rows: list[Row]) -> bool:
    """Return whether the counts at the size with bounds are within them."""
    return all(
        round(row.states, 1) <= BOUNDS.get(row.method, float("inf"))
        for row in rows
        if row.size == BOUNDED_SIZE
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--dtypes", nargs="+", default=["float64"])
    parser.add_argument("--holders", action="store_true", help="list what is held at each peak")
    parser.add_argument("--trial", action="store_true", help="write no file")
    parser.add_argument(
        "--one", nargs=3, metavar=("METHOD", "SIZE", "DTYPE"), help="in this process"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        method, size, dtype = arguments.one
        system._SMALL = 0
        print(json.dumps(asdict(measure(method, int(size), getattr(torch, dtype)))))
        return 0
    rows: list[Row] = []
    for dtype in arguments.dtypes:
        for size in arguments.sizes:
            for method in arguments.methods:
                rows.append(in_fresh_process(method, int(size), dtype))
                print(f"{method} {int(size):,} {rows[-1].states:.1f} states", file=sys.stderr)
    write_result("memory", report(rows, arguments.holders), trial=arguments.trial)
    return 0 if within_bounds(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
