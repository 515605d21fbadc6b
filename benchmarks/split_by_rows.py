"""The cost of an evaluation whose rows are split across processes: bytes and time.

The script starts itself under torchrun. The first process times the whole flow and the split flow
in interleaved repeats, so that both run under the same load; the smallest time counts, as other
processes can only add to it.

Run: python benchmarks/split_by_rows.py [--processes 2] [--device cpu] [--repeats 15] [--quick]
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import gflow
from gflow.distributed import Team, processes
from gflow.flows import KernelFlow, NetworkFlow
from gflow.kernels import two_layer_relu_gram
from gflow.settings.architectures import mlp

RESULT = Path(__file__).parent / "results" / "split_by_rows.md"
NETWORKS = ((500, 64), (5_000, 64), (50_000, 64), (5_000, 1024))  # samples, width
KERNELS = ((2_000, 1), (6_000, 1), (6_000, 10))  # points, outputs
Evaluate = Callable[[], object]


@dataclass
class Row:
    """The cost of one kind of evaluation."""

    name: str
    numbers: int
    sent: int  # bytes from the first process, to each of the others
    back: int  # bytes that reach the first, from each
    single: float  # seconds
    split: float


class Counter:
    """Counts the bytes that the first process passes to torch.distributed."""

    def __init__(self) -> None:
        self.sent = self.back = 0
        for name in ("broadcast", "reduce", "gather"):
            setattr(dist, name, self._counted(name, getattr(dist, name)))

    def _counted(self, name: str, collective: Callable[..., Any]) -> Callable[..., Any]:
        def call(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            size = tensor.numel() * tensor.element_size()
            if name == "broadcast":
                self.sent += size
            else:
                self.back += size
            return collective(tensor, *args, **kwargs)

        return call


def network(samples: int, width: int, device: str, team: Team | None) -> NetworkFlow:
    torch.manual_seed(0)
    module = mlp(64, 10, width, 2, "tanh", True).double().to(device)
    x = torch.randn(samples, 64, dtype=torch.float64)
    inputs, targets = x.to(device), x[:, :10].tanh().to(device)
    return NetworkFlow(module, nn.functional.mse_loss, inputs, targets, team=team)


def kernel(n: int, outputs: int, device: str, team: Team | None) -> KernelFlow:
    torch.manual_seed(0)
    x = nn.functional.normalize(torch.randn(n, 64, dtype=torch.float64))
    points, targets = x.to(device), x[:, :outputs].to(device)
    return KernelFlow.from_kernel(two_layer_relu_gram, points, targets, team=team)


def seconds(evaluate: Evaluate, device: str) -> float:
    began = time.perf_counter()
    evaluate()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(
    name: str, numbers: int, single: Evaluate, split: Evaluate, counter: Counter, options: Any
) -> Row:
    single(), split()
    counter.sent = counter.back = 0
    split()
    row = Row(name, numbers, counter.sent, counter.back, float("inf"), float("inf"))
    for _ in range(options.repeats):
        row.single = min(row.single, seconds(single, options.device))
        row.split = min(row.split, seconds(split, options.device))
    return row


def work(options: argparse.Namespace) -> int:
    """Run the benchmark in one of the processes; return the exit status."""
    torch.set_num_threads(1)
    networks = NETWORKS[:1] if options.quick else NETWORKS
    kernels = ((200, 1),) if options.quick else KERNELS
    device = options.device
    with processes() as team:
        counter = Counter()
        split = [network(*case, device, team) for case in networks]
        shared = [kernel(*case, device, team) for case in kernels]
        if not team.leads():
            return 0
        rows = []
        for (samples, width), part in zip(networks, split, strict=True):
            single = network(samples, width, device, None)
            y, name = single.pack(), f"network, {samples:,} samples, width {width:,}"
            for evaluation, of in (("gradient", gradient), ("Hessian product", product)):
                pair = of(single, y), of(part, y)
                rows.append(measure(f"{name}: {evaluation}", len(y), *pair, counter, options))
        for (n, outputs), made in zip(kernels, shared, strict=True):
            alone = kernel(n, outputs, device, None)
            u = torch.zeros_like(alone.targets)
            pair = velocity(alone, u), velocity(made, u)
            name = f"kernel, {n:,} points, {outputs} outputs: H v"
            rows.append(measure(name, u.numel(), *pair, counter, options))
        text = report(rows, options)
    print(text, end="")
    if not options.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")
    return 0


def gradient(flow: NetworkFlow, y: Tensor) -> Evaluate:
    return lambda: flow.loss_and_velocity(y)


def product(flow: NetworkFlow, y: Tensor) -> Evaluate:
    return lambda: flow.jvp(y, y)


def velocity(flow: KernelFlow, u: Tensor) -> Evaluate:
    return lambda: flow(0.0, u)


def report(rows: list[Row], options: argparse.Namespace) -> str:
    size = os.environ.get("WORLD_SIZE", "1")
    machine = "CPU, one thread per process" if options.device == "cpu" else "one GPU per process"
    lines = [
        f"# One evaluation in one process and in {size}",
        "",
        f"float64, {machine}, smallest of {options.repeats} interleaved repeats, load "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the end.",
        "",
        "| evaluation | size of the state | bytes sent | bytes received | one process, ms "
        "| split, ms | one / split |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.name} | {row.numbers:,} | {row.sent:,} | {row.back:,} | {1e3 * row.single:.2f} "
        f"| {1e3 * row.split:.2f} | {row.single / row.split:.2f} |"
        for row in rows
    ]
    lines += [
        "",
        f"{datetime.date.today()}, gflow {gflow.__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {platform.system()} {platform.machine()}.",
        f"Command: `python benchmarks/split_by_rows.py --processes {size}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--quick", action="store_true", help="run the smallest case only, write nothing"
    )
    options = parser.parse_args()
    if "RANK" in os.environ:
        return work(options)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    count = ["--nproc-per-node", str(options.processes)]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    command = [*launcher, *count, __file__, *sys.argv[1:]]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
