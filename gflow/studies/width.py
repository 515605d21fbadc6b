r"""Two-layer networks of several widths beside the flow of their limiting kernel.

f(x) = m^{-1/2} Σ_r a_r σ(w_r·x), σ = ReLU, w_r ~ N(0, I) trained, a_r = ±1 fixed, on the
sum ½Σ(u − y)² (Du et al. 2019, arXiv:1810.02054). As m grows, the outputs u(t) follow the
kernel flow u̇' = −H*(u' − y) from the same u(0), and descent follows
u'_{k+1} = u'_k − ηH*(u'_k − y). The distance ‖u − u'‖ rises while the kernels of the two
drift apart, then falls as both reach y.

Time unit: t = k·step_size of descent on the sum; epoch k is one full-batch step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gflow.descent import descend_to
from gflow.errors import InputError
from gflow.flows.kernel import KernelFlow
from gflow.flows.network import NetworkFlow
from gflow.kernels import two_layer_relu_gram
from gflow.solvers import integrate
from gflow.studies.flow_and_descent import Stages
from gflow.trajectory import Trajectory


class TwoLayerReLU(nn.Module):
    """x ↦ m^{-1/2} Σ_r a_r σ(w_r·x) with w_r ~ N(0, I) trained and a_r = ±1 fixed.

    Parameters
    ----------
    inputs, width : int
        d and m.
    seed : int
        Of the weights and the signs.
    """

    a: Tensor

    def __init__(self, inputs: int, width: int, seed: int):
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        W = torch.randn(width, inputs, generator=noise, dtype=torch.float64)
        signs = 2 * torch.randint(0, 2, (width,), generator=noise) - 1
        self.W = nn.Parameter(W)
        self.register_buffer("a", signs.to(torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of shape (n,) for inputs (n, d)."""
        return torch.relu(x @ self.W.mT) @ self.a / len(self.a) ** 0.5


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """½‖u − y‖², summed over samples."""
    return 0.5 * (outputs - targets).square().sum()


@dataclass(frozen=True)
class WidthStudy:
    """Distances between networks and their kernel.

    Attributes
    ----------
    widths, seeds, epochs : tuple of int
        Epochs are the compared ones, 0 first.
    step_size, stability_limit : float
        η and 2/λ_max of the kernel.
    descent_distance : Tensor, shape (width, seed, epoch)
        ‖u − u'‖ of the network's descent and the kernel's descent after k epochs.
    flow_distance : Tensor, shape (width, epoch)
        ‖u − u'‖ of the network's flow and the kernel flow at t = kη, for the first seed.
    network_loss, kernel_loss : Tensor, shape (width, epoch)
        Losses of the two flows.
    trajectories : tuple of Trajectory
        The network's flow for each width.
    diverged_at : tuple of (tuple of int or None), widths by seeds
        The epoch from which the network's descent diverged; distances end there.
    """

    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    step_size: float
    stability_limit: float
    descent_distance: Tensor
    flow_distance: Tensor
    network_loss: Tensor
    kernel_loss: Tensor
    trajectories: tuple[Trajectory, ...]
    diverged_at: tuple[tuple[int | None, ...], ...]


