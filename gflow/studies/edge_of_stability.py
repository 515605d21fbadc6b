"""Where descent leaves the flow: at the edge of stability.

Along gradient flow the sharpness of a network grows; descent with step size η follows until its
sharpness passes 2/η, then oscillates along the top eigenvectors and stays there (Cohen, Kaur, Li,
Kolter & Talwalkar 2021, arXiv:2103.00065), while its time average follows the central flow
(`gflow.flows.central`). All on one time axis, t = kη.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.callbacks import Progress, Stages, as_stages
from gflow.checks import require_positive
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.central import CentralFlow
from gflow.flows.starts import single_start
from gflow.flows.wrapped import require_parameter_flow
from gflow.solvers.integrate import integrate
from gflow.solvers.options import DEFAULT_OPTIONS, SolveKeywords, SolveOptions
from gflow.studies.arguments import distinct_sizes, study_options
from gflow.studies.central_path import CentralPath, central_path
from gflow.studies.compare import Gap, compare
from gflow.studies.matching import matched_times, require_linear_spacing
from gflow.studies.oscillation import OscillatingDescent, moving_mean, oscillating_descent
from gflow.trajectory import Trajectory

_SETTLED = 0.15  # of 2/η


_USAGE = "edge_of_stability(flow, y0, t_end)"


@dataclass(frozen=True, repr=False)
class Edge:
    """Descent with one step size beside the flow and its central flow.

    Attributes
    ----------
    descent : OscillatingDescent
        Descent, its sharpness at S compared steps, its losses and oscillation at all K steps.
    gap : Gap
        Distance of descent to the flow at the compared steps.
    crossing, descent_crossing : float or None
        First time at which the sharpness of the flow, and of descent, is 2/η.
    relative_gap, relative_parameter_gap : Tensor, shape (S,)
        The gap of the outputs, and of the parameters, relative to the distance that the flow
        has travelled from its start by ``crossing`` (by the end if there is none, or it is 0).
    settled : float
        Longest stretch of time, from ``descent_crossing`` on, over which descent's sharpness is
        within 15 % of 2/η.
    smooth_losses, smooth_variances : Tensor, shape (K,)
        Means of descent's losses and variances over a window of time around each step.
    central : CentralPath or None
        From the last compared step before ``crossing``; None if the flow does not cross, or
        starts beyond the edge.
    central_error : float
        Largest relative difference of its averaged loss from ``smooth_losses``, where the window
        lies within the path; NaN without a central flow.
    """

    descent: OscillatingDescent
    gap: Gap
    crossing: float | None
    descent_crossing: float | None
    relative_gap: Tensor
    relative_parameter_gap: Tensor
    settled: float
    smooth_losses: Tensor
    smooth_variances: Tensor
    central: CentralPath | None
    central_error: float

    def __repr__(self) -> str:
        crossed = "never" if self.crossing is None else f"at t = {self.crossing:.4g}"
        return f"Edge(step size {self.step_size:g}, the flow reaches 2/η {crossed})"

    @property
    def step_size(self) -> float:
        """η."""
        return self.descent.descent.step_size

    def before(self, curve: Tensor) -> float:
        """Return the largest value of a relative gap up to the crossing."""
        end = math.inf if self.crossing is None else self.crossing
        return float(curve[self.gap.ts <= end].max())

    def after(self, curve: Tensor) -> float:
        """Return the largest value of a relative gap after the crossing; NaN without one."""
        later = self.gap.ts > (math.inf if self.crossing is None else self.crossing)
        return float(curve[later].max()) if bool(later.any()) else math.nan


@dataclass(frozen=True, repr=False)
class EdgeOfStability(Display):
    """The flow, its sharpness, and an `Edge` for each step size.

    Attributes
    ----------
    trajectory : Trajectory
    sharpness : Tensor, shape (T,)
        Of the flow, at ``trajectory.ts``.
    smoothing : float
        Length of the window of time over which descent is averaged.
    edges : tuple of Edge
        Largest step size first.
    """

    trajectory: Trajectory
    sharpness: Tensor
    smoothing: float
    edges: tuple[Edge, ...]

    def __repr__(self) -> str:
        return (
            f"EdgeOfStability(sharpness of the flow to {float(self.sharpness.max()):.3g} at "
            f"t = {float(self.trajectory.ts[-1]):g}, {list(self.edges)}, "
            f"{holds(self.trajectory.certificate)})"
        )


def edge_of_stability(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_sizes: Sequence[float] | None = None,
    *,
    smoothing: float | None = None,
    options: SolveOptions = DEFAULT_OPTIONS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> EdgeOfStability:
    """Follow a flow, descents and their central flows, with the sharpness along each.

    Parameters
    ----------
    flow : ParameterFlow
    y0 : Tensor, shape (*state)
        One start.
    t_end : float
        Length of the path.
    step_sizes : sequence of float, optional
        Of descent; by default three whose edges are at 1/2, 2/3 and 5/6 of the rise of the
        flow's sharpness.
    smoothing : float, optional
        Window of time over which descent is averaged, a tenth of ``t_end`` by default.
    options : SolveOptions
        Of the solver and of the comparisons, which are linear in time; by default those of
        `gflow.integrate`, with 100 points for each step size.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each part; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    EdgeOfStability

    Raises
    ------
    InputError
        If the flow is not one of parameters, or an argument is out of range.
    IntegrationError
        If the flow cannot be integrated.

    Examples
    --------
    Where the sharpness is constant, the flow never crosses the edge:

    >>> import torch, gflow
    >>> module = torch.nn.Linear(1, 1, bias=False).double()
    >>> X = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> flow = gflow.NetworkFlow(module, torch.nn.functional.mse_loss, X, 3 * X)
    >>> study = edge_of_stability(flow, torch.zeros(1).double(), 4.0, [0.1, 0.05], points=8)
    >>> [edge.crossing for edge in study.edges]
    [None, None]
    """
    require_flow(flow, _USAGE)
    options, stages = study_options(options, keywords), as_stages(stages)
    require_linear_spacing("edge-of-stability", options)
    require_parameter_flow("the edge of stability", flow)
    t_end = require_positive("t_end", t_end)
    window = t_end / 10 if smoothing is None else require_positive("smoothing", smoothing)
    if window > t_end:
        raise InputError(f"smoothing must be positive and at most t_end = {t_end:g}, got {window}")
    flow, y0 = single_start("a study", flow, y0, _USAGE)
    if step_sizes is None:
        step_sizes = _default_step_sizes(flow, y0, t_end, options.max_evals)
    sizes = distinct_sizes(step_sizes)
    times, counts = matched_times(t_end, sizes, options.points)
    path = integrate(
        flow,
        y0,
        times,
        options=options,
        sharpness=2,  # the second too, so that the first is found where the two cross
        progress=stages("flow", t_end),
    )
    sharpness = path.sharpness[:, 0]
    with torch.no_grad():
        edges = tuple(
            _edge(path, sharpness, size, steps, window, stages)
            for size, steps in zip(sizes, counts, strict=True)
        )
    return EdgeOfStability(path, sharpness, window, edges)


def _default_step_sizes(flow: Flow, y0: Tensor, t_end: float, max_evals: int) -> list[float]:
    """Return 2/λ for λ at fractions of the rise of the sharpness along a loose solve."""
    times = [t_end * i / 20 for i in range(21)]
    rough = integrate(flow, y0, times, rtol=1e-3, atol=1e-6, sharpness=2, max_evals=max_evals)
    values = rough.sharpness[:, 0]
    first, highest = float(values[0]), float(values.max())
    if not first > 0:
        raise InputError(
            "the Hessian at the start must have a positive eigenvalue to choose step sizes by, got "
            f"λ_max = {first:g}; pass step_sizes"
        )
    edges = [first + fraction * (highest - first) for fraction in (1 / 2, 2 / 3, 5 / 6)]
    return [min(float(f"{2 / edge:.3g}"), t_end) for edge in edges]


def _edge(
    path: Trajectory,
    flow_sharpness: Tensor,
    size: float,
    steps: list[int],
    window: float,
    stages: Stages,
) -> Edge:
    """Compare descent with one step size with the flow and its central flow."""
    flow, t_end = path.flow, float(path.ts[-1])
    progress = stages(f"descent, step {size:g}", t_end)
    oscillating = oscillating_descent(flow, path.ys[0], size, steps, progress)
    descent, limit = oscillating.descent, 2 / size
    crossing = _first_crossing(path.ts, flow_sharpness, limit)
    gap = compare(path, descent)
    last = int((path.ts <= (crossing or t_end)).nonzero()[-1])
    outputs = flow.end_to_end(torch.stack([path.ys[0], path.ys[last]]))
    parameters = gap.parameters if gap.parameters is not None else gap.end_to_end
    half = max(1, round(window / size / 2))
    smooth = moving_mean(oscillating.losses, half)
    ts = torch.tensor(steps, dtype=torch.float64) * size
    central = _central(path, ts, size, crossing, stages(f"central flow, step {size:g}", t_end))
    return Edge(
        descent=oscillating,
        gap=gap,
        crossing=crossing,
        descent_crossing=_first_crossing(descent.ts, oscillating.sharpness, limit),
        relative_gap=gap.end_to_end / (outputs[1] - outputs[0]).norm(),
        relative_parameter_gap=parameters / flow.norm(path.ys[last] - path.ys[0]),
        settled=_longest_near(descent.ts, oscillating.sharpness, limit),
        smooth_losses=smooth,
        smooth_variances=moving_mean(oscillating.variances, half),
        central=central,
        central_error=_largest_difference(central, smooth, size, window),
    )


def _central(
    path: Trajectory, ts: Tensor, size: float, crossing: float | None, progress: Progress | None
) -> CentralPath | None:
    """Follow the central flow from the last of descent's times before the crossing."""
    if not crossing:
        return None
    start = int((ts < crossing).nonzero()[-1])
    row = int((path.ts - ts[start]).abs().argmin())
    flow = CentralFlow(path.flow, size)
    return central_path(flow, path.ys[row], ts[start:].tolist(), progress=progress)


