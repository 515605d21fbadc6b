"""One flow, its parameter flow, and gradient descent at several step sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from gflow.callbacks import Stages, as_stages
from gflow.checks import require_positive
from gflow.descent import Descent, descend_to
from gflow.display import Display, holds, span
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.starts import single_start
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.solvers.solve import solve
from gflow.studies.arguments import distinct_sizes, study_options
from gflow.studies.compare import Gap, compare
from gflow.studies.matching import matched_times, max_descent_steps
from gflow.studies.stability import stability_limit
from gflow.trajectory import IntegrationError, Trajectory, relative_error

_PER_DECADE = 10  # times of the flow before its first regular one, from t_end/10⁴ on
_ROUGH_EVALS = 20_000  # for a first estimate of the stability limit

DEFAULTS = SolveOptions(rtol=1e-8, atol=1e-11, estimate_error=True)


_USAGE = "flow_and_descent(flow, y0, t_end)"


@dataclass(frozen=True, repr=False)
class FlowAndDescent(Display):
    """A flow with descents on the same time axis.

    Attributes
    ----------
    trajectory : Trajectory
        The flow at the union of all matched times.
    parameters : Trajectory or None
        For a reduced flow the parameter flow from the lifted start, at the same times.
    reduction_error : float or None
        Relative difference of the two, projected: the reduced flow against the parameters.
    descents : tuple of Descent
    gaps : tuple of Gap
    stability_limit : float
        2/λ_max, the least along the path.
    solver_error : float or None
        The flow's own error, measured as the gaps are, on the object the loss sees; None where
        that is the state (the certificate has its error) or nothing was measured.
    """

    trajectory: Trajectory
    parameters: Trajectory | None
    reduction_error: float | None
    descents: tuple[Descent, ...]
    gaps: tuple[Gap, ...]
    stability_limit: float
    solver_error: float | None = None

    def __repr__(self) -> str:
        paths = [self.trajectory, *([] if self.parameters is None else [self.parameters])]
        sizes = span([descent.step_size for descent in self.descents])
        return (
            f"FlowAndDescent({type(self.trajectory.flow).__name__} to t = "
            f"{float(self.trajectory.ts[-1]):g}, {len(self.descents)} descents of step sizes "
            f"{sizes}, largest gap {max(gap.largest for gap in self.gaps):.3g}, "
            f"{holds(*(path.certificate for path in paths))})"
        )


def flow_and_descent(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_sizes: Sequence[float] | None = None,
    *,
    sharpness: int = 0,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> FlowAndDescent:
    """Integrate a flow, run descent beside it, and measure the gaps.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (*state)
    t_end : float
    step_sizes : sequence of float, optional
        Of descent; by default 1/2, 1/4 and 1/8 of the stability limit 2/λ_max, and at most
        t_end/4.
    sharpness : int
        The number of largest eigenvalues of the Hessian to compute along the flow.
    options : SolveOptions
        Of the solver and of the comparisons; by default rtol is 1e-8, atol 1e-11, there are 100
        points for each step size, and the error is estimated.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each part; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    FlowAndDescent

    Raises
    ------
    InputError
        If arguments are out of range.
    IntegrationError
        If the flow cannot be integrated.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.tensor([[1.0]], dtype=torch.float64)
    >>> flow = gflow.KernelFlow(H, torch.ones(1, dtype=torch.float64))
    >>> both = flow_and_descent(flow, torch.zeros(1, dtype=torch.float64), 4.0)
    >>> [d.step_size for d in both.descents], both.stability_limit
    ([1.0, 0.5, 0.25], 2.0)
    """
    require_flow(flow, _USAGE)
    options, stages = study_options(options, keywords), as_stages(stages)
    t_end = require_positive("t_end", t_end)
    flow, y0 = single_start("a study", flow, y0, _USAGE)
    if step_sizes is None:
        step_sizes = default_step_sizes(flow, y0, t_end, count=3, max_evals=options.max_evals)
    sizes = distinct_sizes(step_sizes)
    most = max_descent_steps(flow, y0, t_end / sizes[-1])
    times, counts = matched_times(
        t_end, sizes, options.points, spacing=options.spacing, max_steps=most
    )
    # Where fast modes decay, at enough times for curves of the flow to have no corners.
    early = [t_end * 10 ** (-i / _PER_DECADE) for i in range(_PER_DECADE, 4 * _PER_DECADE + 1)]
    times = sorted({*times, *(t for t in early if t < times[1])})
    solution = solve(flow, y0, times, options, sharpness=sharpness, progress=stages("flow", t_end))
    trajectory, error = solution.trajectory, None
    flow = trajectory.flow
    if options.estimate_error and solution.reference is not None and flow.end_to_end(y0) is not y0:
        difference = flow.end_to_end(trajectory.ys) - flow.end_to_end(solution.reference)
        error = float(difference.flatten(1).norm(dim=1).max())
    parameters = reduction_error = None
    if not flow.is_of_parameters:
        method = "auto" if options.method == "exact" else options.method
        parameters = integrate(
            flow.parameter_flow,
            flow.lift(y0),
            times,
            options=options.with_(method=method, estimate_error=False),
            progress=stages("parameters", t_end),
        )
        reduction_error = relative_error(flow, trajectory.ys, flow.project(parameters.ys))
    descents = tuple(
        descend_to(flow, y0, step, steps, progress=stages(f"descent, step {step:g}", t_end))
        for step, steps in zip(sizes, counts, strict=True)
    )
    return FlowAndDescent(
        trajectory=trajectory,
        parameters=parameters,
        reduction_error=reduction_error,
        descents=descents,
        gaps=tuple(compare(trajectory, descent) for descent in descents),
        stability_limit=stability_limit(flow, trajectory.ys),
        solver_error=error,
    )


def default_step_sizes(
    flow: Flow, y0: Tensor, t_end: float, *, count: int, max_evals: int = 1_000_000
) -> list[float]:
    """Choose step sizes of descent: 1/2, 1/4, … of the stability limit, two digits each.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (*state)
    t_end : float
        The largest step size is at most t_end/4.
    count : int
        Number of step sizes.
    max_evals : int
        Budget of right-hand side evaluations of the loose solve along which the limit is
        estimated.

    Returns
    -------
    list of float
        Descending.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.tensor([[1.0]], dtype=torch.float64)
    >>> flow = gflow.KernelFlow(H, torch.ones(1, dtype=torch.float64))
    >>> default_step_sizes(flow, torch.zeros(1, dtype=torch.float64), 8.0, count=2)
    [1.0, 0.5]
    """
    if flow.affine and flow.is_of_parameters:  # the Hessian is the same everywhere
        limit = stability_limit(flow, y0[None])
    else:
        times = [t_end * i / 4 for i in range(5)]
        budget = min(max_evals, _ROUGH_EVALS)
        try:
            rough = integrate(flow, y0, times, rtol=1e-3, atol=1e-13, max_evals=budget)
        except IntegrationError as error:
            rough = error.trajectory  # as far as it came; the solve itself reports the reason
        limit = stability_limit(flow, rough.ys)
    largest = min(limit / 2, t_end / 4)
    return [_two_digits(largest / 2**i) for i in range(count)]


def _two_digits(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit * (1 + 1e-12)) * unit:.2g}")
