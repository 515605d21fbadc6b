"""The error of a path that amplified much, against finer solves with other round-off.

A path can leave a saddle at the wrong time for two reasons. Its solver followed the growing mode
badly: a finer solve shows that. Or the mode was below the round-off of the start, of the velocity
or of the flow's own data, and nothing can know when it left: solves show that whose starts and
velocities differ from those of the path by units of round-off, number by number. A mode along a
coordinate is not changed by that, as a number has relative round-off only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.flows.base import Flow
from gflow.linalg.arrays import to_numpy
from gflow.linalg.blocks import spread
from gflow.solvers.escape import Amplification, amplification
from gflow.solvers.options import SolveOptions
from gflow.solvers.problem import Problem
from gflow.text import brief
from gflow.trajectory import Escape, IntegrationError, Trajectory, relative_error
from gflow.trajectory.certificate import escape_bound

_TIMES, _MOST_TIMES = 30, 1000  # requested times at which a path is checked
_MEMORY = 2**22  # numbers in the states at these times, where there are more than the least
_FACTOR = 4.0  # by which the tolerances of a check are smaller
_RTOL = 1e-5  # the largest of a check
_BUDGET, _LEAST_BUDGET = 2, 500  # evaluations: times ten those of the solve
_ALONE = 8  # members that are solved one by one where their ensemble runs out of its budget
_MISSED = 7.0  # of a gain, where a mode was lost on the way: log of a thousand
_DECIDED = 0.02  # difference of two checks that is more than a contribution of round-off
_CLOSE = 0.1  # of the bound: agreement with two checks that needs no third
_FEW = 32  # numbers in a state, whose random changes may cancel
_BETWEEN, _RATIO = 48, 100.0  # times at which two checks are compared, and their ratio
_APART, _FAR = 1e-4, 1e4  # least distance of times, and largest origin, over the length of the path
_TIMING, _ROUND_OFF_TIMING = 5.0, 1e4  # of rtol, and of eps: error of the time of a jump, and
_RESOLVED = 1e-13  # the least one that times resolve
_LEVEL = 0.1  # of the slope of a jump: beside it
_JUST_BESIDE = "the tolerance does not tell on which side of a jump a requested time is"
_ROUND_OFF_DECIDES = "round-off decides when a saddle is left"

#: solve_again(flow, start, times, options, velocity_factors)
SolveAgain = Callable[[Flow, Tensor, list[float], SolveOptions, Tensor | None], Trajectory]


class _Noise(NamedTuple):
    """What a check changes at random, and how much its error counts."""

    units: float  #: of round-off, in every number of the start and of the velocity
    seed: int
    weight: float


# With one check alone, a path that left by round-off may have left at the same time by chance.
_NOISES = (_Noise(1.0, 0, 1.0), _Noise(16.0, 1, 0.25), _Noise(16.0, 2, 0.25))


def measure_escape(problem: Problem, solve_again: SolveAgain | None) -> Escape:
    """Measure what a path amplified, and the error of its states where that is much.

    Where a growing mode stands still, the error is the size that it should have reached: a finer
    solve would stand still, too. Else a check has up to a unit of round-off more or less in the
    parameters of its start, and that of a parameter flow in its velocity. Where a unit may have
    grown beyond the tolerance, there are one or two with sixteen.

    Parameters
    ----------
    problem : Problem
        Solved.
    solve_again : callable or None
        ``solve_again(flow, start, times, options, velocity_factors)``, a thorough solve by
        ``auto``; None if the error is not wanted. What was amplified is always measured.

    Returns
    -------
    Escape

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.KernelFlow.example()
    >>> problem = Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    >>> measure_escape(problem, None).gain  # no saddle
    0.0
    """
    found = amplification(problem)
    bound = escape_bound(problem.promised_rtol, problem.y0.dtype)
    if found.frozen > bound:
        return Escape(found.gain, found.frozen, found.rest, found.evals)
    if not found.checked or solve_again is None:
        return Escape(found.gain, None, found.rest, found.evals)
    times, ys = _states_to_check(problem)
    parameters = _parameters(problem)
    decides = parameters is not None and _round_off_may_decide(problem, found.gain)
    timing = max(_TIMING * problem.rtol, _ROUND_OFF_TIMING * torch.finfo(ys.dtype).eps)
    beside = _times_beside(times, timing)
    between = _times_between(times) if decides else []
    check_times = sorted({*times, *itertools.chain(*beside), *between})
    requested = [t in times for t in check_times]
    size = _state_size(problem)
    error, evals, rest = 0.0, found.evals, found.rest
    checks: list[Tensor] = []
    for noise in _NOISES if decides else _NOISES[:1]:
        try:
            found_ys, spent = _check(problem, parameters, check_times, noise, solve_again)
        except IntegrationError as stopped:
            return _unchecked(found, stopped.reason, evals + stopped.trajectory.stats.rhs_evals)
        except Exception as raised:  # of any kind, as the flow's operations raise it
            return _unchecked(found, f"{type(raised).__name__}: {brief(raised, str)}", evals)
        evals += spent
        reference = found_ys[requested]
        states = torch.where(torch.isnan(ys), reference, ys)  # of members that an event stopped
        error = max(error, noise.weight * relative_error(problem.flow, states, reference))
        jump = _jump_beside(problem.flow, check_times, found_ys, beside)
        if jump > max(error, bound):
            error, rest = jump, "; ".join(filter(None, (_JUST_BESIDE, rest)))
        if checks:  # a path may leave between requested times
            apart = relative_error(problem.flow, checks[0], found_ys)
            error = max(error, apart if apart > _DECIDED else 0.0)
        if error > bound:
            rest = "; ".join(filter(None, (_ROUND_OFF_DECIDES if checks else "", rest)))
            break
        if checks and error < _CLOSE * bound and size > _FEW:
            break  # so close to both by chance: hardly ever, unless the numbers are few
        checks.append(found_ys)
    return Escape(found.gain, error, rest, evals)


def _times_beside(times: list[float], timing: float) -> list[tuple[float, ...]]:
    """Return for each time but the first: it, two times shortly before it, and one after it.

    A path that left a saddle right to the tolerance left it at a time right to some of it.
    """
    first, last = times[0], times[-1]
    beside: list[tuple[float, ...]] = []
    for t in times[1:]:
        shift = timing * (t - first)
        if shift > _RESOLVED * max(abs(t), abs(first)):
            beside.append((t, t - 0.1 * shift, t - shift, min(t + shift, last)))
    return beside


def _jump_beside(
    flow: Flow, times: list[float], ys: Tensor, beside: list[tuple[float, ...]]
) -> float:
    """Return the largest change beside a time at which agreement proves nothing.

    On both sides of a jump two paths that leave at different times agree; within it they do not.
    """
    if not beside:
        return 0.0
    at = {t: i for i, t in enumerate(times)}
    columns = zip(*beside, strict=True)
    now, *others = (ys[[at[t] for t in column]] for column in columns)

    def change_from(other: Tensor) -> np.ndarray:
        change = flow.relative_distance(now[None], other[None])[0]  # relative to each
        return np.nan_to_num(to_numpy(change), nan=np.inf).reshape(len(now), -1).max(axis=1)

    slope, before, after = map(change_from, others)
    change = np.maximum(before, after)
    return float(change[10 * slope < _LEVEL * change].max(initial=0.0))


def _unchecked(found: Amplification, why: str, evals: int) -> Escape:
    """Return what fails the certificate: what is amplified and not checked does not hold."""
    return Escape(found.gain, math.nan, f"the finer solve stopped: {why}", evals)


def _states_to_check(problem: Problem) -> tuple[list[float], Tensor]:
    """Return some requested times, and that of an event, with the states there."""
    times, states = problem.requested[: len(problem.saved)], list(problem.saved)
    if not problem.batch and problem.t > problem.ts[len(states) - 1]:  # an event's
        times, states = [*times, problem.flow_time(problem.t)], [*states, problem.y]
    # A path may be wrong at one time only, that of a jump.
    most = min(max(_TIMES, _MEMORY // problem.y.numel()), _MOST_TIMES)
    at = spread(len(times), most)
    return [times[i] for i in at], torch.stack([states[i] for i in at])


def _round_off_may_decide(problem: Problem, gain: float) -> bool:
    """Return whether a unit of round-off may have grown beyond the tolerance.

    The gain is an estimate from below: a mode that the estimates lost is missing in it.
    """
    unit = torch.finfo(problem.y0.dtype).eps / problem.rtol
    return gain + _MISSED + math.log(unit) > 0


def _state_size(problem: Problem) -> int:
    """Return how many numbers the state of one member has."""
    return problem.y0.numel() // max(problem.batch.numel(), 1)


def _parameters(problem: Problem) -> Tensor | None:
    """Return the parameters of the start, whose numbers can be changed without a change of rank."""
    try:
        return problem.flow.lift(problem.y0)
    except InputError:  # a reduced flow of the caller's without them
        return None


def _times_between(times: list[float]) -> list[float]:
    """Return log-spaced times, apart from the given ones, that show when a saddle is left.

    A mode of size b leaves at log(1/b)/μ, and takes some 1/μ for it: a tenth of that time or more.
    """
    first, span = times[0], times[-1] - times[0]
    if abs(first) > _FAR * span:  # times so close may not be resolved
        return []
    between = [first + span * _RATIO ** (-i / _BETWEEN) for i in range(1, _BETWEEN)]
    return [t for t in between if min(abs(t - other) for other in times) > _APART * span]


def _check(
    problem: Problem,
    parameters: Tensor | None,
    times: list[float],
    noise: _Noise,
    solve_again: SolveAgain,
) -> tuple[Tensor, int]:
    """Return the states of a solve with smaller tolerances and other round-off, and its price."""
    start, factors = problem.y0, None
    random = torch.Generator().manual_seed(noise.seed)
    if parameters is not None:
        beside = _beside_one(parameters.shape, noise.units, random, parameters)
        start = problem.flow.project(parameters * beside)
    if problem.flow.is_of_parameters:  # the states of a reduced flow keep a rank
        factors = _beside_one(start.shape[len(problem.batch) :], noise.units, random, start)
    options = SolveOptions(
        rtol=problem.rtol,
        atol=problem.atol,
        max_evals=_BUDGET * problem.rhs_evals + _LEAST_BUDGET,
        max_step=problem.max_step,
    ).tighter(max(_FACTOR, problem.rtol / _RTOL))
    size = problem.flow.norm(start)
    if bool((size > 0).any()):  # a check resolves a start that atol does not
        least = float(size[size > 0].min())
        options = options.with_(atol=min(options.atol, options.rtol * least))
    try:
        path = solve_again(problem.flow, start, times, options, factors)
    except IntegrationError as stopped:
        if not _separable(problem):
            raise
        spent = stopped.trajectory.stats.rhs_evals
    else:
        if not path.failures or problem.failures or not _separable(problem):
            return path.ys, path.stats.rhs_evals
        spent = path.stats.rhs_evals
    # An implicit method takes one start only.
    members = start.reshape(-1, *start.shape[len(problem.batch) :])
    flows = [problem.flow.for_members(i) for i in torch.arange(len(members), device=start.device)]
    paths = [
        solve_again(flow, member, times, options, factors)
        for flow, member in zip(flows, members, strict=True)
    ]
    ys = torch.stack([path.ys for path in paths], dim=1)
    return ys.reshape(len(times), *start.shape), spent + sum(p.stats.rhs_evals for p in paths)


def _separable(problem: Problem) -> bool:
    """Return whether the members of an ensemble can be solved one by one."""
    return len(problem.batch) > 0 and problem.batch.numel() <= _ALONE


def _beside_one(shape: torch.Size, units: float, random: torch.Generator, like: Tensor) -> Tensor:
    """Return random numbers that differ from 1 by at most some units of round-off."""
    noise = 2 * torch.rand(shape, generator=random, dtype=torch.float64) - 1
    return (1 + units * torch.finfo(like.dtype).eps * noise).to(like)
