"""Ensembles across runs: solves and descents of one flow from many starts, done as one.

Where states are small, a step of an ensemble costs little more than a step of one member, so that
many starts take a fraction of the time. Each member of a solve has its own steps, error control and
requested times: its path equals that of an individual solve to the tolerance, and to round-off
where both take the same steps.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gflow.callbacks import Progress
from gflow.descent import DescentRecord, DescentRequest, serve_descent
from gflow.execution.checkpointing import Checkpoint
from gflow.flows.base import Flow
from gflow.losses import Loss
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.solvers.problem import STIFF, Problem, Stop
from gflow.solvers.resumable import SolveRequest, solve_resumable

#: Size of a state beyond which an ensemble gains little (`benchmarks/ensembles_of_runs.py`).
MAX_STATE_SIZE = 4_000
#: Number of members from which an ensemble by rock4 is about as fast as bdf on each, or faster.
MIN_ROCK4_MEMBERS = 8
#: Errors of an ensemble that its members may not have alone: memory, or a batched routine.
_ENSEMBLE_ERRORS = (MemoryError, RuntimeError)

Request: TypeAlias = SolveRequest | DescentRequest
#: None where the run computes the answer itself.
Answer: TypeAlias = Checkpoint | DescentRecord | None


class Ensembles:
    """Serves the requests of runs in lockstep (`gflow.execution.batching`) as ensembles.

    Solved individually, by the runs themselves: requests without a match, large states, methods
    that take one start at a time, members that fail or diverge, and, where the ensemble is small,
    members that become stiff (bdf on each is faster then).

    Parameters
    ----------
    progress : callable, optional
        As in `gflow.integrate`, of the ensembles.
    """

    def __init__(self, progress: Progress | None = None):
        self._progress = progress
        self._stiff = False  # a member of a small ensemble became stiff: later solves will, too

    def serve(self, requests: Sequence[Request]) -> list[Answer]:
        """Return the answer to each request."""
        answers: list[Answer] = [None] * len(requests)
        with torch.no_grad():
            for group in _compatible_groups(requests):
                solves = isinstance(requests[group[0]], SolveRequest)
                serve = self._solve if solves else self._descend
                for i, answer in zip(group, serve([requests[i] for i in group]), strict=True):
                    answers[i] = answer
        return answers

    def _solve(self, requests: Sequence[Any]) -> Sequence[Answer]:
        """Solve compatible problems as one ensemble."""
        problems, solver = [request.problem for request in requests], requests[0].solver
        ensemble_solver, others, first = solver.for_ensembles(), len(requests) - 1, problems[0]
        rock4_for_bdf = ensemble_solver.names != solver.names
        small = rock4_for_bdf and len(requests) < MIN_ROCK4_MEMBERS
        if small and self._stiff:
            return [None] * len(requests)
        ensemble = Problem(
            first.flow,
            torch.stack([problem.y0 for problem in problems]),
            first.requested,
            member_ts=[problem.requested for problem in problems],
            fail_if_stiff=small,
            rtol=first.rtol,
            atol=first.atol,
            max_evals=first.max_evals,
            max_step=first.max_step,
            progress=self._progress,
        )
        try:
            solve_resumable(ensemble_solver, ensemble, requests[0].name, steps=True)
        except _ENSEMBLE_ERRORS:
            return [None] * len(requests)
        except Stop:  # all members failed: each raises its own error when it is solved alone
            pass
        self._stiff |= any(STIFF in reason for reason in ensemble.failures.values())
        remark = f"solved in one ensemble with {others} other {'run' if others == 1 else 'runs'}"
        remark += ", rock4 for bdf" if rock4_for_bdf and not small else ""
        return [
            None
            if i in ensemble.failures
            else _member_checkpoint(ensemble, i, len(problem.ts), remark)
            for i, problem in enumerate(problems)
        ]

    def _descend(self, requests: Sequence[Any]) -> Sequence[Answer]:
        """Compute compatible descents as one ensemble."""
        starts = torch.stack([request.start for request in requests])
        try:
            record = serve_descent(requests[0]._replace(start=starts), self._progress)
        except _ENSEMBLE_ERRORS:
            return [None] * len(requests)
        states = record.values["parameters"]
        return [
            # A descent that diverged is repeated alone, where it stops at its divergence.
            None
            if diverged_at is not None
            else DescentRecord(record.steps, {"parameters": states[:, i]}, [diverged_at])
            for i, diverged_at in enumerate(record.diverged_at)
        ]


def can_batch(request: Request) -> bool:
    """Return whether a solve or a descent may be a member of an ensemble."""
    if isinstance(request, DescentRequest):
        return request.start.numel() <= MAX_STATE_SIZE and not request.batch
    problem, solver = request.problem, request.solver
    return (
        isinstance(solver, SteppedSolver)
        and solver.for_ensembles() is not None
        and not problem.batch
        and problem.size <= MAX_STATE_SIZE
        and not problem.dense
        and problem.event is problem.sharpness_path is problem.resume is problem.checkpoint is None
    )


def _compatible_groups(requests: Sequence[Request]) -> list[list[int]]:
    """Return the indices of compatible requests, in groups of at least two."""
    groups = []
    remaining = [i for i, request in enumerate(requests) if can_batch(request)]
    while remaining:
        first = requests[remaining[0]]
        group = [i for i in remaining if _compatible(first, requests[i])]
        remaining = [i for i in remaining if i not in group]
        if len(group) > 1:
            groups.append(group)
    return groups


def _compatible(a: Request, b: Request) -> bool:
    """Whether two solves differ only in start and times, or two descents only in their start."""
    if isinstance(a, DescentRequest) and isinstance(b, DescentRequest):
        return a[2:] == b[2:] and _same_layout(a.start, b.start) and equal(a.flow, b.flow)
    if isinstance(a, DescentRequest) or isinstance(b, DescentRequest):
        return False
    p, q = a.problem, b.problem
    return (
        (a.name, a.solver.names) == (b.name, b.solver.names)
        and (p.rtol, p.atol, p.max_evals, p.max_step, p.origin)
        == (q.rtol, q.atol, q.max_evals, q.max_step, q.origin)
        and _same_layout(p.y0, q.y0)
        and equal(p.flow, q.flow)
    )


def _same_layout(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)


def equal(a: Any, b: Any) -> bool:
    """Return whether two flows, losses or values are equal in every number.

    Parameters
    ----------
    a, b : Flow, Loss, Tensor, dict, tuple, list or plain value
        Objects of other types are equal only if they are identical.

    Returns
    -------
    bool

    Examples
    --------
    >>> from gflow.flows import EndToEndFlow
    >>> equal(EndToEndFlow.example()[0], EndToEndFlow.example()[0])
    True
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return _same_layout(a, b) and torch.equal(a, b)
    if isinstance(a, Flow | Loss):
        return equal(_uncached_attributes(a), _uncached_attributes(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(equal, a, b))
    return isinstance(a, int | float | str | torch.device | torch.dtype) and a == b


def _uncached_attributes(a: Flow | Loss) -> dict[str, Any]:
    """Return the instance attributes that are not cached properties."""
    static = functools.partial(inspect.getattr_static, type(a), default=None)
    cached = functools.cached_property
    return {k: v for k, v in vars(a).items() if not isinstance(static(k), cached)}


def _member_checkpoint(ensemble: Problem, i: int, times: int, remark: str) -> Checkpoint:
    """Return the results of member ``i`` at its first ``times`` times, as an individual solve's."""
    tensors = {
        "y": ensemble.y[i],
        "y_norm": ensemble.y_norm[i],
        "largest_rise": ensemble.largest_rise[i],
        "saved": torch.stack([states[i] for states in ensemble.saved[:times]]),
    }
    if ensemble.dissipated is not None:
        tensors["dissipated"] = ensemble.dissipated[i]
    if ensemble.gain is not None:
        tensors["gain"] = torch.from_numpy(ensemble.gain[i : i + 1])
    if ensemble.rest is not None:
        tensors["rest"] = torch.from_numpy(ensemble.rest[i : i + 1])
    counts = (0, 0, 0) if ensemble.spent is None else ensemble.spent[:, i].tolist()
    evals, accepted, rejected = counts
    return Checkpoint(
        tensors={name: value.clone() for name, value in tensors.items()},
        meta={
            "t": ensemble.member_ts[i][-1] if ensemble.member_ts else ensemble.t,
            "rhs_evals": evals,
            "accepted": accepted,
            "rejected": rejected,
            "remark": remark,
            "main_methods": ensemble.main_methods[i : i + 1],
            "round_off": 0.0,
            "lost": False,
            "products": 0,
            "visited": [ensemble.ts[0]],
            "failures": [],
            "event_times": [],
            "seconds": ensemble.wall_seconds * evals / max(1, ensemble.rhs_evals),
            "stopped": None,
            "carried": None,
        },
    )
