"""`integrate`: the one way into every solver."""

from __future__ import annotations

import difflib
import functools
import importlib
import itertools
import math
import pkgutil
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from gflow.errors import InputError, IntegrationError
from gflow.flows.base import Flow
from gflow.solvers.base import Problem, Progress, Solver, Stop
from gflow.trajectory import Stats, Trajectory, certify, relative_error

_TIGHT = 1e-8  # from this tolerance on, the order-8 method needs fewer evaluations


@functools.cache
def methods() -> dict[str, Solver]:
    """Every method by name, found in the files of ``gflow/solvers``.

    Examples
    --------
    >>> sorted(methods())[:4]
    ['adaptive_heun', 'bosh3', 'dopri5', 'dopri8']
    """
    found: dict[str, Solver] = {}
    package = importlib.import_module("gflow.solvers")
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"gflow.solvers.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Solver) and value is not Solver:
                found |= {name: value() for name in value.names if name not in found}
    return found


def integrate(
    flow: Flow,
    y0: Tensor,
    ts: Tensor | Sequence[float],
    method: str = "auto",
    rtol: float = 1e-6,
    atol: float = 1e-9,
    *,
    step_size: float | None = None,
    estimate_error: bool = False,
    max_evals: int = 1_000_000,
    progress: Progress | None = None,
) -> Trajectory:
    """Integrate a flow and certify the path.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
        The start, or an ensemble of starts in leading dimensions (integrated as one
        system with common steps). Its dtype and device are the solve's.
    ts : sequence of float, shape (T,)
        Strictly increasing times; the first is the start's. Every one is landed on.
    method : str
        ``auto``, ``exact``, ``rkc2`` (stabilised, for stiff flows), a torchdiffeq method
        (``dopri5``, ``dopri8``, ``bosh3``, …) or ``scipy:LSODA``, ``scipy:BDF``,
        ``scipy:Radau``, ``scipy:DOP853``. ``auto`` takes the closed form where there is
        one, else dopri5, or dopri8 for rtol ≤ 1e-8.
    rtol, atol : float
        Local error bound ‖e‖₂ ≤ atol + rtol‖y‖₂ (SciPy's methods: its own norm).
    step_size : float, optional
        Longest step of the fixed-step methods (``euler``, ``rk4``, …), which need it.
    estimate_error : bool
        Where there is no closed form, solve once more at a tenth of the tolerance, landing
        on midpoints too, for ``certificate.error_estimate``; one and a half to two times
        the price of the solve on top of it.
    max_evals : int
        Budget of right-hand side evaluations.
    progress : callable, optional
        ``progress(t, loss)`` after accepted steps.

    Returns
    -------
    Trajectory

    Raises
    ------
    InputError
        For input that cannot be integrated.
    IntegrationError
        If the solver stops early; it carries the reason, the last good state and the
        trajectory so far.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> flow = gflow.EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), depth=3)
    >>> W0 = torch.tensor([[0.1, 0.05], [0.0, 0.1]], dtype=torch.float64)
    >>> traj = gflow.integrate(flow, W0, [0.0, 10.0, 30.0])
    >>> traj.certificate.holds, traj.stats.method
    (True, 'dopri5')
    """
    times = _check_times(ts)
    flow.check_state(y0)
    y0 = y0.detach()
    _check_tolerances(flow, y0, rtol, atol)
    if max_evals < 1:
        raise InputError(f"max_evals must be at least 1, got {max_evals}")
    flow = flow.for_start(y0)
    with torch.no_grad():
        name, reason = _choose(flow, y0, method, rtol, step_size)
        problem = Problem(
            flow,
            y0,
            times,
            rtol=rtol,
            atol=atol,
            step_size=step_size,
            max_evals=max_evals,
            progress=progress,
        )
        try:
            problem.require_finite(flow.loss(y0))
            if len(times) > 1:
                methods()[name].solve(problem, name)
            if len(problem.saved) < len(times):
                raise Stop(f"{name} did not land on t = {problem.next_time:g}")
        except Stop as stop:
            path = _finish(problem, name, reason, None)
            raise IntegrationError(str(stop), problem.t, problem.y, path) from None
        error = None
        ys = torch.stack(problem.saved)
        if name != "exact" and (estimate_error or flow.closed_form(y0) is not None):
            truth = better_states(
                flow,
                y0,
                times,
                name,
                rtol,
                atol,
                step_size=step_size,
                max_evals=10 * max_evals,
                progress=progress,
            )
            error = relative_error(flow, ys, truth)
        return _finish(problem, name, reason, error)


