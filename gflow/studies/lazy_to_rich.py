r"""Two linear layers from lazy to rich: paths from starts of several balances.

From W₂ᵀW₂ − W₁W₁ᵀ = λI the tangent kernel of W = W₂W₁, G ↦ W₂W₂ᵀG + G W₁ᵀW₁, hardly moves where
|λ| is large (lazy: one layer learns alone) and turns to the target where λ = 0 (rich) (Kunin et al.
2024, arXiv:2406.06158; Dominé et al. 2024, arXiv:2409.14623). The layers have a closed form.
Time unit: t = k·step_size of descent on the layers, for ½‖W − M‖².
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.callbacks import Stages, as_stages
from gflow.checks import require_numbers, require_positive
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.flows import LayerwiseFlow
from gflow.losses import SquaredDistance
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import study_options
from gflow.trajectory import Trajectory

_FIRST = 1e-3  # of the end: the first time after 0
_CURVE = 200  # times at which the closed form is drawn

DEFAULTS = SolveOptions(rtol=1e-8, atol=1e-10, points=40)


@dataclass(frozen=True)
class KernelMeasures:
    """Measures of states of two linear layers, each of shape (T,).

    Attributes
    ----------
    losses : Tensor
        ½‖W − M‖².
    distances : Tensor
        ‖K(t) − K(0)‖/‖K(0)‖ of the tangent kernel.
    start_alignments : Tensor
        ⟨K(t), K(0)⟩/(‖K(t)‖‖K(0)‖).
    target_alignments : Tensor
        ⟨M, K(t)M⟩/(‖K(t)‖‖M‖²).
    """

    losses: Tensor
    distances: Tensor
    start_alignments: Tensor
    target_alignments: Tensor


@dataclass(frozen=True, repr=False)
class LazyToRich(Display):
    """Paths of two linear layers, one for each balance, beside their closed form.

    Attributes
    ----------
    balances : tuple of float
        λ, ascending.
    paths : tuple of Trajectory
        Solved by steps; the certificate has their error against the closed form.
    measured : tuple of KernelMeasures
        Along each path.
    curve_times : Tensor, shape (m,)
    theory : tuple of KernelMeasures
        Of the closed form at ``curve_times``.
    """

    balances: tuple[float, ...]
    paths: tuple[Trajectory, ...]
    measured: tuple[KernelMeasures, ...]
    curve_times: Tensor
    theory: tuple[KernelMeasures, ...]

    def __repr__(self) -> str:
        return (
            f"LazyToRich({len(self.balances)} balances from {self.balances[0]:g} to "
            f"{self.balances[-1]:g}, within {float(self.errors.max()):.2g} of the closed form, "
            f"{holds(*(path.certificate for path in self.paths))})"
        )

    @property
    def errors(self) -> Tensor:
        """The largest relative distance of each path from the closed form, (k,)."""
        errors = [
            0.0 if path.stats.method == "exact" else path.certificate.error_estimate
            for path in self.paths
        ]
        values = [math.nan if error is None else error for error in errors]
        return torch.tensor(values, dtype=torch.float64)


def kernel_measures(
    flow: LayerwiseFlow, ys: Tensor, start: Tensor, target: Tensor
) -> KernelMeasures:
    """Measure states by their tangent kernel K = W₂W₂ᵀ ⊗ I + I ⊗ W₁ᵀW₁, without making it.

    Parameters
    ----------
    flow : LayerwiseFlow
        Of two layers.
    ys : Tensor, shape (T, size)
        States.
    start : Tensor, shape (size,)
        The state at t = 0.
    target : Tensor, shape (d_2, d_0)
        M.

    Returns
    -------
    KernelMeasures

    Examples
    --------
    >>> M = torch.ones(1, 1, dtype=torch.float64)
    >>> flow = LayerwiseFlow(SquaredDistance(M), [1, 1, 1])
    >>> ys = torch.tensor([[1.0, 2.0], [2.0, 3.0]], dtype=torch.float64)
    >>> kernel_measures(flow, ys, ys[0], M).distances.tolist()   # K = 5 and 13
    [0.0, 1.6]
    """

    def blocks(y: Tensor) -> tuple[Tensor, Tensor]:
        first, second = flow.unpack(y)
        return second @ second.mT, first.mT @ first

    def inner(x: tuple[Tensor, Tensor], z: tuple[Tensor, Tensor]) -> Tensor:
        rows, columns = target.shape
        traces = [block.diagonal(dim1=-2, dim2=-1).sum(-1) for block in (*x, *z)]
        own = [(a * b).sum(dim=(-2, -1)) for a, b in zip(x, z, strict=True)]
        mixed = traces[0] * traces[3] + traces[1] * traces[2]
        return columns * own[0] + rows * own[1] + mixed

    now, first = blocks(ys), blocks(start)
    size, first_size = inner(now, now).sqrt(), inner(first, first).sqrt()
    moved = (now[0] - first[0], now[1] - first[1])
    along = (target * (now[0] @ target + target @ now[1])).sum(dim=(-2, -1))
    return KernelMeasures(
        flow.loss(ys),
        inner(moved, moved).sqrt() / first_size,
        inner(now, first) / (size * first_size),
        along / (size * target.square().sum()),
    )


def lazy_to_rich(
    target: Tensor,
    start: Tensor,
    balances: Sequence[float],
    *,
    t_end: float = 10.0,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> LazyToRich:
    """Follow two linear layers with the same product from several balances.

    Parameters
    ----------
    target : Tensor, shape (d, d)
        M.
    start : Tensor, shape (d, d)
        W = W₂W₁ at t = 0.
    balances : sequence of float
        λ of W₂ᵀW₂ − W₁W₁ᵀ = λI.
    t_end : float, optional
        The last time.
    options : SolveOptions
        Of the solver; ``auto`` is `tsit5` here, so that the closed form is a second way.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each path; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    LazyToRich

    Raises
    ------
    InputError
        If a matrix is not square, a balance is repeated, or a start has no closed form.

    Examples
    --------
    >>> M = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> found = lazy_to_rich(M, 0.01 * torch.eye(2, dtype=torch.float64), [-10.0, 0.0, 10.0])
    >>> [float(m.distances[-1]) > 1 for m in found.measured]
    [False, True, False]
    """
    options, stages = study_options(options, keywords), as_stages(stages)
    t_end = require_positive("t_end", t_end)
    values = sorted(require_numbers("balances", balances, "[-10.0, 0.0, {}]"))
    if len(set(values)) < len(values):
        raise InputError(f"balances must differ, got {values}; remove repeated ones")
    loss = SquaredDistance(target)
    if loss.shape[0] != loss.shape[1]:
        raise InputError(
            f"the target must be square, got {tuple(loss.shape)}: every balance then has a start; "
            "use gflow.LayerwiseFlow for others"
        )
    flow = LayerwiseFlow(loss, [loss.shape[0]] * 3)
    if options.method == "auto":
        options = options.with_(method="tsit5")
    last = torch.log10(torch.tensor(t_end, dtype=torch.float64))
    first = last + torch.log10(torch.tensor(_FIRST, dtype=torch.float64))
    zero = torch.zeros(1, dtype=torch.float64)
    ts, curve = (
        torch.cat([zero, torch.logspace(float(first), float(last), n, dtype=torch.float64)])
        for n in (max(1, options.points - 1), _CURVE)
    )
    paths, measured, theory = [], [], []
    for balance in values:
        y0 = flow.balanced_start(start, balance=balance)
        if flow.closed_form(y0) is None:
            raise InputError(
                f"a start of balance {balance:g} must have a closed form, but round-off decides "
                "its path, or it has more than 1,024 numbers; use another start or a smaller size"
            )
        progress = stages(f"balance {balance:g}", t_end)
        path = integrate(flow, y0, ts, options=options, progress=progress)
        paths.append(path)
        measured.append(kernel_measures(flow, path.ys, y0, loss.target))
        theory.append(kernel_measures(flow, flow.exact(curve, y0), y0, loss.target))
    return LazyToRich(tuple(values), tuple(paths), tuple(measured), curve, tuple(theory))
