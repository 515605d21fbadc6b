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

import torch
from torch import Tensor

from gflow.callbacks import Stages
from gflow.checks import require_single_start
from gflow.descent import Descent, descend_to
from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.solvers import integrate
from gflow.solvers.integrate import better_states
from gflow.studies.matching import matched_times
from gflow.studies.stability import stability_limit
from gflow.trajectory import Trajectory


@dataclass(frozen=True)
class ContinuousVsDiscrete:
    """A flow, descent with η₀, and descent with η₀/proxy.

    Attributes
    ----------
    ts : Tensor, shape (T,)
        t = kη₀, 0 first.
    step_size : float
        η₀.
    proxy : int
        How many times smaller the proxy's step is.
    travelled, gap, proxy_gap, proxy_error : Tensor, shape (T,)
        The four distances above, in their order.
    losses, descent_losses : Tensor, shape (T,)
    solver_error : Tensor, shape (T,)
        Distance of the integrated flow from one solved ten times more tightly (with half the
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

    @property
    def diverged_at(self) -> int | None:
        """The step from which either descent diverged; the distances end there."""
        found = [d.diverged_at for d in (self.descent, self.proxy_descent)]
        return next((k for k in found if k is not None), None)


def continuous_vs_discrete(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_size: float,
    *,
    proxy: int = 20,
    points: int = 100,
    method: str = "auto",
    rtol: float = 1e-6,
    atol: float = 1e-9,
    solver_step: float | None = None,
    max_evals: int = 1_000_000,
    estimate_error: bool = True,
    stages: Stages = lambda name, t_end: None,
) -> ContinuousVsDiscrete:
    """Descent with η₀ and with η₀/proxy, beside the flow.

    Parameters
    ----------
    flow : Flow
        Of parameters: a reduced flow is taken at its parameters.
    y0 : Tensor, shape (*state)
        One start.
    t_end : float
    step_size : float
        η₀.
    proxy : int
        At least 2.
    points : int
        Comparisons along the path, at most one a step.
    method, rtol, atol, max_evals
        As in `gflow.integrate`.
    solver_step : float, optional
        Step of a fixed-step method. The gradient of a ReLU network jumps wherever a neuron
        switches on a sample; the error of every method is then of order 1 in its step, so that
        an adaptive one takes ever more of them and a fixed one is cheaper.
    estimate_error : bool
        Solve once more for ``solver_error``, at up to four times the price.
    stages : callable, optional
        ``stages(name, t_end)`` gives a progress callback for each part.

    Returns
    -------
    ContinuousVsDiscrete

    Raises
    ------
    InputError
        If an argument is out of range.

    Examples
    --------
    >>> import torch, gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> found = continuous_vs_discrete(flow, U, 1.0, 0.02, points=5)
    >>> 1 < float(found.gap[-1] / found.proxy_gap[-1]) < 1.1   # the proxy sees 19/20 of it
    True
    """
    if proxy != int(proxy) or proxy < 2:
        raise InputError(f"proxy must be a whole number of at least 2, got {proxy}")
    flow, y0 = flow.parameter_flow, flow.lift(y0)
    flow.check_state(y0)
    require_single_start("a study", y0, flow.state_ndim)
    _, (counts,) = matched_times(t_end, [step_size], points)
    times = [k * step_size for k in counts]
    progress = stages("descent", t_end)
    descent = descend_to(flow, y0, step_size, counts, progress=progress)
    progress = stages(f"descent, step / {proxy}", t_end)
    finer = [proxy * k for k in counts]
    near = descend_to(flow, y0, step_size / proxy, finer, progress=progress)
    progress = stages("flow", t_end)
    path = integrate(
        flow,
        y0,
        times,
        method,
        rtol,
        atol,
        step_size=solver_step,
        max_evals=max_evals,
        progress=progress,
    )
    error = torch.full((len(times),), torch.nan, dtype=y0.dtype)
    if estimate_error:
        truth = better_states(
            flow,
            y0,
            times,
            path.stats.method,
            rtol,
            atol,
            step_size=solver_step,
            max_evals=10 * max_evals,
            progress=progress,
        )
        error = flow.norm(path.ys - truth)
    count = min(len(descent.ts), len(near.ts))  # fewer where one diverged
    theta, theta_near, there = descent.ys[:count], near.ys[:count], path.ys[:count]
    return ContinuousVsDiscrete(
        ts=path.ts[:count],
        step_size=float(step_size),
        proxy=int(proxy),
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