def better_states(
    flow: Flow,
    y0: Tensor,
    times: Sequence[float],
    method: str,
    rtol: float,
    atol: float,
    *,
    step_size: float | None = None,
    max_evals: int = 1_000_000,
    progress: Progress | None = None,
) -> Tensor:
    """States to measure a solve's error against, shape (T, *y0.shape).

    By the closed form where there is one, else by a second solve at a tenth of the
    tolerance. That one lands on the midpoints too, so that it differs even where the
    requested times alone set the steps.
    """
    if flow.closed_form(y0) is not None:
        return flow.exact(torch.tensor(times, dtype=torch.float64, device=y0.device) - times[0], y0)
    between = [0.5 * (a + b) for a, b in itertools.pairwise(times)]
    finer = integrate(
        flow,
        y0,
        sorted({*times, *between}),
        method,
        max(rtol / 10, _smallest_rtol(y0)),
        atol / 10,
        step_size=None if step_size is None else step_size / 2,
        max_evals=max_evals,
        progress=progress,
    )
    wanted = set(times)
    return finer.ys[[t in wanted for t in finer.ts.tolist()]]


def _finish(problem: Problem, method: str, reason: str, error: float | None) -> Trajectory:
    stats = Stats(
        method=method,
        reason=reason,
        rhs_evals=problem.rhs_evals,
        jvp_evals=0,
        accepted=problem.accepted,
        rejected=problem.rejected,
        wall_seconds=problem.wall_seconds,
    )
    reached, states = problem.ts[: len(problem.saved)], problem.saved
    if len(reached) < len(problem.ts) and problem.t > reached[-1]:
        reached, states = [*reached, problem.t], [*states, problem.y]
    ys = torch.stack(states)
    certificate = certify(
        problem.flow,
        ys,
        rtol=problem.rtol,
        resolution=problem.resolution,
        dissipated=problem.dissipated,
        largest_rise=problem.largest_rise,
        error_estimate=error,
    )
    return Trajectory(
        torch.tensor(reached, dtype=torch.float64), ys, problem.flow, stats, certificate
    )


def _choose(
    flow: Flow, y0: Tensor, method: str, rtol: float, step_size: float | None
) -> tuple[str, str]:
    """The method to run and why."""
    if method == "auto":
        closed = flow.closed_form(y0)
        if closed is not None:
            return "exact", f"auto: closed form ({closed})"
        if rtol <= _TIGHT:
            return "dopri8", f"auto: no closed form from this start; order 8 for rtol {rtol:g}"
        return "dopri5", f"auto: no closed form from this start; order 5 for rtol {rtol:g}"
    known = methods()
    if method not in known:
        close = difflib.get_close_matches(method, known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise InputError(f"method must be auto, {', '.join(known)}, got '{method}'{hint}")
    if method in known[method].fixed_step and not (
        step_size is not None and math.isfinite(step_size) and step_size > 0
    ):
        raise InputError(
            f"method '{method}' takes fixed steps: pass step_size to gflow.integrate, "
            f"got {step_size}; or choose an adaptive method, such as dopri5"
        )
    return method, "asked for"


def _check_times(ts: Tensor | Sequence[float]) -> list[float]:
    times = [float(t) for t in ts]
    if not times:
        raise InputError("ts must hold at least one time, got none")
    if not all(math.isfinite(t) for t in times):
        raise InputError("ts must be finite, got NaN or infinity")
    if any(b <= a for a, b in itertools.pairwise(times)):
        raise InputError("ts must be strictly increasing; sort it and remove repeated times")
    return times


def _smallest_rtol(y0: Tensor) -> float:
    return 4 * torch.finfo(y0.dtype).eps


def _check_tolerances(flow: Flow, y0: Tensor, rtol: float, atol: float) -> None:
    if not (math.isfinite(rtol) and rtol > 0) or not (math.isfinite(atol) and atol >= 0):
        raise InputError(f"rtol must be positive and atol at least 0, got {rtol} and {atol}")
    if rtol < _smallest_rtol(y0):
        dtype = str(y0.dtype).removeprefix("torch.")
        raise InputError(
            f"{dtype} cannot reach rtol = {rtol:g}; use rtol ≥ {_smallest_rtol(y0):.1e}"
            + (" or float64" if y0.dtype != torch.float64 else "")
        )
    size = float(flow.norm(y0).min())
    if size > 0 and atol > 0.01 * size:
        warnings.warn(
            f"atol = {atol:g} is not small against the start (norm {size:.2g}): the time it takes "
            "to leave a small start may be wrong; lower atol",
            stacklevel=3,
        )
