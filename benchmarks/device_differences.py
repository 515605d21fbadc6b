"""Are the results of a device those of the CPU? For `gpu.py`."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import gflow
from gflow.errors import GflowError
from gflow.flows import Flow
from gflow.kernels import conv_ntk, nngp, ntk

METHODS = ("tsit5", "dop853", "rkc2", "rock4", "bdf", "auto")
RTOL = {torch.float64: 1e-8, torch.float32: 1e-4}
# Both solves are right to the tolerance; their steps differ where round-off decides one.
AGREE = {torch.float64: 1e-6, torch.float32: 1e-2}
OUT_OF_TIME = "left out with all solves after it: out of time"


class Clock:
    """Time that is left, and seconds of work that the device has finished."""

    def __init__(self, device: torch.device, minutes: float) -> None:
        self._device, self._end = device, time.perf_counter() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self._end - time.perf_counter()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return the seconds of some work."""
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        """Wait for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()


def moved(thing: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a copy of a flow, a loss or a module with its tensors in a dtype on a device."""
    if isinstance(thing, nn.Module):
        return copy.deepcopy(thing).to(device, dtype)
    if isinstance(thing, Tensor):
        kept = thing.dtype if not thing.is_floating_point() else dtype
        return thing.detach().to(device, kept)
    if isinstance(thing, list | tuple) and type(thing) in (list, tuple):
        return type(thing)(moved(v, device, dtype) for v in thing)
    if isinstance(thing, dict):
        return {k: moved(v, device, dtype) for k, v in thing.items()}
    if type(thing).__module__.startswith("gflow"):
        copied = copy.copy(thing)
        copied.__dict__ = moved(vars(thing), device, dtype)
        return copied
    return thing


def differences(
    device: torch.device, clock: Clock, classes: list[type[Flow]]
) -> Iterator[tuple[str, str, float | None]]:
    """Yield flow, method with dtype and starts, and the relative difference to the CPU.

    The difference is None where the solve is refused on both, and of the first that is left out.
    """
    for cls in classes:
        for dtype in (torch.float64, torch.float32):
            for method in METHODS:
                for starts in (1, 3):
                    if clock.left < 0:
                        yield cls.__name__, OUT_OF_TIME, None
                        return
                    case = f"{method} {str(dtype).removeprefix('torch.')} × {starts}"
                    yield cls.__name__, case, _difference(cls, dtype, method, starts, device)


def _difference(
    cls: type[Flow], dtype: torch.dtype, method: str, starts: int, device: torch.device
) -> float | None:
    ends, refused = [], []
    for where in (torch.device("cpu"), device):
        flow, y0 = cls.example()
        flow, y0 = moved(flow, where, dtype), y0.to(where, dtype)
        if starts > 1:
            y0 = torch.stack([factor * y0 for factor in (1.0, 0.9, 1.1)])
        rtol = RTOL[dtype]
        try:
            path = gflow.integrate(flow, y0, [0.0, 0.1, 0.3], method, rtol, 1e-3 * rtol)
        except GflowError as reason:
            refused.append(str(reason))
            continue
        assert path.ys.device.type == where.type
        ends.append(path.ys.cpu().double())
    if refused:
        return None if len(refused) == 2 else float("inf")
    return float((ends[1] - ends[0]).norm() / ends[0].norm())


def kernel_differences(device: torch.device, n: int) -> Iterator[tuple[str, str, float]]:
    """Yield the differences of kernels, of a closed form and of a Krylov solve."""
    rng = torch.Generator().manual_seed(0)
    X = torch.randn(n, 12, generator=rng, dtype=torch.float64)
    y = torch.sin(3 * X[:, 0])
    images = torch.randn(8, 1, 6, 6, generator=rng, dtype=torch.float64)
    kernels: dict[str, Callable[[Tensor], Tensor]] = {
        "ntk": lambda x: ntk(x, depth=2),
        "nngp": lambda x: nngp(x, depth=2),
    }
    for name, kernel in kernels.items():
        yield name, f"n = {n}", _gap(kernel(X), kernel(X.to(device)))
    yield "conv_ntk", "8 images", _gap(conv_ntk(images), conv_ntk(images.to(device)))
    H = ntk(X, depth=2)
    for method in ("exact", "krylov"):
        paths = [
            gflow.integrate(gflow.KernelFlow(K, v), torch.zeros_like(v), [0.0, 1.0, 30.0], method)
            for K, v in ((H, y), (H.to(device), y.to(device)))
        ]
        yield "KernelFlow", method, _gap(paths[0].ys, paths[1].ys)
    descents = [
        gflow.descend(gflow.KernelFlow(K, v), torch.zeros_like(v), 0.01, 1000)
        for K, v in ((H, y), (H.to(device), y.to(device)))
    ]
    yield "KernelFlow", "descent in closed form", _gap(descents[0].ys, descents[1].ys)


def _gap(here: Tensor, there: Tensor) -> float:
    return float((there.cpu() - here).norm() / here.norm())
