r"""How far descent is from the flow, and from a descent with a smaller step in place of it.

Elkabetz & Cohen 2021 (arXiv:2107.06608, section 5) train linear and ReLU networks by descent with
step size η₀ and measure its distance from descent with η₀/20, as a proxy for gradient flow. Here
the flow itself is integrated, so that the proxy can be judged as well. At t = kη₀, in the
Euclidean norm of the parameters:

    ‖θ_k − θ_0‖      the distance travelled
    ‖θ_k − θ(t)‖     the gap to the flow
    ‖θ_k − θ'_20k‖   what the proxy reports as that gap; θ' is descent with η₀/20
    ‖θ'_20k − θ(t)‖  the proxy's own distance from the flow

Time unit: t = k·step_size of descent on the same loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.callbacks import Stages, as_stages
from gflow.checks import require_count, require_positive
from gflow.descent import Descent, descend_to
from gflow.display import Display, holds
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.starts import single_start
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.solvers.solve import solve
from gflow.studies.arguments import study_options
from gflow.studies.matching import matched_times, require_linear_spacing
from gflow.studies.stability import stability_limit
from gflow.trajectory import Trajectory

DEFAULTS = SolveOptions(estimate_error=True)


_USAGE = "continuous_vs_discrete(flow, y0, t_end, step_size)"


@dataclass(frozen=True, repr=False)
class ContinuousVsDiscrete(Display):
    """A flow, descent with η₀, and descent with η₀/proxy.

    Attributes
    ----------
    ts : Tensor, shape (T,)
        t = kη₀, 0 first.
    step_size : float
        η₀.
    proxy : int
        The factor by which the proxy's step is smaller.
    travelled, gap, proxy_gap, proxy_error : Tensor, shape (T,)
        The four distances above, in their order.
    losses, descent_losses : Tensor, shape (T,)
    solver_error : Tensor, shape (T,)
        Distance of the integrated flow from a solve at a tenth of the tolerance (with half the
        step where steps are fixed); NaN where not measured.
    stability_limit : float
        2/λ_max, the least along the flow.
    trajectory : Trajectory
    descent, proxy_descent : Descent
    """

    ts: Tensor
    step_size: float
    proxy: int
    travelled: Tensor
    gap: Tensor
    proxy_gap: Tensor
    proxy_error: Tensor
    losses: Tensor
    descent_losses: Tensor
    solver_error: Tensor
    stability_limit: float
    trajectory: Trajectory
    descent: Descent
    proxy_descent: Descent

    def __repr__(self) -> str:
        return (
            f"ContinuousVsDiscrete(step size {self.step_size:g}, to t = {float(self.ts[-1]):g}: "
            f"travelled {float(self.travelled[-1]):.3g}, largest gap {float(self.gap.max()):.3g}, "
            f"proxy to flow {float(self.proxy_error.max()):.2g}, "
            f"{holds(self.trajectory.certificate)})"
        )

    @property
    def diverged_at(self) -> int | None:
        """The step from which either descent diverged; the distances end there."""
        steps = [d.diverged_at for d in (self.descent, self.proxy_descent)]
        return next((k for k in steps if k is not None), None)


def continuous_vs_discrete(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_size: float,
    *,
    proxy: int = 20,
    solver_step: float | None = None,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> ContinuousVsDiscrete:
    """Compare descent with η₀, and with η₀/proxy, with the flow.

    Parameters
    ----------
    flow : Flow
        Of parameters: a reduced flow is taken at its parameters.
    y0 : Tensor, shape (*state)
        One start.
    t_end : float
        Length of the path.
    step_size : float
        η₀.
    proxy : int
        The factor by which the proxy's step is smaller, at least 2.
    solver_step : float, optional
        Step of a fixed-step method. The gradient of a ReLU network jumps wherever a neuron
        switches on a sample. There every method has order 1, so that an adaptive one takes very
        many steps and a fixed one is cheaper.
    options : SolveOptions
        Of the solver and of the comparisons, which are linear in time and at most one a step.
        By default the tolerances are those of `gflow.integrate`, there are 100 points, and the
        error is estimated, which can take four times the cost of the solve.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each part; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    ContinuousVsDiscrete

    Raises
    ------
    InputError
        If an argument is out of range.
    IntegrationError
        If the flow cannot be integrated.

    Examples
    --------
    >>> import torch, gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> study = continuous_vs_discrete(flow, U, 1.0, 0.02, points=5)
    >>> 1 < float(study.gap[-1] / study.proxy_gap[-1]) < 1.1   # the proxy sees 19/20 of it
    True
    """
    require_flow(flow, _USAGE)
    options, stages = study_options(options, keywords), as_stages(stages)
    require_linear_spacing("continuous-vs-discrete", options)
    proxy = require_count("proxy", proxy, 2)
    t_end, step_size = require_positive("t_end", t_end), require_positive("step_size", step_size)
    if solver_step is not None:
        solver_step = require_positive("solver_step", solver_step)
    flow, y0 = single_start("a study", flow, y0, _USAGE)
    flow, y0 = flow.parameter_flow, flow.lift(y0)
    _, (counts,) = matched_times(t_end, [step_size], options.points)
    times = [k * step_size for k in counts]
    progress = stages("descent", t_end)
    descent = descend_to(flow, y0, step_size, counts, progress=progress)
    progress = stages(f"descent, step / {proxy}", t_end)
    proxy_counts = [proxy * k for k in counts]
    near = descend_to(flow, y0, step_size / proxy, proxy_counts, progress=progress)
    progress = stages("flow", t_end)
    solution = solve(
        flow,
        y0,
        times,
        options.with_(estimate_error=False),  # measured below, by the same method
        step_size=solver_step,
        progress=progress,
    )
    path = solution.trajectory
    error = torch.full((len(times),), torch.nan, dtype=y0.dtype)
    if options.estimate_error:
        error = flow.norm(path.ys - solution.reference_states())
    count = min(len(descent.ts), len(near.ts))  # fewer where one diverged
    theta, theta_near, there = descent.ys[:count], near.ys[:count], path.ys[:count]
    return ContinuousVsDiscrete(
        ts=path.ts[:count],
        step_size=float(step_size),
        proxy=proxy,
        travelled=flow.norm(theta - y0),
        gap=flow.norm(theta - there),
        proxy_gap=flow.norm(theta - theta_near),
        proxy_error=flow.norm(theta_near - there),
        losses=flow.loss(there),
        descent_losses=flow.loss(theta),
        solver_error=error[:count],
        stability_limit=stability_limit(flow, path.ys),
        trajectory=path,
        descent=descent,
        proxy_descent=near,
    )
