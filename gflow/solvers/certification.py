"""Build a certified trajectory from a solved problem."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from gflow.solvers.problem import Problem
from gflow.trajectory import Escape, Stats, Trajectory, attempt, certify
from gflow.trajectory.round_off import product_round_off, round_off_bound, velocity_round_off

_SAMPLES = 33  # states at which rank and signs are measured
_SAMPLES_LARGE, _LARGE = 9, 2000  # of a state with more numbers


def certified_trajectory(
    problem: Problem,
    method: str,
    reason: str,
    error: float | None,
    not_run: tuple[str, ...] = (),
) -> Trajectory:
    """Return the trajectory in a solved problem, with its certificate.

    Parameters
    ----------
    problem : Problem
        Solved, or stopped early.
    method, reason : str
        The method, and why it was chosen.
    error : float, optional
        The relative error of the states, if measured.
    not_run : tuple of str
        Checks that could not run.

    Returns
    -------
    Trajectory
        At the requested times that were reached. If a single start stopped early, its last
        accepted state is appended.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> problem = Problem(flow, y0, [0.0], rtol=1e-6, atol=1e-9)
    >>> certified_trajectory(problem, "tsit5", "requested", None).ts.tolist()
    [0.0]
    """
    count = len(problem.saved)
    reached, states = problem.requested[:count], problem.saved
    if not problem.batch and count < len(problem.ts) and problem.t > problem.ts[count - 1]:
        reached, states = [*reached, problem.flow_time(problem.t)], [*states, problem.y]
    sharpness = problem.sharpness_path
    if sharpness is not None:
        rest = states[len(sharpness.values) :]
        not_run += attempt("sharpness", lambda: [sharpness.add(y) for y in rest])[1]
        unknown = problem.y0.new_full((sharpness.k,), torch.nan)
        sharpness.values += [unknown] * (len(states) - len(sharpness.values))
    main = Counter(problem.main_methods).most_common(1)
    stats = Stats(
        method=main[0][0] if main else method,
        reason=f"{reason}; {problem.remark}" if problem.remark else reason,
        rhs_evals=problem.rhs_evals,
        jvp_evals=0 if sharpness is None else sharpness.products,
        accepted=problem.accepted,
        rejected=problem.rejected,
        wall_seconds=problem.wall_seconds,
    )
    ys = _stacked(states)
    certified, members = _certified_states(problem, ys)
    bound = round_off_bound(problem.promised_rtol, ys.dtype)
    round_off = problem.round_off
    if not round_off > bound:
        found, without = attempt("round_off", lambda: _round_off(problem, ys[:count], bound))
        round_off, not_run = max(round_off, found or 0.0), (*not_run, *without)
    end = max(problem.t, *problem.event_times.values(), 0.0)
    changes, without = attempt("discrete_changes", lambda: discrete_changes(problem))
    not_run += without
    certificate = certify(
        problem.flow if members is None else problem.flow.for_members(members),
        certified,
        rtol=problem.promised_rtol,
        resolution=_select(members, problem.resolution),
        dissipated=None if problem.dissipated is None else _select(members, problem.dissipated),
        largest_rise=_select(members, problem.largest_rise),
        error_estimate=error,
        not_run=not_run,
        round_off=round_off,
        discrete_changes=changes,
        ts=[*reached, problem.flow_time(end)][: len(certified)],
        stops=_stops(problem, members),
    )
    return Trajectory(
        torch.tensor(reached, dtype=torch.float64),
        ys,
        problem.flow,
        stats,
        certificate,
        ends=problem.y,
        event_times={i: problem.flow_time(t) for i, t in problem.event_times.items()},
        failures=problem.failures,
        sharpness=ys.new_empty(len(ys), 0) if sharpness is None else torch.stack(sharpness.values),
    )


def _round_off(problem: Problem, ys: Tensor, bound: float) -> float:
    """Estimate what round-off of the velocity does to the states at the requested times."""
    times = problem.ts[: len(ys)]
    if problem.flow.affine:
        return product_round_off(problem.flow, times, ys, bound)
    before = problem.before
    if before is None and len(problem.visited) > 1:
        before = problem.visited[-2][1]
    return velocity_round_off(problem.flow, times, ys, bound, before=before, rest=problem.rest)


def with_escape(
    path: Trajectory, escape: Escape | None, not_run: tuple[str, ...] = ()
) -> Trajectory:
    """Return a trajectory whose certificate also has what the path amplified.

    Parameters
    ----------
    path : Trajectory
    escape : Escape or None
        What the path amplified, if measured.
    not_run : tuple of str
        The check, if it could not run.

    Returns
    -------
    Trajectory

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> path = gflow.integrate(flow, y0, [0.0, 1.0])
    >>> with_escape(path, Escape(0.0, 0.5, "", 7)).certificate.escape_error
    0.5
    """
    certificate = replace(path.certificate, not_run=(*path.certificate.not_run, *not_run))
    if escape is None:
        return replace(path, certificate=certificate)
    certificate = replace(
        certificate,
        amplification=math.exp(min(escape.gain, 700.0)),
        escape_error=escape.error,
        rest=escape.rest,
    )
    stats = replace(path.stats, certificate_evals=escape.evals)
    return replace(path, stats=stats, certificate=certificate)


def discrete_changes(problem: Problem) -> dict[str, float]:
    """Measure changes of rank and signs along a solved problem, also in its coordinates.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    dict of str to float
        The largest of all members, by name; see `Flow.discrete_changes`.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> discrete_changes(Problem(flow, y0, [0.0], rtol=1e-6, atol=1e-9))["rank"] < 1e-12
    True
    """
    worst: dict[str, float] = {}
    # Modes that were left out on the way are followed step by step.
    followed = any(segment.outside for segment in problem.segments)
    for part in (problem, *problem.segments):
        # At the state where a mode was left out its sign was no longer known.
        last = [part.y] if part.renewed is None else []
        ys, members = _certified_states(part, _stacked([*part.saved, *last]))
        flow = part.flow if members is None else part.flow.for_members(members)
        times = [*part.ts[: len(part.saved)], max(part.t, *part.event_times.values(), 0.0)]
        ts = torch.tensor([*times, *times[-1:]][: len(ys)], dtype=torch.float64)
        samples = _SAMPLES if part.y.numel() <= _LARGE else _SAMPLES_LARGE
        at = torch.linspace(0, len(ys) - 1, min(samples, len(ys))).round().long()
        for name, change in flow.discrete_changes(ts[at], ys[at.to(ys.device)]).items():
            if name != "resolved_rank" or not followed:
                worst[name] = max(worst.get(name, 0.0), float(change.max()))
    if problem.lost or "resolved_rank" in worst or followed:
        worst["resolved_rank"] = max(worst.get("resolved_rank", 0.0), float(problem.lost))
    return worst


def _stacked(states: list[Tensor]) -> Tensor:
    """Return states in one tensor, (T, *state), without a copy where they are in one already."""
    first, size = states[0], states[0].numel()
    memory, begin = first.untyped_storage().data_ptr(), first.storage_offset()
    in_one = len(states) > 1 and all(
        y.untyped_storage().data_ptr() == memory
        and y.storage_offset() == begin + i * size
        and y.is_contiguous()
        for i, y in enumerate(states)
    )
    if not in_one:
        return torch.stack(states)
    return first.as_strided((len(states), *first.shape), (size, *first.stride()))


def _certified_states(problem: Problem, ys: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the states that the certificate covers, and their members (None: all).

    A member that an event stopped keeps its last state; one that failed is excluded,
    unless all failed.
    """
    if not (problem.failures or problem.event_times) or not problem.batch:
        return ys, None
    good = [i for i in range(problem.batch.numel()) if i not in problem.failures]
    members = torch.tensor(good or range(problem.batch.numel()), device=ys.device)
    state = problem.y0.shape[len(problem.batch) :]
    paths = ys.reshape(len(ys), -1, *state)[:, members]
    last = problem.y.reshape(-1, *state)[members]
    return torch.cat([torch.where(torch.isnan(paths), last, paths), last[None]]), members


def _stops(problem: Problem, members: Tensor | None) -> Tensor | None:
    """Return the time at which an event stopped each certified member; None without any."""
    if members is None or not problem.event_times:
        return None
    times = [problem.event_times.get(i, problem.t) for i in members.tolist()]
    return torch.tensor([problem.flow_time(t) for t in times], dtype=torch.float64)


def _select(members: Tensor | None, values: Tensor) -> Tensor:
    return values if members is None else values.reshape(-1)[members]
