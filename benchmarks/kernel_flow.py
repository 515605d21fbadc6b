"""Kernel flow on all the digits: predictions at 50 times, and empirical kernels.

The training points are all 1,797 digits with ten outputs, the kernel is H* of a two-layer ReLU
network, and the test points are 300 digits with noise. Training and test predictions at 50 times by
one eigendecomposition, or by Krylov spaces without it, are compared with a separate solve for each
time. Medians of interleaved repeats in CPU seconds, in one process on one thread; slow methods are
timed at some of the times only, and scaled.

Memory is that of the tensors alive at the same time, besides those alive before.

Run: python benchmarks/kernel_flow.py [--repeats 3]
Exit status: 0 if the requirements hold (ten times faster; 1e-6; less than n × n), 1 otherwise.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import gflow
from gflow.data import load
from gflow.kernels import empirical_ntk, empirical_ntk_product, two_layer_relu_gram
from gflow.preparation import regression_targets, unit_rows

TIMES = torch.logspace(-3, 2, 50, dtype=torch.float64)
SLOW_TIMES = 2  # number of times at which slow methods are timed
RESULT = Path(__file__).parent / "results" / "kernel_flow.md"


class LiveMemory(TorchDispatchMode):
    """The largest number of bytes of tensors that are created here and alive at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[Any, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._alive = {k: v for k, v in self._alive.items() if not v[0].expired()}
        old = {s._cdata for s in _storages((args, kwargs))} | self._alive.keys()
        new = (s for s in _storages(out) if s._cdata not in old)
        self._alive |= {s._cdata: (StorageWeakRef(s), s.nbytes()) for s in new}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return out


def _storages(values: Any) -> list[Any]:
    tensors = (v for v in tree_leaves(values) if isinstance(v, Tensor) and not v._is_zerotensor())
    return [v.untyped_storage() for v in tensors]


def seconds(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median CPU seconds of each call, in interleaved repeats."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            spent[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in spent.items()}


def digits() -> tuple[Tensor, Tensor, Tensor]:
    data = load("digits")
    x, y = torch.as_tensor(unit_rows(data.inputs)), torch.as_tensor(regression_targets(data))
    noise = torch.randn(300, x.shape[1], generator=torch.Generator().manual_seed(0)).double()
    return x, y, nn.functional.normalize(x[:300] + 0.05 * noise, dim=1)


def predictions(repeats: int) -> tuple[list[str], bool]:
    x, y, z = digits()
    n = len(x)
    u0 = torch.zeros_like(y)
    H, H_test = two_layer_relu_gram(x), two_layer_relu_gram(z, x)

    def fresh() -> gflow.KernelFlow:
        return gflow.KernelFlow(H, y, H_test)

    def each_by_eigh() -> None:
        for t in TIMES[:SLOW_TIMES]:
            fresh().predict(t[None], u0, method="exact")

    def each_by_krylov() -> None:
        for t in TIMES[:: len(TIMES) // SLOW_TIMES]:
            fresh().predict(t[None], u0, method="krylov", rtol=1e-6)

    def each_by_exponential() -> None:
        for t in TIMES[-1:]:
            remaining = torch.linalg.matrix_exp(-t * H) @ (u0 - y)
            torch.linalg.solve(H, u0 - y - remaining)  # φ₁ by an inverse of H

    calls: dict[str, Callable[[], Any]] = {
        "exact": lambda: fresh().predict(TIMES, u0, method="exact"),
        "krylov": lambda: fresh().predict(TIMES, u0, method="krylov", rtol=1e-6),
        "eigh": each_by_eigh,
        "krylov each": each_by_krylov,
        "expm": each_by_exponential,
    }
    spent = seconds(calls, repeats)
    count = len(TIMES)
    spent["eigh"] *= count / SLOW_TIMES
    spent["krylov each"] *= count / len(TIMES[:: len(TIMES) // SLOW_TIMES])
    spent["expm"] *= count
    exact = fresh().predict(TIMES, u0, method="exact")
    with LiveMemory() as live:
        krylov = fresh().predict(TIMES, u0, method="krylov", rtol=1e-6)
    differences = [
        float(((a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2)).max()).max())
        for a, b in zip(krylov, exact, strict=True)
        if a is not None and b is not None
    ]
    matrix = n * n * 8
    ratio = min(spent["eigh"], spent["expm"]) / spent["exact"]
    labels = {
        "exact": "one eigendecomposition, `predict(method='exact')`",
        "krylov": "no decomposition, `predict(method='krylov', rtol=1e-6)`",
        "eigh": "an eigendecomposition for each time",
        "expm": "`matrix_exp` and a solve for each time",
        "krylov each": "`krylov` for each time",
    }
    lines = [
        f"## Predictions at {count} times from 1e-3 to 100",
        "",
        f"n = {n}, {y.shape[1]} outputs, {len(z)} test points.",
        "",
        "| method | CPU seconds | relative to one eigendecomposition |",
        "| --- | ---: | ---: |",
        *(
            f"| {labels[name]} | {spent[name]:.2f} | {spent[name] / spent['exact']:.2f} |"
            for name in labels
        ),
        "",
        f"`krylov` against `exact`: {differences[0]:.1e} at the training points, "
        f"{differences[1]:.1e} at the test points, relative to the largest norm; beside H, at most "
        f"{live.peak / matrix:.2f} n × n numbers are in memory, including the predictions.",
        "",
    ]
    return lines, ratio >= 10 and max(differences) <= 1e-6 and live.peak < matrix


def by_loop(module: nn.Module, x: Tensor) -> Tensor:
    """Return the kernel, averaged over outputs, from `torch.autograd.functional.jacobian`."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    rows = []
    for point in x:

        def outputs(*values: Tensor, point: Tensor = point) -> Tensor:
            named = dict(zip(parameters, values, strict=True))
            u: Tensor = functional_call(module, named, (point[None],))[0]
            return u

        parts = torch.autograd.functional.jacobian(outputs, tuple(parameters.values()))
        rows.append(torch.cat([part.flatten(1) for part in parts], dim=1))
    J = torch.stack(rows).flatten(1)
    return J @ J.mT / len(parts[0])


def empirical(repeats: int) -> list[str]:
    x = torch.as_tensor(load("digits").inputs[:500]) / 16
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    ).double()
    product = empirical_ntk_product(module, x)
    v = torch.ones(len(x), 1).double()
    subset = x[:100]
    calls: dict[str, Callable[[], Any]] = {
        "`empirical_ntk`, default method": lambda: empirical_ntk(module, x),
        "one product by `empirical_ntk_product`": lambda: product(v),
        "100 points: `method='structured'`": lambda: empirical_ntk(module, subset),
        "100 points: `method='jacobian'`": lambda: empirical_ntk(module, subset, method="jacobian"),
        "100 points: loop over `autograd.functional.jacobian`": lambda: by_loop(module, subset),
    }
    empirical_ntk(module, x[:2], method="products")  # imports
    spent = seconds(calls, repeats)
    expected = by_loop(module, subset)
    differences = float((empirical_ntk(module, subset) - expected).norm() / expected.norm())
    return [
        "## Empirical kernel of 64-256-256-10 on 500 digits",
        "",
        "85,002 parameters, float64, the mean over ten outputs.",
        "",
        "| method | CPU seconds |",
        "| --- | ---: |",
        *(f"| {name} | {value:.3f} |" for name, value in spent.items()),
        "",
        f"Relative difference to the loop: {differences:.1e}.",
        "",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="timings of each (default 3)")
    repeats = parser.parse_args().repeats
    if repeats < 1:
        parser.error(f"--repeats must be at least 1, got {repeats}")
    torch.set_num_threads(1)
    lines, holds = predictions(repeats)
    text = "\n".join(
        [
            "# Kernel flow to scale",
            "",
            f"CPU, one thread, float64, medians of {repeats} interleaved repeats.",
            "",
            *lines,
            *empirical(repeats),
            f"{datetime.date.today()}, gflow {gflow.__version__}, torch {torch.__version__}, "
            f"Python {platform.python_version()}, {platform.system()} {platform.machine()}.",
            "Command: `python benchmarks/kernel_flow.py`",
        ]
    )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
