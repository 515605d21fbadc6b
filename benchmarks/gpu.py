"""One CUDA device: are the results those of the CPU, and how fast is it?

1. Every flow by every own method, in float64 and float32, one start and three; kernels and
   descents in closed form: the largest difference to the CPU (device_differences.py).
2. How often the host waits for the device in a step of an ensemble (host_reads.py).
3. Evaluations per second of ensembles, beside torchdiffeq's dopri5 on the same device with one
   step for all members; of a large network; the seconds of a tangent kernel.
4. An evaluation alone, beside the same recorded as a CUDA graph: what launching kernels costs.

Sections end when their share of the time is used up, and say what was left out.

Run: python benchmarks/gpu.py [--device cuda] [--minutes 6] [--small]
With ``--small`` or on the CPU the sizes are those of a test. Exit status: 1 if a result differs.
"""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from device_differences import (
    AGREE,
    METHODS,
    OUT_OF_TIME,
    Clock,
    differences,
    kernel_differences,
)
from host_reads import counted
from result_files import write_result
from torch import Tensor, nn

import gflow
from gflow.discovery import concrete_classes
from gflow.flows import Flow
from gflow.losses import SquaredDistance

MEMBERS, SMALL_MEMBERS = (10_000, 100_000, 1_000_000), (64, 256)
DIMS = (4, 4, 4, 4)
T_END = 10.0


def ensemble(members: int, device: torch.device, dtype: torch.dtype) -> tuple[Flow, Tensor]:
    """Return deep linear networks 4-4-4-4 from random layers, (members, 48)."""
    rng = torch.Generator().manual_seed(0)
    M = torch.randn(DIMS[-1], DIMS[0], generator=rng, dtype=torch.float64)
    flow = gflow.LayerwiseFlow(SquaredDistance(M.to(device, dtype)), DIMS)
    Y0 = 0.5 * torch.randn(members, *flow.state_shape, generator=rng, dtype=torch.float64)
    return flow, Y0.to(device, dtype)


def waits(device: torch.device, members: int) -> Iterator[str]:
    """Yield a row for each method: reads of the host in a step, and in all."""
    for method in METHODS:
        flow, Y0 = ensemble(members, device, torch.float64)
        if method == "bdf":  # it takes one start: a tensor that is no array of the CPU
            Y0 = Y0[0]
            if device.type == "cpu":
                continue
        gflow.integrate(flow, Y0, [0.0, 0.01], method, 1e-6, 1e-9)  # fills what is computed once
        with counted(device) as reads:
            gflow.integrate(flow, Y0, [0.0, T_END], method, 1e-6, 1e-9)
        steps = max(reads.steps, 1)
        yield (
            f"| {method} | {reads.steps:,} | {reads.in_steps / steps:.2f} | {reads.estimates:,} "
            f"| {reads.in_estimates / max(reads.estimates, 1):.1f} | {reads.in_loop / steps:.2f} |"
        )


def speeds(device: torch.device, sizes: tuple[int, ...], clock: Clock) -> Iterator[str]:
    """Yield a row for each size and solver: seconds, and evaluations of members per second."""
    from torchdiffeq import odeint

    for members in sizes:
        for dtype in (torch.float64, torch.float32):
            flow, Y0 = ensemble(members, device, dtype)
            rtol = 1e-4
            calls = 0

            def rhs(t: Tensor, y: Tensor, flow: Flow = flow) -> Tensor:
                nonlocal calls
                calls += 1
                return flow(t, y)

            def theirs(Y0: Tensor = Y0, rtol: float = rtol) -> Tensor:
                ts = torch.tensor([0.0, T_END], dtype=Y0.dtype, device=Y0.device)
                with torch.no_grad():
                    return odeint(rhs, Y0, ts, rtol=rtol, atol=1e-3 * rtol, method="dopri5")

            label = f"{members:,} starts, {str(dtype).removeprefix('torch.')}"
            if clock.left < 0:
                yield f"| {label} | left out: out of time | | |"
                continue
            theirs()  # the first call compiles and allocates
            calls = 0
            seconds = clock.seconds(theirs)
            rate = calls * members / seconds
            yield f"| {label} | torchdiffeq dopri5 | {seconds:.2f} | {rate:,.0f} |"
            for method in ("tsit5", "auto"):
                path = gflow.integrate(flow, Y0, [0.0, T_END], method, rtol, 1e-3 * rtol)
                evals = path.stats.rhs_evals
                seconds = path.stats.wall_seconds
                yield f"| {label} | gflow {method} | {seconds:.2f} | {evals / seconds:,.0f} |"


