"""`integrate`: the entry point of every solver."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gflow.callbacks import Progress, as_progress
from gflow.checks import shown
from gflow.errors import InputError
from gflow.events import Event
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Flow
from gflow.solvers.options import DEFAULT_OPTIONS, SolveOptions
from gflow.solvers.problem import Save
from gflow.solvers.solve import solve
from gflow.trajectory import Trajectory


def integrate(
    flow: Flow,
    y0: Tensor,
    ts: Tensor | Sequence[float],
    method: str | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    *,
    options: SolveOptions = DEFAULT_OPTIONS,
    step_size: float | None = None,
    dense: bool = False,
    until: Event | None = None,
    estimate_error: bool | None = None,
    sharpness: int = 0,
    max_evals: int | None = None,
    max_step: float | None = None,
    progress: Progress | bool | None = None,
    checkpoint: Save | None = None,
    checkpoint_every: float = 60.0,
    resume: Checkpoint | None = None,
) -> Trajectory:
    """Integrate a flow and certify the path.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
        The start, or an ensemble of starts in leading dimensions. The solve uses
        its dtype and device. With gflow's own methods each member of an ensemble has its own
        steps, and one that fails is named in ``failures`` while the others continue; with
        the libraries' methods all members have common steps and stop together.
    ts : sequence of float, shape (T,)
        Strictly increasing times; the first is the start's. The solver lands on each.
    method : str, optional
        ``auto``, the default; gflow's own ``tsit5``, ``dop853`` (explicit), ``rkc2``, ``rock4``
        (stabilised, for stiff flows), ``bdf`` (implicit); ``exact`` and ``krylov`` where they
        apply; a torchdiffeq method (``dopri5``, ``dopri8``, ``bosh3``, …); or ``scipy:LSODA``,
        ``scipy:BDF``, ``scipy:Radau``, ``scipy:DOP853``. ``auto`` takes the closed form
        where there is one, else starts with an explicit method and switches to an implicit or
        stabilised one where the flow turns out to be stiff.
    rtol, atol : float, optional
        Local error bound ‖e‖₂ ≤ atol + rtol‖y‖₂ (SciPy's methods: its own norm); by default
        1e-6 and 1e-9.
    options : SolveOptions
        Options of the solve that several calls share. ``method``, ``rtol``, ``atol``,
        ``estimate_error``, ``max_evals`` and ``max_step``, if given, take precedence over it.
    step_size : float, optional
        Longest step of the fixed-step methods (``euler``, ``rk4``, …), which require it.
    dense : bool
        Take the states at requested times from dense output instead of ending a step on
        each: cheaper if there are many more times than steps. ``dop853`` computes half a step more
        where its interpolant is less accurate than the step.
    until : callable, optional
        An event: ``until(y)``, of the shape of the ensemble, is positive at first, and the
        solve (of that member) stops where it falls to zero; see `gflow.events`.
    estimate_error : bool, optional
        Where there is no closed form, solve once more at a tenth of the tolerance, landing
        on midpoints too, for ``certificate.error_estimate``. This adds one and a half to two
        times the cost of the solve.
    sharpness : int
        The number of largest eigenvalues of the Hessian to compute at every requested
        time, for the trajectory's ``sharpness``; for one start only. gflow's own stepping
        methods take their spectral radius from there while it is fresh. The products are in
        ``stats.jvp_evals``.
    max_evals : int, optional
        Budget of right-hand side evaluations; by default a million. A solve that makes hardly
        any way at kinks (of ReLU, |x|) stops where the rest would take a tenth of it.
    max_step : float, optional
        The longest step; none by default. For a right-hand side with features that a step may miss.
    progress : callable or bool, optional
        ``progress(t, loss)`` after accepted steps; True shows a bar.
    checkpoint : callable, optional
        ``checkpoint(state)`` with the whole state of the solve, every
        ``checkpoint_every`` seconds.
    checkpoint_every : float
        Seconds between two checkpoints.
    resume : Checkpoint, optional
        Checkpoint to continue from; all other arguments must be those of its solve.

    Returns
    -------
    Trajectory
        With ``dense``, ``until``, ``checkpoint`` and ``resume`` the method must be
        ``auto`` or one of gflow's own that steps.

    Raises
    ------
    InputError
        For input that cannot be integrated.
    IntegrationError
        If the solver stops early; it carries the reason, the last good state and the
        trajectory so far. An error that the flow, the event or a callback raises after
        the first step is its ``__cause__``.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> flow = gflow.EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), depth=3)
    >>> W0 = torch.tensor([[0.1, 0.05], [0.0, 0.1]], dtype=torch.float64)
    >>> traj = gflow.integrate(flow, W0, [0.0, 10.0, 30.0])
    >>> traj.certificate.holds, traj.stats.method
    (True, 'tsit5')
    """
    if not isinstance(options, SolveOptions):
        raise InputError(
            f"options must be SolveOptions, got {shown(options)}; write gflow.SolveOptions(...), "
            "or pass method, rtol and the others as keywords"
        )
    keywords: dict[str, Any] = {
        "method": method,
        "rtol": rtol,
        "atol": atol,
        "max_evals": max_evals,
        "max_step": max_step,
        "estimate_error": estimate_error,
    }
    given = {name: value for name, value in keywords.items() if value is not None}
    return solve(
        flow,
        y0,
        ts,
        dataclasses.replace(options, **given),
        step_size=step_size,
        dense=dense,
        event=until,
        sharpness=sharpness,
        progress=as_progress(progress, t_end=_last(ts) if progress is True else None),
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        resume=resume,
    ).trajectory


def _last(ts: Tensor | Sequence[float]) -> float | None:
    """Return the last time; None where the times are refused later on."""
    try:
        return float(ts[-1])
    except (TypeError, ValueError, LookupError, RuntimeError):
        return None
