r"""Where diagonal networks end, from starts of several scales: from kernel to rich.

From u = v = α·1 the network w = u∘u − v∘v on 1/(2n)‖Xw − y‖² ends at the solution of Xw = y of
least Q_α(w) (`gflow.baselines.diagonal`), which is the one of least ‖w‖₂ as α → ∞, and of least
‖w‖₁ as α → 0 (Woodworth et al. 2020, arXiv:2002.09277, theorem 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gflow.baselines import diagonal_limit
from gflow.callbacks import Stages, as_stages
from gflow.checks import require_positive
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import DiagonalFlow
from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveKeywords, SolveOptions
from gflow.studies.arguments import distinct_positive, study_options
from gflow.trajectory import Trajectory

_LATEST = 1e4  # time by which all losses are reached, and longer from small starts
_CURVE = 61  # scales at which theory is drawn
_OFF = 1e-9  # of the largest: singular values of X that count as 0

DEFAULTS = SolveOptions(points=300)


@dataclass(frozen=True, repr=False)
class RichLimit(Display):
    """Ends of diagonal networks, beside those of theory.

    Attributes
    ----------
    log_scales : Tensor, shape (k,)
        log α of the starts, descending.
    paths : tuple of Trajectory
    ends : Tensor, shape (k, d)
        w at the end of each path.
    limits : Tensor, shape (k, d)
        The minimisers of Q_α.
    curve_log_scales : Tensor, shape (m,)
    curve : Tensor, shape (m, d)
        Minimisers of Q_α on a finer grid.
    least_l1, least_l2 : Tensor, shape (d,)
        The solutions of Xw = y of least ‖w‖₁ and ‖w‖₂.
    """

    log_scales: Tensor
    paths: tuple[Trajectory, ...]
    ends: Tensor
    limits: Tensor
    curve_log_scales: Tensor
    curve: Tensor
    least_l1: Tensor
    least_l2: Tensor

    def __repr__(self) -> str:
        return (
            f"RichLimit({len(self.log_scales)} scales, ends within {float(self.errors.max()):.2g} "
            f"of theory, {holds(*(path.certificate for path in self.paths))})"
        )

    @property
    def errors(self) -> Tensor:
        """‖w − limit‖₂ over ‖limit‖₂ of each end, (k,)."""
        return (self.ends - self.limits).norm(dim=-1) / self.limits.norm(dim=-1)


def least_l1_solution(inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the solution of Xw = y of least ‖w‖₁, by linear programming.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
    targets : Tensor, shape (n,)

    Returns
    -------
    Tensor, shape (d,)

    Raises
    ------
    InputError
        If there is no solution.

    Examples
    --------
    >>> X = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    >>> least_l1_solution(X, torch.ones(1, dtype=torch.float64)).tolist()
    [0.0, 0.5]
    """
    from scipy.optimize import linprog

    X, y = inputs.double().cpu().numpy(), targets.double().cpu().numpy()
    both = torch.cat([inputs, -inputs], dim=1).double().cpu().numpy()
    found = linprog(torch.ones(2 * X.shape[1]).numpy(), A_eq=both, b_eq=y, method="highs")
    if not found.success:
        raise InputError(
            f"Xw = y must have a solution, got none of {X.shape[0]} rows and {X.shape[1]} columns; "
            "use fewer samples than inputs"
        )
    parts = torch.from_numpy(found.x).to(inputs)
    return parts[: X.shape[1]] - parts[X.shape[1] :]


def rich_limit(
    inputs: Tensor,
    targets: Tensor,
    scales: Sequence[float],
    loss_end: float,
    *,
    t_end: float | None = None,
    options: SolveOptions = DEFAULTS,
    stages: Stages | bool | None = None,
    **keywords: Unpack[SolveKeywords],
) -> RichLimit:
    """Follow diagonal networks from several scales to their ends.

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        X, of independent rows.
    targets : Tensor, shape (n,)
        y.
    scales : sequence of float
        α.
    loss_end : float
        The loss at which a path ends.
    t_end : float, optional
        The longest time; by default long enough, by theory.
    options : SolveOptions
        Of the solver; by default there are 300 points on each path.
    stages : callable or bool, optional
        ``stages(name, t_end)`` gives a progress callback for each path; True shows bars.
    **keywords
        Fields of `SolveOptions` (``method``, ``rtol``, ``atol``, ``points``, …) to change in
        ``options``.

    Returns
    -------
    RichLimit

    Raises
    ------
    InputError
        If the rows of X are dependent.

    Examples
    --------
    >>> X, y = torch.tensor([[1.0, 2.0]]).double(), torch.ones(1).double()
    >>> found = rich_limit(X, y, [1e2, 1e-4], 1e-12)
    >>> [[round(w, 3) for w in end] for end in found.ends.tolist()]
    [[0.2, 0.4], [0.0, 0.5]]
    """
    options, stages = study_options(options, keywords), as_stages(stages)
    t_end = None if t_end is None else require_positive("t_end", t_end)
    flow = DiagonalFlow(inputs, targets)
    alphas = distinct_positive("scales", scales)
    loss_end = require_positive("loss_end", loss_end)
    sigma = torch.linalg.svdvals(inputs)
    if inputs.shape[0] > inputs.shape[1] or bool(sigma[-1] <= _OFF * sigma[0]):
        raise InputError(
            f"the rows of X must be independent, got {inputs.shape[0]} rows of "
            f"{inputs.shape[1]} inputs; use fewer samples than inputs"
        )
    paths, ends, limits = [], [], []
    for alpha in alphas:
        end = t_end or _LATEST * max(1.0, math.log(1 / alpha))
        path = integrate(
            flow,
            flow.start(log_scale=math.log(alpha)),
            [0.0, end],
            options=options,
            until=loss_reaches(flow, loss_end),
            progress=stages(f"start of {alpha:g}", end),
        )
        paths.append(path)
        ends.append(path.flow.end_to_end(path.ys[-1]))
        limits.append(diagonal_limit(inputs, targets, alpha))
    logs = torch.tensor([math.log(alpha) for alpha in alphas], dtype=torch.float64)
    grid = torch.linspace(float(logs[0]), float(logs[-1]), _CURVE, dtype=torch.float64)
    curve = torch.stack([diagonal_limit(inputs, targets, log_scale=float(x)) for x in grid])
    return RichLimit(
        logs,
        tuple(paths),
        torch.stack(ends),
        torch.stack(limits),
        grid,
        curve,
        least_l1_solution(inputs, targets),
        torch.linalg.pinv(inputs) @ targets,
    )
