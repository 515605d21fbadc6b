r"""How far the tangent kernel has come, and what it is aligned with.

H_ij = (1/k) Σ_o ∂u_o(x_i)/∂θ · ∂u_o(x_j)/∂θ on all samples, n × n; ``full`` keeps the pairs of
outputs, nk × nk. Alignment is the cosine ⟨A, B⟩/(‖A‖‖B‖) in the Frobenius product (Cristianini et
al. 2001; Fort et al. 2020, arXiv:2010.15110, section 4; Atanasov, Bordelon & Pehlevan 2021,
arXiv:2111.00034, section 2). The velocity is exact, from second derivatives:
`gflow.kernels.velocity`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from gflow.errors import InputError
from gflow.measures.base import KERNEL, PRODUCTS, Measure, Network, Snapshot

_PRICE = "the kernel, 8n² bytes, and the same at the start; with :full 8n²k²"


class KernelMeasure(Measure):
    """A measure of the tangent kernel H.

    Parameters
    ----------
    argument : {"full"}, optional
        ``full`` for the nk × nk kernel; without it the mean over outputs.
    """

    needs: ClassVar[tuple[str, ...]] = (KERNEL,)

    def __init__(self, argument: str | None = None):
        if argument not in (None, "full"):
            raise InputError(
                f"measure {self.name} takes :full behind its name, or nothing, got {argument!r}"
            )
        self.full = argument == "full"

    def _at_start(self, state: Snapshot) -> Tensor:
        name = f"kernel at the start, {self.full}"
        if name not in state.warm:
            state.warm[name] = state.flow.kernel(state.flow.start, full=self.full)
        return state.warm[name]


class KernelDistance(KernelMeasure):
    """‖H(t) − H(0)‖/‖H(0)‖."""

    name = "kernel_distance"
    long_name = "‖H(t) − H(0)‖ / ‖H(0)‖"
    price = _PRICE

    def __call__(self, state: Snapshot) -> Tensor:
        start = self._at_start(state)
        return (state.kernel(self.full) - start).norm() / start.norm()


class KernelRotation(KernelMeasure):
    """The alignment of H(t) with H(0)."""

    name = "kernel_start_alignment"
    long_name = "alignment of H(t) with H(0)"
    price = _PRICE

    def __call__(self, state: Snapshot) -> Tensor:
        return _cosine(state.kernel(self.full), self._at_start(state))


class KernelVelocity(KernelMeasure):
    """‖dH/dt‖/‖H(t)‖ along the velocity −r∇L of the flow, an exact derivative."""

    name = "kernel_velocity"
    long_name = "‖dH/dt‖ / ‖H(t)‖"
    price = "the kernel, and about 12 Jacobians of 8kp bytes a sample, at most 4 GiB at a time"
    needs = (KERNEL, PRODUCTS)

    def __call__(self, state: Snapshot) -> Tensor:
        moves = state.flow.kernel_velocity(state.y, full=self.full)
        return moves.norm() / state.kernel(self.full).norm()


class KernelAlignment(KernelMeasure):
    """The alignment of H(t) with the targets' YYᵀ; classes count as one-hot rows."""

    name = "kernel_alignment"
    long_name = "alignment of H(t) with the targets"
    price = "the kernel, 8n² bytes; with :full 8n²k²"

    def __call__(self, state: Snapshot) -> Tensor:
        H, Y = state.kernel(self.full), _target_rows(state)
        if self.full:
            y = Y.flatten()
            return (y @ H @ y) / (H.norm() * (y @ y))
        return (Y * (H @ Y)).sum() / (H.norm() * (Y.mT @ Y).norm())


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.norm() * b.norm())


def _target_rows(state: Snapshot) -> Tensor:
    """Return the targets as rows, (n, k)."""
    flow: Network = state.flow
    targets, outputs = flow.targets, state.outputs
    if flow.classes is not None and flow.classes.kind == "index":
        targets = F.one_hot(targets, outputs.shape[1])
        targets = targets if targets.ndim == 2 else targets.movedim(-1, 1)
    targets = targets.to(outputs)
    if flow.classes is not None and flow.classes.kind == "binary":
        targets = 2 * targets - 1
    rows = targets.reshape(len(targets), -1)
    if rows.numel() != outputs.numel():
        raise InputError(
            "kernel_alignment needs targets of the shape of the outputs, or classes, got "
            f"{tuple(flow.targets.shape)} and {tuple(outputs.shape)}; leave it out"
        )
    return rows if torch.is_floating_point(rows) else rows.to(state.y)
