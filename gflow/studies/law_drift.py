r"""How far laws drift: along the flow by the solver's error, along descent by the step size.

A law Q of the flow that is a square of the parameters changes in one step of descent by η²Q(∇L):
with Q(θ − η∇L) = Q(θ) − 2ηB(θ, ∇L) + η²Q(∇L) the middle term is what the law says is zero. Over a
time t that is η·∫Q(∇L)dt, of order 1 in η (Kunin et al. 2021, arXiv:2012.04728, section 6; for
linear networks Arora et al. 2019, arXiv:1810.02281). A law that is linear in the parameters does
not drift. Under weight decay the drift is that from e^{−rt}Q(0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from gflow.callbacks import Progress, as_progress
from gflow.checks import require_count, require_positive
from gflow.descent import Descent, descend_to
from gflow.display import Display, holds, span
from gflow.errors import InputError
from gflow.flows import NetworkFlow
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.starts import single_start
from gflow.laws import Count
from gflow.laws import count as count_laws
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.solvers.solve import solve
from gflow.studies.arguments import distinct_sizes, study_options
from gflow.studies.fitting import OrderFit, fit_order
from gflow.studies.matching import matched_times, max_descent_steps
from gflow.studies.stability import stability_limit
from gflow.trajectory import Trajectory, invariant_drift

_USAGE = "gflow.studies.law_drift(flow, y0, t_end, step_sizes)"

#: Tight, so that the drift along the flow is far below that of descent.
DEFAULTS = SolveOptions(rtol=1e-10, atol=1e-13, points=40)


@dataclass(frozen=True, repr=False)
class LawDrift(Display):
    """The drift of each law along the flow and along descents, and its order in the step size.

    Attributes
    ----------
    formulas : mapping of str to str
        Every law by name, in words; empty where a flow of another kind has no text for it.
    sizes : mapping of str to int
        The number of entries of each.
    decay_rates : mapping of str to float
        r where a law decays as e^{−rt}; 0 of a constant one.
    trajectory : Trajectory
        The flow of the parameters.
    flow_drift : mapping of str to Tensor, shape (T,)
        Change of each law along the flow, relative to its natural scale.
    step_sizes : tuple of float
        Descending.
    stable : tuple of bool
        Whether each is below the stability limit.
    stability_limit : float
    descents : tuple of Descent
    descent_drift : tuple of mapping of str to Tensor, shape (S,)
        The same along each descent.
    fits : mapping of str to OrderFit
        The largest drift of each law over a descent against the step size, and its order.
    count : Count or None
        Numbers of parameters, dimensions and laws of a module; None where it is not counted.
    """

    formulas: Mapping[str, str]
    sizes: Mapping[str, int]
    decay_rates: Mapping[str, float]
    trajectory: Trajectory
    flow_drift: Mapping[str, Tensor]
    step_sizes: tuple[float, ...]
    stable: tuple[bool, ...]
    stability_limit: float
    descents: tuple[Descent, ...]
    descent_drift: tuple[Mapping[str, Tensor], ...]
    fits: Mapping[str, OrderFit]
    count: Count | None = None

    def __repr__(self) -> str:
        worst = max(float(drift.max()) for drift in self.flow_drift.values())
        orders = [fit.order for fit in self.fits.values() if fit.order is not None]
        shown = f"orders {span(orders)}" if orders else "no order"
        return (
            f"LawDrift({len(self.fits)} laws, drift {worst:.1e} along the flow, {shown} under "
            f"descent, {holds(self.trajectory.certificate)})"
        )


def law_drift(
    flow: Flow,
    y0: Tensor,
    t_end: float,
    step_sizes: Sequence[float],
    *,
    max_counted: int = 400,
    options: SolveOptions = DEFAULTS,
    progress: Progress | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> LawDrift:
    """Measure how far the laws of a flow drift, along the flow and along descent.

    Parameters
    ----------
    flow : Flow
        With invariants, of which the parameter flow's are taken.
    y0 : Tensor, shape (*state)
        One start.
    t_end : float
        Length of the path.
    step_sizes : sequence of float
        Of descent, at most t_end; three at least for a fit.
    max_counted : int
        Largest number of parameters of a module whose laws are counted (`gflow.laws.count`); the
        work grows with its cube.
    options : SolveOptions
        Of the solver and of the comparisons; by default rtol is 1e-10, atol 1e-13, and there are
        40 points for each step size.
    progress : callable or bool, optional
        ``progress(t, loss)`` along the flow and the descents; True shows a bar.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    LawDrift

    Raises
    ------
    InputError
        If the flow conserves nothing that is known, or arguments are out of range.
    IntegrationError
        If the flow cannot be integrated.

    Examples
    --------
    >>> import torch, gflow
    >>> loss = gflow.losses.SquaredDistance(torch.diag(torch.tensor([2.0, 1.0]).double()))
    >>> flow = gflow.LayerwiseFlow(loss, [2, 2, 2])
    >>> y0 = flow.balanced_start(torch.tensor([[0.5, 0.2], [0.0, 0.4]]).double())
    >>> found = law_drift(flow, y0, 2.0, [0.02, 0.01, 0.005])
    >>> round(found.fits["balancedness_1"].order, 1)
    1.0
    """
    require_flow(flow, _USAGE)
    options = study_options(options, keywords).with_(estimate_error=False)
    t_end, sizes = require_positive("t_end", t_end), distinct_sizes(step_sizes)
    max_counted = require_count("max_counted", max_counted, 0)
    flow, y0 = single_start("a study", flow, y0, _USAGE)
    flow, y0 = flow.parameter_flow, flow.lift(y0)
    values = flow.invariants(y0)
    if not values:
        raise InputError(
            f"{type(flow).__name__} must conserve something that is known to have a drift, but its "
            "invariants are empty; take another activation, such as relu, or other layers"
        )
    if not isinstance(progress, bool):
        progress = as_progress(progress)
    most = max_descent_steps(flow, y0, t_end / sizes[-1])
    times, counts = matched_times(
        t_end, sizes, options.points, spacing=options.spacing, max_steps=most
    )
    path = solve(flow, y0, times, options, progress=as_progress(progress, "flow", t_end)).trajectory
    limit = stability_limit(flow, path.ys)
    stable = tuple(size < limit for size in sizes)
    descents = tuple(
        descend_to(
            flow, y0, size, steps, progress=as_progress(progress, f"descent, step {size:g}", t_end)
        )
        for size, steps in zip(sizes, counts, strict=True)
    )
    along_flow = invariant_drift(flow, path.ys, path.ts)
    along_descents = tuple(invariant_drift(flow, d.ys, d.ts) for d in descents)
    fits = {}
    for name, drift in along_flow.items():
        gaps = [
            math.inf if descent.diverged_at is not None else float(seen[name].max())
            for descent, seen in zip(descents, along_descents, strict=True)
        ]
        fits[name] = fit_order(sizes, gaps, stable, float(drift.max()))
    rates = flow.invariant_rates()
    return LawDrift(
        formulas=_formulas(flow, values),
        sizes={name: value.numel() for name, value in values.items()},
        decay_rates={name: rates.get(name, 0.0) for name in values},
        trajectory=path,
        flow_drift=along_flow,
        step_sizes=tuple(sizes),
        stable=stable,
        stability_limit=limit,
        descents=descents,
        descent_drift=along_descents,
        fits=fits,
        count=_count(flow, max_counted),
    )


def _formulas(flow: Flow, values: Mapping[str, Tensor]) -> dict[str, str]:
    known = {law.name: law.formula for law in flow.laws} if isinstance(flow, NetworkFlow) else {}
    return {name: known.get(name, "") for name in values}


def _count(flow: Flow, most: int) -> Count | None:
    """Count the laws of a module that is small enough."""
    if not isinstance(flow, NetworkFlow) or flow.state_shape[0] > most or flow.is_split:
        return None
    return count_laws(flow.module, flow.samples[0], max_parameters=most)
