"""All seeds of one width, trained by descent and by flow beside the kernel.

Descent is an ensemble over the seeds, in groups that fit into the cache (at m = 8,192 two at a
time take 0.75 of the time of ten), and saves measurements only: its states would not fit into
memory. The flow is solved seed by seed: as one ensemble it costs the same at m = 128
(measured, rkc2) and no less at 512, and it would hold the states of all seeds at all times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.callbacks import Stages
from gflow.descent import descend_measured
from gflow.flows.kernel import KernelFlow
from gflow.flows.two_layer import TwoLayerFlow
from gflow.solvers import SolveOptions, integrate
from gflow.solvers.solve import finer_states
from gflow.studies.kernel_limit import kernel_descent, kernel_descent_test
from gflow.trajectory import Certificate, Stats

_GROUP_SIZE = 2**20  # numbers of an ensemble's state in descent
_FINER = 4.0  # of the second solve: ten would resolve every kink, at ten times the cost


def random_networks(
    inputs: Tensor, targets: Tensor, width: int, seeds: Sequence[int]
) -> tuple[TwoLayerFlow, Tensor]:
    """Draw an ensemble of networks: w_r ~ N(0, I) and signs ±1, from a seed each.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
    targets : Tensor, shape (n,) or (n, k)
    width : int
    seeds : sequence of int

    Returns
    -------
    (TwoLayerFlow, Tensor)
        The flow, and the starts, (seed, width, d).

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


@dataclass(frozen=True)
class HeldOutPoints:
    """Test points: inputs (n_test, d), targets of the training ones' form, and H_*."""

    inputs: Tensor
    targets: Tensor
    kernel: Tensor


def _classes(outputs: Tensor, ndim: int) -> Tensor:
    """Return the class of every point: by sign where targets are (n,), else the largest output."""
    return (outputs > 0).long() if ndim == 1 else outputs.argmax(-1)


@dataclass(frozen=True)
class WidthExperiment:
    """The data and settings that the networks of all widths and seeds share.

    Attributes
    ----------
    kernel : KernelFlow
        The limiting kernel, with the targets.
    held_out : HeldOutPoints or None
    step_size : float
    epochs : tuple of int
        At which descent and flow are measured, 0 first.
    options : SolveOptions
        Of the flow.
    stages : callable
        ``stages(name, t_end)`` gives a progress callback for each part.
    """

    kernel: KernelFlow
    held_out: HeldOutPoints | None
    step_size: float
    epochs: tuple[int, ...]
    options: SolveOptions
    stages: Stages

    @property
    def times(self) -> list[float]:
        """The times of the epochs."""
        return [k * self.step_size for k in self.epochs]


