"""`integrate`: the one way into every solver."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import itertools
import math
import pkgutil
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.errors import InputError
from gflow.events import Event
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Flow
from gflow.solvers.base import Solver, Stepper
from gflow.solvers.bdf import BDF
from gflow.solvers.explicit import Dop853, Tsit5
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.solvers.problem import Problem, Save, Stop
from gflow.solvers.resumable import solve_resumable
from gflow.solvers.rkc2 import RKC2
from gflow.trajectory import IntegrationError, Stats, Trajectory, certify, relative_error

_TIGHT = 1e-8  # from this tolerance on, the order-8 method needs fewer evaluations


@functools.cache
def methods() -> dict[str, Solver]:
    """Every method by name, found in the files of ``gflow/solvers``.

    Examples
    --------
    >>> sorted(methods())[:4]
    ['adaptive_heun', 'bdf', 'bosh3', 'dop853']
    """
    found: dict[str, Solver] = {}
    package = importlib.import_module("gflow.solvers")
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"gflow.solvers.{info.name}")
        for value in vars(module).values():
            if not isinstance(value, type) or inspect.isabstract(value):
                continue
            if issubclass(value, Stepper) and value.name:
                found.setdefault(value.name, SteppedSolver(value()))
            elif issubclass(value, BDF):
                found[value.name] = SteppedSolver(Tsit5(), value(), starter=True)
            elif issubclass(value, Solver) and value is not SteppedSolver:
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
    dense: bool = False,
    until: Event | None = None,
    estimate_error: bool = False,
    sharpness: int = 0,
    max_evals: int = 1_000_000,
    progress: Progress | None = None,
    checkpoint: Save | None = None,
    checkpoint_every: float = 60.0,
    resume: Checkpoint | None = None,
) -> Trajectory:
    """Integrate a flow and certify the path.

    Parameters
    ----------
    flow : Flow
    y0 : Tensor, shape (..., *state)
        The start, or an ensemble of starts in leading dimensions. Its dtype and device
        are the solve's. Of gflow's own methods each member of an ensemble has its own
        steps, and one that fails is named in ``failures`` while the others go on; of the
        libraries' methods all have common steps and stop together.
    ts : sequence of float, shape (T,)
        Strictly increasing times; the first is the start's. Every one is landed on.
    method : str
        ``auto``; gflow's own ``tsit5``, ``dop853`` (explicit), ``rkc2``, ``rock4``
        (stabilised, for stiff flows); ``exact`` and ``krylov`` where they apply; a
        torchdiffeq method (``dopri5``, ``dopri8``, ``bosh3``, …); or ``scipy:LSODA``,
        ``scipy:BDF``, ``scipy:Radau``, ``scipy:DOP853``. ``auto`` takes the closed form
        where there is one, else starts with an explicit method and hands over to a
        stabilised one where the flow turns out to be stiff.
    rtol, atol : float
        Local error bound ‖e‖₂ ≤ atol + rtol‖y‖₂ (SciPy's methods: its own norm).
    step_size : float, optional
        Longest step of the fixed-step methods (``euler``, ``rk4``, …), which need it.
    dense : bool
        Take the states at requested times from dense output instead of ending a step on
        each: cheaper where there are many more times than steps.
    until : callable, optional
        An event: ``until(y)``, of the shape of the ensemble, is positive at first, and the
        solve (of that member) stops where it falls to zero; see `gflow.events`.
    estimate_error : bool
        Where there is no closed form, solve once more at a tenth of the tolerance, landing
        on midpoints too, for ``certificate.error_estimate``; one and a half to two times
        the price of the solve on top of it.
    sharpness : int
        Of one start, how many of the Hessian's largest eigenvalues to find at every requested
        time, for the trajectory's ``sharpness``. gflow's own stepping methods take their
        spectral radius from there while it is fresh. The products are in ``stats.jvp_evals``.
    max_evals : int
        Budget of right-hand side evaluations.
    progress : callable, optional
        ``progress(t, loss)`` after accepted steps.
    checkpoint : callable, optional
        ``checkpoint(state)`` with the whole state of the solve, every
        ``checkpoint_every`` seconds.
    resume : Checkpoint, optional
        Go on from there; all else must be as in the solve it was taken from.

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
        trajectory so far.

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
    times = _check_times(ts)
    flow.check_state(y0)
    y0 = y0.detach()
    _check_tolerances(flow, y0, rtol, atol)
    if max_evals < 1:
        raise InputError(f"max_evals must be at least 1, got {max_evals}")
    _check_sharpness(flow, y0, sharpness)
    flow = flow.for_start(y0)
    stepping = dense or any(x is not None for x in (until, checkpoint, resume))
    with torch.no_grad():
        solver, name, reason = _choose(flow, y0, method, rtol, step_size, stepping)
        problem = Problem(
            flow,
            y0,
            times,
            rtol=rtol,
            atol=atol,
            step_size=step_size,
            max_evals=max_evals,
            dense=dense,
            event=until,
            sharpness=sharpness,
            progress=progress,
            resume=resume,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
        )
        try:
            problem.require_finite(flow.loss(y0))
            if len(times) > 1:
                solve_resumable(solver, problem, name, steps=isinstance(solver, SteppedSolver))
            early = problem.failures or problem.event_times
            if len(problem.saved) < len(times) and not early:
                raise Stop(f"{name} did not land on t = {problem.next_time:g}")
        except Stop as stop:
            path = _finish(problem, name, reason, None)
            raise IntegrationError(
                str(stop), problem.t, problem.y, path, problem.last_checkpoint
            ) from None
        error = None
        whole = not problem.failures and not problem.event_times
        numerical = name not in ("exact", "krylov")
        if whole and numerical and (estimate_error or flow.closed_form(y0) is not None):
            truth = better_states(
                flow,
                y0,
                times,
                method,
                rtol,
                atol,
                step_size=step_size,
                max_evals=10 * max_evals,
                progress=progress,
            )
            error = relative_error(flow, torch.stack(problem.saved), truth)
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
    reached, states = problem.ts[: len(problem.saved)], problem.saved
    if not problem.batch and len(reached) < len(problem.ts) and problem.t > reached[-1]:
        reached, states = [*reached, problem.t], [*states, problem.y]
    sharpness = problem.sharpness
    if sharpness is not None:
        for y in states[len(sharpness.values) :]:
            sharpness.add(y)
    stats = Stats(
        method=method,
        reason=f"{reason}; {problem.remark}" if problem.remark else reason,
        rhs_evals=problem.rhs_evals,
        jvp_evals=0 if sharpness is None else sharpness.products,
        accepted=problem.accepted,
        rejected=problem.rejected,
        wall_seconds=problem.wall_seconds,
    )
    ys = torch.stack(states)
    certified, kept = _to_certify(problem, ys)
    certificate = certify(
        problem.flow if kept is None else problem.flow.of_members(kept),
        certified,
        rtol=problem.rtol,
        resolution=_of(kept, problem.resolution),
        dissipated=None if problem.dissipated is None else _of(kept, problem.dissipated),
        largest_rise=_of(kept, problem.largest_rise),
        error_estimate=error,
    )
    return Trajectory(
        torch.tensor(reached, dtype=torch.float64),
        ys,
        problem.flow,
        stats,
        certificate,
        ends=problem.y,
        event_times=problem.event_times,
        failures=problem.failures,
        sharpness=ys.new_empty(len(ys), 0) if sharpness is None else torch.stack(sharpness.values),
    )


def _to_certify(problem: Problem, ys: Tensor) -> tuple[Tensor, Tensor | None]:
    """The states that the certificate speaks for, and of which members (None: of all).

    A member that an event stopped stays where it ended; one that failed is left out,
    unless all did.
    """
    if not (problem.failures or problem.event_times) or not problem.batch:
        return ys, None
    good = [i for i in range(problem.batch.numel()) if i not in problem.failures]
    kept = torch.tensor(good or range(problem.batch.numel()), device=ys.device)
    state = problem.y0.shape[len(problem.batch) :]
    paths = ys.reshape(len(ys), -1, *state)[:, kept]
    last = problem.y.reshape(-1, *state)[kept]
    return torch.cat([torch.where(torch.isnan(paths), last, paths), last[None]]), kept


def _of(kept: Tensor | None, values: Tensor) -> Tensor:
    return values if kept is None else values.reshape(-1)[kept]


def _choose(
    flow: Flow, y0: Tensor, method: str, rtol: float, step_size: float | None, stepping: bool
) -> tuple[Solver, str, str]:
    """The solver, the name of its method, and why it was chosen."""
    known = methods()
    if method == "auto":
        return _automatic(flow, y0, rtol, stepping)
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
    if stepping and not isinstance(known[method], SteppedSolver):
        own = ", ".join(n for n, solver in known.items() if isinstance(solver, SteppedSolver))
        raise InputError(
            "dense output, events and checkpoints need one of gflow's own stepping methods, "
            f"got '{method}'; choose auto, {own}"
        )
    return known[method], method, "asked for"


def _automatic(flow: Flow, y0: Tensor, rtol: float, stepping: bool) -> tuple[Solver, str, str]:
    """What `auto` runs."""
    closed = flow.closed_form(y0)
    if closed is not None and not stepping:
        return methods()["exact"], "exact", f"auto: closed form ({closed})"
    if flow.affine and not stepping:
        return methods()["krylov"], "krylov", "auto: affine in the state; too large to decompose"
    explicit = Dop853() if rtol <= _TIGHT else Tsit5()
    solver = SteppedSolver(explicit, BDF(), RKC2())
    if flow.batch_shape(y0):
        solver = solver.for_ensembles() or solver
    why = "steps are asked for" if closed is not None else "no closed form from this start"
    names = " or ".join(method.name for method in solver.methods[1:])
    reason = f"auto: {why}; {explicit.name}, and {names} where stiff, for rtol {rtol:g}"
    return solver, explicit.name, reason


def _check_times(ts: Tensor | Sequence[float]) -> list[float]:
    times = [float(t) for t in ts]
    if not times:
        raise InputError("ts must hold at least one time, got none")
    if not all(math.isfinite(t) for t in times):
        raise InputError("ts must be finite, got NaN or infinity")
    if any(b <= a for a, b in itertools.pairwise(times)):
        raise InputError("ts must be strictly increasing; sort it and remove repeated times")
    return times


def _check_sharpness(flow: Flow, y0: Tensor, sharpness: int) -> None:
    if not isinstance(sharpness, int) or sharpness < 0:
        raise InputError(f"sharpness must be how many eigenvalues to find, got {sharpness}")
    if sharpness and flow.batch_shape(y0):
        raise InputError(
            "sharpness is measured along one start, got an ensemble of "
            f"{tuple(flow.batch_shape(y0))}; integrate a start at a time"
        )


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