def network(device: torch.device, width: int, clock: Clock) -> Iterator[str]:
    """Yield rows for a tanh network of two hidden layers on 1,024 points of 784 numbers."""
    from torchdiffeq import odeint

    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(784, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10)
    ).to(device)
    X, Y = torch.randn(1024, 784, device=device), torch.randn(1024, 10, device=device)
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y)
    y0 = flow.start
    label = f"network of {len(y0):,} parameters, float32"
    if clock.left < 0:
        yield f"| {label} | left out: out of time | | |"
        return
    calls = 0

    def rhs(t: Tensor, y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return flow(t, y)

    ts = torch.tensor([0.0, 1.0], device=device)
    seconds = clock.seconds(lambda: odeint(rhs, y0, ts, rtol=1e-3, atol=1e-6, method="dopri5"))
    yield f"| {label} | torchdiffeq dopri5 | {seconds:.2f} | {calls / seconds:,.0f} |"
    for method in ("tsit5", "auto"):
        path = gflow.integrate(flow, y0, [0.0, 1.0], method, 1e-3, 1e-6)
        evals, seconds = path.stats.rhs_evals + path.stats.jvp_evals, path.stats.wall_seconds
        yield f"| {label} | gflow {method} | {seconds:.2f} | {evals / seconds:,.0f} |"


def kernel(device: torch.device, n: int, clock: Clock) -> Iterator[str]:
    """Yield a row for the tangent kernel of n points, float32."""
    from gflow.kernels import ntk

    label = f"ntk of {n:,} points, float32"
    if clock.left < 0:
        yield f"| {label} | left out: out of time | | |"
        return
    X = torch.randn(n, 64, generator=torch.Generator().manual_seed(0)).to(device)
    seconds = clock.seconds(lambda: ntk(X, depth=2))
    yield f"| {label} | gflow ntk | {seconds:.2f} | {n * n / seconds:,.0f} entries |"


def graphs(device: torch.device, clock: Clock) -> Iterator[str]:
    """Yield rows of an evaluation, as it is and recorded as a CUDA graph."""
    if device.type != "cuda":
        yield "| – | for CUDA only | | |"
        return
    for members in (1, 10_000):
        flow, Y0 = ensemble(members, device, torch.float64)
        with torch.no_grad():
            for _ in range(3):
                flow(0.0, Y0)
            clock.wait()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                flow(0.0, Y0)
            eager = _repeated(clock, functools.partial(flow, 0.0, Y0))
            recorded = _repeated(clock, graph.replay)
        yield (
            f"| {members:,} starts | {1e6 * eager:.1f} | {1e6 * recorded:.1f} "
            f"| {recorded / eager:.2f} |"
        )


def _repeated(clock: Clock, work: Callable[[], Any], times: int = 200) -> float:
    """Return the seconds of some work, the mean of many times."""

    def repeat() -> None:
        for _ in range(times):
            work()

    return clock.seconds(repeat) / times


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--flows", nargs="*", help="names of flows; all by default")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    device = torch.device(options.device)
    small = options.small or device.type == "cpu"
    share = options.minutes / 3
    flows = sorted(concrete_classes("gflow.flows", Flow), key=lambda cls: cls.__name__)
    classes = [c for c in flows if not options.flows or c.__name__ in options.flows]

    found = [*differences(device, Clock(device, share), classes)]
    found += kernel_differences(device, 40 if small else 500)
    left_out = [f"{flow}: {case}" for flow, case, _ in found if case == OUT_OF_TIME]
    found = [each for each in found if each[1] != OUT_OF_TIME]
    wrong = []
    lines = [
        "# One device: results beside the CPU's, host waits and speeds",
        "",
        f"Device: {torch.cuda.get_device_name() if device.type == 'cuda' else 'none: the CPU'}.",
        "",
        "| flow | largest difference to the CPU | solves | refused on both |",
        "| --- | ---: | ---: | ---: |",
    ]
    for flow in dict.fromkeys(name for name, _, _ in found):
        values = [(case, value) for name, case, value in found if name == flow]
        known = [value for _, value in values if value is not None]
        wrong += [
            f"{flow}, {case}: {value:.1e}"
            for case, value in values
            if value is not None
            and not value <= AGREE[torch.float32 if "float32" in case else torch.float64]
        ]
        worst = f"{max(known):.1e}" if known else "–"
        lines.append(f"| {flow} | {worst} | {len(known)} | {len(values) - len(known)} |")
    lines += ["", *(f"**Differs: {text}**" for text in wrong), *left_out]
    lines += [
        "",
        "Host waits in an ensemble; an estimate of growth or of the spectral radius waits, too:",
        "",
        "| method | steps | waits in a step | estimates | waits in one | waits over steps |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *waits(device, 64),
    ]
    clock = Clock(device, share)
    lines += [
        "",
        "| problem | solver | seconds | evaluations a second |",
        "| --- | --- | ---: | ---: |",
        *network(device, 20 if small else 2750, clock),
        *kernel(device, 200 if small else 50_000, clock),
        *speeds(device, SMALL_MEMBERS if small else MEMBERS, clock),
        "",
        "| evaluation | as it is, µs | CUDA graph, µs | ratio |",
        "| --- | ---: | ---: | ---: |",
        *graphs(device, clock),
    ]
    if small:
        lines += ["", "Small sizes. n = 50,000, 10⁷ parameters and 10⁶ starts are for CUDA only."]
    write_result("gpu", lines, trial=options.small)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
