r"""Two-layer networks of several widths beside the flow of their limiting kernel.

f(x) = m^{-1/2} Σ_r a_r σ(w_r·x), σ = ReLU, w_r ~ N(0, I) trained, a_r = ±1 fixed, on the
sum ½Σ(u − y)² (Du et al. 2019, arXiv:1810.02054; `gflow.flows.two_layer`). As m grows, the
outputs u(t) follow the kernel flow u̇' = −H*(u' − y) from the same u(0), and descent follows
u'_{k+1} = u'_k − ηH*(u'_k − y). At finite width H(0) is off H* by O(m^{-1/2}) and drifts by
as much, so ‖u − u'‖ rises, peaks, and falls as both reach y.

Time unit: t = k·step_size of full-batch descent on the **sum** over points and outputs;
epoch k is one step. On a mean over n points the same path needs the step size nη. Descent is
stable for η < 2/λ_max, λ_max of H* for the kernel and of H(0) for a network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.callbacks import Stages, as_stages
from gflow.checks import require_count, require_float, require_numbers, require_positive, shown
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.flows.kernel import KernelFlow
from gflow.flows.two_layer import TwoLayerFlow
from gflow.kernels import two_layer_relu_gram
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import study_options
from gflow.studies.fitting import PowerLaw, fit_power
from gflow.studies.matching import require_linear_spacing
from gflow.studies.width_experiment import (
    HeldOutPoints,
    WidthExperiment,
    follow,
    random_networks,
    train,
)
from gflow.trajectory import Certificate, Stats

#: The right-hand side jumps wherever a neuron switches: tighter tolerances gain little.
DEFAULTS = SolveOptions("rkc2", rtol=1e-4, atol=1e-7, estimate_error=True, points=60)


@dataclass(frozen=True, repr=False)
class WidthStudy(Display):
    """Networks of several widths beside their kernel. Tensors are float64 on the host.

    Attributes
    ----------
    widths, seeds, epochs : tuple of int
        ``epochs`` are those at which networks and kernel are compared, 0 first.
    step_size, stability_limit : float
        η, and 2/λ_max of H*.
    kernel_norm : float
        ‖H* ⊗ I_k‖_F, the scale of kernel errors and drifts.
    measured : mapping of str to Tensor
        Of the networks' descent, (width, seed, epoch), NaN after a divergence:
        ``descent_distance`` ‖u − u'‖ of network's and kernel's descent, ``kernel_drift``
        ‖H(k) − H(0)‖_F, ``parameter_distance`` ‖W(k) − W(0)‖_F, and with held-out points
        ``test_distance`` (root mean square of u_* − u'_*), ``test_disagreement`` (share of
        points that network and kernel classify differently), ``test_error`` and
        ``kernel_test_error`` (shares misclassified).
        Of the flow at t = kη, (width, seed, epoch): ``flow_distance`` ‖u − u'‖ of network's
        and kernel flow, ``linear_distance`` ‖u − u_lin‖ to the network linearised at its own
        start (the kernel flow of H(0)), ``frozen_distance`` ‖u_lin − u'‖, ``network_loss``
        and ``kernel_loss``.
        Of the start, (width, seed): ``kernel_error`` ‖H(0) − H*‖_F, ``parameter_norm``
        ‖W(0)‖_F, ``sharpness`` λ_max(H(0)).
        Of the first seed's flow, (width, epoch): ``solver_error``, the norm of the difference
        of its outputs from those of a second, finer solve.
    slopes : mapping of str to (PowerLaw or None)
        Powers of the width of ``descent_peak``, ``flow_peak``, ``linear_peak``,
        ``kernel_error`` and ``kernel_drift`` (its largest): medians over seeds. Theory: −1/2.
    certificates, stats : tuple of tuples, widths by seeds
        Of the networks' flows.
    diverged_at : tuple of (tuple of int or None), widths by seeds
        The epoch from which a network's descent diverged.
    """

    widths: tuple[int, ...]
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    step_size: float
    stability_limit: float
    kernel_norm: float
    measured: Mapping[str, Tensor]
    slopes: Mapping[str, PowerLaw | None]
    certificates: tuple[tuple[Certificate, ...], ...]
    stats: tuple[tuple[Stats, ...], ...]
    diverged_at: tuple[tuple[int | None, ...], ...]

    def __repr__(self) -> str:
        law = self.slopes.get("descent_peak")
        slope = "" if law is None else f", largest distance ∝ width^{law.slope:.2f}"
        every = [certificate for row in self.certificates for certificate in row]
        return (
            f"WidthStudy(widths {', '.join(map(str, self.widths))}, {len(self.seeds)} seeds, "
            f"{self.epochs[-1]} epochs of step size {self.step_size:.3g}{slope}, {holds(*every)})"
        )


def width_study(
    inputs: Tensor,
    targets: Tensor,
    widths: Sequence[int],
    seeds: Sequence[int],
    epochs: int,
    step_size: float | None = None,
    *,
    test: tuple[Tensor, Tensor] | None = None,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> WidthStudy:
    """Train networks of several widths by flow and by descent, beside their kernel.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        Points; the theory assumes unit rows.
    targets : Tensor, shape (n,) or (n, k)
        ±1, or k outputs with kernel H* ⊗ I_k.
    widths, seeds : sequence of int
    epochs : int
        Full-batch steps; the flow runs to t = epochs·step_size.
    step_size : float, optional
        η on the sum ½‖u − y‖²; by default 1/(2λ_max) of H*, a quarter of the stability
        limit: at 1/λ_max the first step alone makes a peak that the flow does not have.
    test : (inputs, targets), optional
        Held-out points, classified by sign, or by the largest of k outputs.
    options : SolveOptions
        Of the networks' flow and of the comparisons; by default ``rkc2`` with rtol 1e-4 and atol
        1e-7, as the right-hand side jumps wherever a neuron switches, and 60 points. The compared
        epochs are spread logarithmically. With ``estimate_error``, the default, the first seed of
        each width is solved twice, for ``solver_error``.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each part; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    WidthStudy

    Raises
    ------
    InputError
        If arguments are out of range or the kernel vanishes.
    IntegrationError
        If a flow cannot be integrated.

    Warns
    -----
    UserWarning
        If η is beyond 2/λ_max of the kernel or of a network at its start.

    Examples
    --------
    >>> import torch
    >>> x = torch.eye(3, dtype=torch.float64)
    >>> study = width_study(x, torch.ones(3).double(), [64, 256], [0, 1], epochs=30, points=5)
    >>> study.epochs, study.step_size, study.stability_limit
    ((0, 1, 2, 4, 8, 15, 30), 1.0, 4.0)
    >>> study.measured["descent_distance"].shape
    torch.Size([2, 2, 7])
    """
    options, stages = study_options(options, keywords), as_stages(stages)
    require_linear_spacing("wide-network", options)  # it has a spacing already
    widths = [require_count("each of widths", m) for m in require_numbers("widths", widths)]
    seeds = [require_count("each of seeds", s, 0) for s in require_numbers("seeds", seeds)]
    epochs = require_count("epochs", epochs)
    if len(set(seeds)) < len(seeds):
        raise InputError(f"seeds must be different, got {shown(seeds)}")
    inputs, targets = require_float("inputs", inputs), require_float("targets", targets)
    if test is not None:
        test = _checked_test(test)
    H = two_layer_relu_gram(inputs)
    kernel = KernelFlow(H, targets)
    largest = float(kernel.eigenvalues[-1])
    if largest <= 0:
        raise InputError("the kernel must not be zero, but all rows of the inputs are")
    eta = 0.5 / largest if step_size is None else require_positive("step_size", step_size)
    held_out = None if test is None else HeldOutPoints(*test, two_layer_relu_gram(test[0], inputs))
    points = options.points
    epoch_grid = tuple(sorted({0, *(round(epochs ** (i / points)) for i in range(points + 1))}))
    experiment = WidthExperiment(kernel, held_out, eta, epoch_grid, options, stages)
    rows: list[dict[str, Tensor]] = []
    certificates, stats, diverged = [], [], []
    for width in widths:
        flow, W = random_networks(inputs, targets, width, seeds)
        label = f"width {width}"
        row, diverged_at = train(experiment, flow, W, label)
        flows = []
        for j, (start, signs) in enumerate(zip(W, flow.signs, strict=True)):
            network = TwoLayerFlow(inputs, targets, signs)
            name, estimate = f"{label}, seed {seeds[j]}", options.estimate_error and j == 0
            flows.append(follow(experiment, network, start, name, estimate_error=estimate))
        first = flows[0][0]
        error = {"solver_error": first.pop("solver_error")} if options.estimate_error else {}
        row |= {name: torch.stack([curves[name] for curves, _, _ in flows]) for name in first}
        rows.append(row | error)
        certificates.append(tuple(certificate for _, certificate, _ in flows))
        stats.append(tuple(cost for _, _, cost in flows))
        diverged.append(tuple(diverged_at))
    measured = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    _warn_of_instability(eta, largest, float(measured["sharpness"].max()))
    return WidthStudy(
        widths=tuple(widths),
        seeds=tuple(seeds),
        epochs=epoch_grid,
        step_size=eta,
        stability_limit=2 / largest,
        kernel_norm=float(H.norm()) * targets[0].numel() ** 0.5,
        measured=measured,
        slopes={name: fit_power(widths, peak(measured)) for name, peak in _PEAKS.items()},
        certificates=tuple(certificates),
        stats=tuple(stats),
        diverged_at=tuple(diverged),
    )


def _checked_test(test: object) -> tuple[Tensor, Tensor]:
    """Return held-out points; InputError unless they are a pair of inputs and targets."""
    if not isinstance(test, tuple | list) or len(test) != 2:
        raise InputError(f"test must be a pair (inputs, targets), got {shown(test)}")
    inputs, targets = require_float("test inputs", test[0]), require_float("test targets", test[1])
    if inputs.ndim != 2 or len(targets) != len(inputs):
        raise InputError(
            "test inputs and targets must have one row a point, got shapes "
            f"{tuple(inputs.shape)} and {tuple(targets.shape)}"
        )
    return inputs, targets


#: Quantities fitted against the width, from the measurements; NaN where descent diverged.
_PEAKS: dict[str, Callable[[Mapping[str, Tensor]], Tensor]] = {
    "descent_peak": lambda measured: measured["descent_distance"].amax(-1),
    "flow_peak": lambda measured: measured["flow_distance"].amax(-1),
    "linear_peak": lambda measured: measured["linear_distance"].amax(-1),
    "kernel_error": lambda measured: measured["kernel_error"],
    "kernel_drift": lambda measured: measured["kernel_drift"].amax(-1),
}


def _warn_of_instability(step_size: float, kernel: float, network: float) -> None:
    """Warn where the step size is beyond 2/λ_max of the kernel or of a network at its start."""
    for whose, sharpness in (("the kernel", kernel), ("a network at its start", network)):
        if step_size >= 2 / sharpness:
            warnings.warn(
                f"the step size {step_size:.4g} is beyond 2/λ_max = {2 / sharpness:.4g} of "
                f"{whose}: descent is unstable there",
                stacklevel=3,
            )
            return
