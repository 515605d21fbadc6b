"""Count how often the host waits for numbers of a device during a solve.

On a CUDA device torch reports every synchronisation. On the CPU gflow is made to treat tensors as
those of a device, and its own reads are counted, with those operations of torch that return a
number of a tensor, or a tensor whose shape depends on numbers.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gflow.linalg import arrays
from gflow.solvers.loop.growth_monitor import GrowthMonitor
from gflow.solvers.loop.spectrum_monitor import SpectrumMonitor
from gflow.solvers.loop.stepping import SteppingLoop
from gflow.solvers.loop.trial import StepComputer

_READING = {"aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.equal"}


@dataclass
class HostReads:
    """What was counted.

    Attributes
    ----------
    total : int
    in_loop : int
        Of those, within the stepping loop: not in the checks before and after it.
    in_steps : int
        Of those in the loop, in the computation of steps.
    in_estimates : int
        Of those in the loop, in estimates of growth rates and spectral radii.
    steps : int
        Steps computed, each of all members that step together.
    estimates : int
    """

    total: int = 0
    in_loop: int = 0
    in_steps: int = 0
    in_estimates: int = 0
    steps: int = 0
    estimates: int = 0


@contextlib.contextmanager
def counted(device: torch.device) -> Iterator[HostReads]:
    """Count within a context."""
    reads = HostReads()
    with contextlib.ExitStack() as stack:
        for cls, name, part in (
            (SteppingLoop, "run", "loop"),
            (StepComputer, "compute", "steps"),
            (GrowthMonitor, "_estimate", "estimates"),
            (SpectrumMonitor, "_estimate", "estimates"),
        ):
            stack.enter_context(_watched(reads, cls, name, part))
        count = _on_cuda if device.type == "cuda" else _on_cpu
        stack.enter_context(count(reads))
        yield reads


@contextlib.contextmanager
def _watched(reads: HostReads, cls: type, name: str, part: str) -> Iterator[None]:
    function = getattr(cls, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        before = reads.total
        try:
            return function(*args, **kwargs)
        finally:
            count = reads.total - before
            if part == "loop":
                reads.in_loop += count
            elif part == "steps":
                reads.steps, reads.in_steps = reads.steps + 1, reads.in_steps + count
            else:
                reads.estimates += count > 0
                reads.in_estimates += count

    with mock.patch.object(cls, name, call):
        yield


@contextlib.contextmanager
def _on_cuda(reads: HostReads) -> Iterator[None]:
    def note(message: Any, *_: Any, **__: Any) -> None:
        reads.total += "synchroniz" in str(message)

    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with mock.patch.object(warnings, "showwarning", note):
                yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class _Reading(TorchDispatchMode):
    """Counts the operations that need numbers of a tensor on the host."""

    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self._reads.total += str(func).rpartition(".")[0] in _READING
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def _on_cpu(reads: HostReads) -> Iterator[None]:
    to_numpy, on_accelerator = arrays.to_numpy, arrays.on_accelerator

    def read(values: Any) -> Any:
        reads.total += isinstance(values, Tensor)
        return to_numpy(values)

    def is_tensor(values: Any) -> bool:
        return isinstance(values, Tensor)

    with contextlib.ExitStack() as stack:
        modules = [m for name, m in sys.modules.items() if name.startswith("gflow.")]
        for module in modules:
            for name, original, replacement in (
                ("to_numpy", to_numpy, read),
                ("on_accelerator", on_accelerator, is_tensor),
            ):
                if vars(module).get(name) is original:
                    stack.enter_context(mock.patch.object(module, name, replacement))
        # The loss and the velocity may read nothing either: all operations are seen.
        stack.enter_context(_Reading(reads))
        yield
