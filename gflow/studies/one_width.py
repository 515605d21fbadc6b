"""All seeds of one width, trained by descent and by flow beside the kernel.

Descent is an ensemble over the seeds, in groups that a cache holds (at m = 8,192 two at a time
take 0.75 of the time of ten), and keeps measurements only: its states would not fit into
memory. The flow goes seed by seed: as one ensemble it costs the same at m = 128
(measured, rkc2) and no less at 512, and it would keep the states of all seeds at all times.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.callbacks import Progress, Stages
from gflow.descent import descend_measured
from gflow.flows.gram.modes import descent_factors
from gflow.flows.kernel import KernelFlow
from gflow.flows.two_layer import TwoLayerFlow
from gflow.solvers import integrate
from gflow.trajectory import Certificate, Stats, Trajectory

_TOGETHER = 2**20  # numbers of an ensemble's state in descent
_FINER = 4.0  # of the second solve: ten would resolve every kink, at ten times the price


@dataclass(frozen=True)
class Solve:
    """How a flow is solved: arguments of `gflow.integrate`."""

    method: str
    rtol: float
    atol: float
    max_evals: int

    def path(
        self,
        flow: TwoLayerFlow,
        W: Tensor,
        times: Sequence[float],
        progress: Progress | None,
    ) -> Trajectory:
        """The flow from W at the given times."""
        return integrate(
            flow,
            W,
            times,
            self.method,
            self.rtol,
            self.atol,
            max_evals=self.max_evals,
            progress=progress,
        )


def random_networks(
    inputs: Tensor, targets: Tensor, width: int, seeds: Sequence[int]
) -> tuple[TwoLayerFlow, Tensor]:
    """Flow and starts of an ensemble: w_r ~ N(0, I) and signs ±1, of each seed its own.

    Returns
    -------
    (TwoLayerFlow, Tensor)
        The starts are (seed, width, d).

    Examples
    --------
    >>> import torch
    >>> flow, W = random_networks(torch.eye(3), torch.zeros(3), 5, [0, 1])
    >>> W.shape, flow.signs.shape, flow.end_to_end(W).shape
    (torch.Size([2, 5, 3]), torch.Size([2, 5]), torch.Size([2, 3]))
    """
    starts, signs = [], []
    for seed in seeds:
        noise = torch.Generator().manual_seed(seed)
        shape = (width, inputs.shape[1])
        starts.append(torch.randn(shape, generator=noise, dtype=torch.float64))
        signs.append(2 * torch.randint(0, 2, (width, *targets.shape[1:]), generator=noise) - 1)
    flow = TwoLayerFlow(inputs, targets, torch.stack(signs).to(inputs))
    return flow, torch.stack(starts).to(inputs)


def kernel_descent(flow: KernelFlow, u0: Tensor, step_size: float, steps: Sequence[int]) -> Tensor:
    """u_k = y + (I − ηH)^k(u₀ − y) at the given steps without taking them, (S, *u0.shape)."""
    factors, _ = descent_factors(flow.eigenvalues, step_size, _counts(steps, u0))
    return flow.targets + flow.apply_modes(factors, u0 - flow.targets)


def kernel_descent_test(
    flow: KernelFlow,
    to_test: Tensor,
    u0: Tensor,
    test_u0: Tensor,
    step_size: float,
    steps: Sequence[int],
) -> Tensor:
    """The same at points not trained on: u_*(0) − ηH_* Σ_{j<k} (I − ηH)^j (u₀ − y), for H_*
    of shape (n_test, n)."""
    _, sums = descent_factors(flow.eigenvalues, step_size, _counts(steps, u0))
    moved = flow.apply_modes(sums, u0 - flow.targets)
    return test_u0 - (moved @ to_test.mT if u0.ndim == 1 else to_test @ moved)


def _counts(steps: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(list(steps), device=like.device)


@dataclass(frozen=True)
class HeldOut:
    """Points not trained on: inputs (n_test, d), targets like the training ones, H_*."""

    inputs: Tensor
    targets: Tensor
    kernel: Tensor


def _classes(outputs: Tensor, ndim: int) -> Tensor:
    """The class of every point: by sign where targets are (n,), else the largest output."""
    return (outputs > 0).long() if ndim == 1 else outputs.argmax(-1)


def train(
    flow: TwoLayerFlow,
    W: Tensor,
    kernel: KernelFlow,
    held_out: HeldOut | None,
    step_size: float,
    epochs: Sequence[int],
    label: str,
    stages: Stages,
) -> tuple[dict[str, Tensor], list[int | None]]:
    """Descent of all seeds, measured at the epochs: names to (seed, epoch), NaN after the epoch
    from which a seed diverged; and these epochs."""
    rows = torch.arange(len(W), device=W.device).split(max(1, _TOGETHER // W[0].numel()))
    parts = [
        _together(
            flow.of_members(some), W[some], kernel, held_out, step_size, epochs, label, stages
        )
        for some in rows
    ]
    found = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
    return found, [at for _, where in parts for at in where]


def _together(
    flow: TwoLayerFlow,
    W: Tensor,
    kernel: KernelFlow,
    held_out: HeldOut | None,
    step_size: float,
    epochs: Sequence[int],
    label: str,
    stages: Stages,
) -> tuple[dict[str, Tensor], list[int | None]]:
    """`train` of seeds whose descent is one ensemble."""
    ndim, k = flow.targets.ndim, flow.targets[0].numel()
    lone = [TwoLayerFlow(flow.inputs, flow.targets, signs) for signs in flow.signs]
    start = flow.end_to_end(W)
    limit = torch.stack([kernel_descent(kernel, u, step_size, epochs) for u in start], 1)
    if held_out is not None:
        pairs = zip(start, flow.outputs(W, held_out.inputs), strict=True)
        test = [
            kernel_descent_test(kernel, held_out.kernel, u, v, step_size, epochs) for u, v in pairs
        ]
        test_limit, truth = torch.stack(test, 1), _classes(held_out.targets, ndim)
    grams = [one.gram(w) for one, w in zip(lone, W, strict=True)]
    at_first = torch.kron(kernel.H, torch.eye(k, dtype=W.dtype, device=W.device))
    row_of = {epoch: i for i, epoch in enumerate(epochs)}

    def measure(epoch: int, state: Tensor) -> dict[str, Tensor]:
        i = row_of[epoch]
        now = zip(lone, state, grams, strict=True)
        row = {
            "descent_distance": kernel.norm(flow.end_to_end(state) - limit[i]),
            "kernel_drift": torch.stack([(one.gram(w) - H0).norm() for one, w, H0 in now]),
            "parameter_distance": flow.norm(state - W),
        }
        if held_out is not None:
            found = flow.outputs(state, held_out.inputs)
            guess, kernel_guess = _classes(found, ndim), _classes(test_limit[i], ndim)
            row |= {
                "test_distance": (found - test_limit[i]).flatten(1).square().mean(1).sqrt(),
                "test_disagreement": (guess != kernel_guess).to(W).mean(1),
                "test_error": (guess != truth).to(W).mean(1),
                "kernel_test_error": (kernel_guess != truth).to(W).mean(1),
            }
        return row

    progress = stages(f"{label}: descent", epochs[-1] * step_size)
    descent = descend_measured(flow, W, step_size, list(epochs), measure, progress=progress)
    found = {}
    for name, measured in descent.values.items():
        values = torch.full((len(W), len(epochs)), torch.nan, dtype=torch.float64)
        values[:, : len(measured)] = measured.mT.double().cpu()
        for j, last in enumerate(descent.diverged_at):
            if last is not None:
                values[j, [epoch > last for epoch in epochs]] = torch.nan
        found[name] = values
    found["parameter_norm"] = flow.norm(W).double().cpu()
    found["kernel_error"] = torch.stack([(H0 - at_first).norm() for H0 in grams]).double().cpu()
    return found, descent.diverged_at


def follow(
    flow: TwoLayerFlow,
    W: Tensor,
    kernel: KernelFlow,
    times: Sequence[float],
    solve: Solve,
    finer: bool,
    label: str,
    stages: Stages,
) -> tuple[dict[str, Tensor], Certificate, Stats]:
    """The flow of one seed, measured at the times: names to (time,); its states are not kept.

    With ``finer`` a second solve at a quarter of the tolerance, which lands on the midpoints
    too, gives ``solver_error``: what the outputs differ by.
    """
    path = solve.path(flow, W, times, stages(f"{label}: flow", times[-1]))
    outputs = torch.stack([flow.end_to_end(y) for y in path.ys])
    u0, ts = outputs[0], path.ts.to(W.device)
    limit = kernel.exact(ts, u0)
    own = KernelFlow(flow.gram(W), flow.targets.reshape(-1))
    linear = own.exact(ts, u0.reshape(-1)).reshape(outputs.shape)
    found = {
        "flow_distance": kernel.norm(outputs - limit),
        "linear_distance": kernel.norm(outputs - linear),
        "frozen_distance": kernel.norm(linear - limit),
        "network_loss": kernel.loss(outputs),
        "kernel_loss": kernel.loss(limit),
        "sharpness": own.eigenvalues[-1],
    }
    if finer:
        between = [0.5 * (a + b) for a, b in itertools.pairwise(times)]
        better = Solve(solve.method, solve.rtol / _FINER, solve.atol / _FINER, solve.max_evals)
        progress = stages(f"{label}: second solve", times[-1])
        check = better.path(flow, W, sorted({*times, *between}), progress)
        wanted = set(times)
        states = [y for t, y in zip(check.ts.tolist(), check.ys, strict=True) if t in wanted]
        again = torch.stack([flow.end_to_end(y) for y in states])
        found["solver_error"] = kernel.norm(outputs - again)
    return (
        {name: values.double().cpu() for name, values in found.items()},
        path.certificate,
        path.stats,
    )