def width_study(
    inputs: Tensor,
    targets: Tensor,
    widths: Sequence[int],
    seeds: Sequence[int],
    epochs: int,
    step_size: float | None = None,
    *,
    points: int = 60,
    method: str = "auto",
    rtol: float = 1e-4,
    atol: float = 1e-7,
    max_evals: int = 1_000_000,
    estimate_error: bool = False,
    stages: Stages = lambda name, t_end: None,
) -> WidthStudy:
    """Train networks of several widths by flow and by descent, beside their kernel.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        Points; the theory takes unit rows.
    targets : Tensor, shape (n,)
    widths, seeds : sequence of int
    epochs : int
        Full-batch steps; the flow runs to t = epochs·step_size.
    step_size : float, optional
        1/λ_max(H*) by default.
    points : int
        Compared epochs, spread logarithmically.
    method, rtol, atol, max_evals, estimate_error
        Of the networks' flow (whose right-hand side has kinks: high orders gain nothing).

    Returns
    -------
    WidthStudy

    Raises
    ------
    InputError
        If arguments are out of range or the kernel vanishes.

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(3, dtype=torch.float64)
    >>> study = width_study(x, torch.ones(3).double(), [64], [0], epochs=30, points=5)
    >>> study.epochs, study.step_size
    ((0, 1, 2, 4, 8, 15, 30), 2.0)
    """
    if not widths or not seeds or min(widths) < 1 or epochs < 1:
        raise InputError(
            "widths, seeds and epochs must be there and positive, "
            f"got {list(widths)}, {list(seeds)}, {epochs}"
        )
    H = two_layer_relu_gram(inputs)
    kernel = KernelFlow(H, targets)
    largest = float(kernel.eigenvalues[-1])
    if largest <= 0:
        raise InputError("the kernel of these inputs is zero: are all rows zero?")
    eta = 1 / largest if step_size is None else float(step_size)
    if not eta > 0:
        raise InputError(f"step_size must be positive, got {step_size}")
    saved = sorted({0, *(round(epochs ** (i / points)) for i in range(points + 1))})
    times = [k * eta for k in saved]
    shape = (len(widths), len(seeds), len(saved))
    descent_distance = torch.full(shape, torch.nan, dtype=inputs.dtype)
    flows: list[tuple[Trajectory, Tensor, Tensor]] = []
    diverged: list[list[int | None]] = [[] for _ in widths]
    for i, width in enumerate(widths):
        for j, seed in enumerate(seeds):
            module = TwoLayerReLU(inputs.shape[1], width, seed).to(inputs)
            flow = NetworkFlow(module, half_squared_error, inputs, targets)
            theta = flow.pack()
            u0 = flow.end_to_end(theta)
            label = f"width {width}, seed {seed}"
            progress = stages(f"{label}: descent", times[-1])
            descent = descend_to(flow, theta, eta, saved, progress=progress)
            limit = kernel_descent(kernel, u0, eta, saved)[: len(descent.ts)]
            gap = kernel.norm(flow.end_to_end(descent.ys) - limit)
            descent_distance[i, j, : len(gap)] = gap.cpu()
            diverged[i].append(descent.diverged_at)
            if j == 0:
                progress = stages(f"{label}: flow", times[-1])
                path = integrate(
                    flow,
                    theta,
                    times,
                    method,
                    rtol,
                    atol,
                    estimate_error=estimate_error,
                    max_evals=max_evals,
                    progress=progress,
                )
                kernel_path = kernel.exact(path.ts.to(inputs.device), u0)
                apart = kernel.norm(flow.end_to_end(path.ys) - kernel_path)
                flows.append((path, apart.cpu(), kernel.loss(kernel_path).cpu()))
    return WidthStudy(
        widths=tuple(widths),
        seeds=tuple(seeds),
        epochs=tuple(saved),
        step_size=eta,
        stability_limit=2 / largest,
        descent_distance=descent_distance,
        flow_distance=torch.stack([apart for _, apart, _ in flows]),
        network_loss=torch.stack([path.losses.cpu() for path, _, _ in flows]),
        kernel_loss=torch.stack([loss for _, _, loss in flows]),
        trajectories=tuple(path for path, _, _ in flows),
        diverged_at=tuple(map(tuple, diverged)),
    )


def kernel_descent(flow: KernelFlow, u0: Tensor, step_size: float, steps: Sequence[int]) -> Tensor:
    """u_k = y + (I − ηH)^k(u₀ − y) at the given steps without taking them, (S, *u0.shape)."""
    count = torch.tensor(list(steps), dtype=u0.dtype, device=u0.device)
    factors = (1 - step_size * flow.eigenvalues) ** count[:, None]
    return flow.targets + flow.apply_modes(factors, u0 - flow.targets)