def _largest_difference(
    central: CentralPath | None, smooth: Tensor, size: float, window: float
) -> float:
    """Return the largest relative difference from smoothed losses whose window is complete."""
    if central is None:
        return math.nan
    steps = (central.ts / size).round().long()
    half = round(window / size / 2)
    complete = (steps + half < len(smooth)) & (central.ts > central.ts[0])
    if not bool(complete.any()):
        return math.nan
    losses = smooth[steps[complete]]
    return float(((central.averaged_losses[complete] - losses) / losses).abs().max())


def _first_crossing(ts: Tensor, values: Tensor, limit: float) -> float | None:
    """Return when values first reach a limit, by linear interpolation between two times."""
    above = (values.cpu() >= limit).nonzero()
    if not len(above):
        return None
    i = int(above[0])
    if i == 0:
        return float(ts[0])
    low, high = float(values[i - 1]), float(values[i])
    return float(ts[i - 1] + (ts[i] - ts[i - 1]) * (limit - low) / (high - low))


def _longest_near(ts: Tensor, values: Tensor, limit: float) -> float:
    """Return the longest stretch of time near a limit, once values have reached it."""
    longest, since, reached = 0.0, None, False
    for t, value in zip(ts.tolist(), values.tolist(), strict=True):
        reached = reached or value >= limit
        near = reached and abs(value - limit) <= _SETTLED * limit
        since = (t if since is None else since) if near else None
        longest = max(longest, 0.0 if since is None else t - since)
    return longest