def train(
    experiment: WidthExperiment, flow: TwoLayerFlow, W: Tensor, label: str
) -> tuple[dict[str, Tensor], list[int | None]]:
    """Train all seeds of one width by descent, and measure it at the epochs.

    Parameters
    ----------
    experiment : WidthExperiment
    flow : TwoLayerFlow
        The ensemble of networks.
    W : Tensor, shape (seed, width, d)
        Their starts.
    label : str
        Names the width in progress.

    Returns
    -------
    (dict of str to Tensor, list of (int or None))
        Measurements, (seed, epoch), NaN after the epoch from which a seed diverged; and these
        epochs.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.eye(2).double(), torch.ones(2).double()
    >>> flow, W = random_networks(x, y, 8, [0, 1])
    >>> kernel = KernelFlow(0.5 * x, y)
    >>> quiet = lambda name, t_end: None
    >>> experiment = WidthExperiment(kernel, None, 0.5, (0, 1, 2), SolveOptions(), quiet)
    >>> measured, diverged_at = train(experiment, flow, W, "width 8")
    >>> measured["descent_distance"].shape, diverged_at
    (torch.Size([2, 3]), [None, None])
    """
    groups = torch.arange(len(W), device=W.device).split(max(1, _GROUP_SIZE // W[0].numel()))
    parts = [
        _train_group(experiment, flow.for_members(members), W[members], label) for members in groups
    ]
    measured = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
    return measured, [epoch for _, epochs in parts for epoch in epochs]


def _train_group(
    experiment: WidthExperiment, flow: TwoLayerFlow, W: Tensor, label: str
) -> tuple[dict[str, Tensor], list[int | None]]:
    """Train the seeds of one group, as one ensemble."""
    kernel, held_out = experiment.kernel, experiment.held_out
    step_size, epochs = experiment.step_size, experiment.epochs
    ndim, k = flow.targets.ndim, flow.targets[0].numel()
    networks = [TwoLayerFlow(flow.inputs, flow.targets, signs) for signs in flow.signs]
    start = flow.end_to_end(W)
    limit = torch.stack([kernel_descent(kernel, u, step_size, epochs) for u in start], 1)
    if held_out is not None:
        pairs = zip(start, flow.outputs(W, held_out.inputs), strict=True)
        test = [
            kernel_descent_test(kernel, held_out.kernel, u, v, step_size, epochs) for u, v in pairs
        ]
        test_limit, truth = torch.stack(test, 1), _classes(held_out.targets, ndim)
    grams = [network.gram(w) for network, w in zip(networks, W, strict=True)]
    full_kernel = torch.kron(kernel.H, torch.eye(k, dtype=W.dtype, device=W.device))
    row_of = {epoch: i for i, epoch in enumerate(epochs)}

    def measure(epoch: int, state: Tensor) -> dict[str, Tensor]:
        i = row_of[epoch]
        drifts = [
            (network.gram(w) - H0).norm()
            for network, w, H0 in zip(networks, state, grams, strict=True)
        ]
        row = {
            "descent_distance": kernel.norm(flow.end_to_end(state) - limit[i]),
            "kernel_drift": torch.stack(drifts),
            "parameter_distance": flow.norm(state - W),
        }
        if held_out is not None:
            outputs = flow.outputs(state, held_out.inputs)
            guess, kernel_guess = _classes(outputs, ndim), _classes(test_limit[i], ndim)
            row |= {
                "test_distance": (outputs - test_limit[i]).flatten(1).square().mean(1).sqrt(),
                "test_disagreement": (guess != kernel_guess).to(W).mean(1),
                "test_error": (guess != truth).to(W).mean(1),
                "kernel_test_error": (kernel_guess != truth).to(W).mean(1),
            }
        return row

    progress = experiment.stages(f"{label}: descent", epochs[-1] * step_size)
    descent = descend_measured(flow, W, step_size, list(epochs), measure, progress=progress)
    measured = {}
    for name, curve in descent.values.items():
        values = torch.full((len(W), len(epochs)), torch.nan, dtype=torch.float64)
        values[:, : len(curve)] = curve.mT.double().cpu()
        for j, last in enumerate(descent.diverged_at):
            if last is not None:
                values[j, [epoch > last for epoch in epochs]] = torch.nan
        measured[name] = values
    measured["parameter_norm"] = flow.norm(W).double().cpu()
    errors = [(H0 - full_kernel).norm() for H0 in grams]
    measured["kernel_error"] = torch.stack(errors).double().cpu()
    return measured, descent.diverged_at


def follow(
    experiment: WidthExperiment, flow: TwoLayerFlow, W: Tensor, label: str, *, estimate_error: bool
) -> tuple[dict[str, Tensor], Certificate, Stats]:
    """Solve the flow of one seed, and measure it at the times of the epochs.

    Parameters
    ----------
    experiment : WidthExperiment
    flow : TwoLayerFlow
        One network.
    W : Tensor, shape (width, d)
        Its start.
    label : str
        Names the width and seed in progress.
    estimate_error : bool
        Add ``solver_error``: the norm of the difference of the outputs from those of a second
        solve, at a quarter of the tolerance and landing on the midpoints too.

    Returns
    -------
    (dict of str to Tensor, Certificate, Stats)
        Measurements, (time,); the states are not returned.

    Examples
    --------
    >>> import torch
    >>> x, y = torch.eye(2).double(), torch.ones(2).double()
    >>> flow, W = random_networks(x, y, 8, [0])
    >>> network, quiet = TwoLayerFlow(x, y, flow.signs[0]), lambda name, t_end: None
    >>> experiment = WidthExperiment(KernelFlow(x, y), None, 0.5, (0, 1), SolveOptions(), quiet)
    >>> measured, certificate, stats = follow(
    ...     experiment, network, W[0], "width 8", estimate_error=False
    ... )
    >>> measured["flow_distance"].shape
    torch.Size([2])
    """
    kernel, times, options = experiment.kernel, experiment.times, experiment.options
    progress = experiment.stages(f"{label}: flow", times[-1])
    path = integrate(flow, W, times, options=options, estimate_error=False, progress=progress)
    outputs = torch.stack([flow.end_to_end(y) for y in path.ys])
    u0, ts = outputs[0], path.ts.to(W.device)
    limit = kernel.exact(ts, u0)
    linearised = KernelFlow(flow.gram(W), flow.targets.reshape(-1))
    linear = linearised.exact(ts, u0.reshape(-1)).reshape(outputs.shape)
    measured = {
        "flow_distance": kernel.norm(outputs - limit),
        "linear_distance": kernel.norm(outputs - linear),
        "frozen_distance": kernel.norm(linear - limit),
        "network_loss": kernel.loss(outputs),
        "kernel_loss": kernel.loss(limit),
        "sharpness": linearised.eigenvalues[-1],
    }
    if estimate_error:
        progress = experiment.stages(f"{label}: second solve", times[-1])
        states = finer_states(flow, W, times, options, _FINER, progress=progress)
        finer = torch.stack([flow.end_to_end(y) for y in states])
        measured["solver_error"] = kernel.norm(outputs - finer)
    return (
        {name: values.double().cpu() for name, values in measured.items()},
        path.certificate,
        path.stats,
    )
