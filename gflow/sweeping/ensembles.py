"""Solves and descents of one flow from many starts as one ensemble, for runs side by side.

An ensemble's step costs little more than one member's where states are small, so that many
starts take a fraction of the time. In a solve each member keeps its own steps, error control and
requested times: it finds what a solve of its own does, to the tolerance, and where both take the
same steps to round-off.
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

#: Numbers in a state beyond which little or nothing is gained (`benchmarks/ensembles_of_runs.py`).
LARGEST = 4_000
#: Members from which on rock4 in an ensemble is about as fast as bdf on each of them, or faster.
MANY = 8
#: What an ensemble may raise where one start does not: no memory, or a routine that fails on many.
_TOO_MUCH = (MemoryError, RuntimeError)

#: What may be asked, and what came of it; None for what is left to be done alone.
Request: TypeAlias = SolveRequest | DescentRequest
Answer: TypeAlias = Checkpoint | DescentRecord | None


class Ensembles:
    """Serves runs in lockstep (`gflow.execution.batching`): solves and descents that fit, as one.

    Left to be done alone is what nothing else fits, a state too large, a method that takes one
    start at a time, and a member of an ensemble that failed or diverged, or that became stiff as
    one of few: bdf alone is faster then.

    Parameters
    ----------
    progress : callable, optional
        As in `gflow.integrate`, of the ensembles.
    """

    def __init__(self, progress: Progress | None = None):
        self._progress = progress
        self._stiff = False  # whether a member of few became stiff: the next ones will, too

    def serve(self, requests: Sequence[Request]) -> list[Answer]:
        """What came of each."""
        answers: list[Answer] = [None] * len(requests)
        with torch.no_grad():
            for group in _groups(requests):
                work = (
                    self._solve if isinstance(requests[group[0]], SolveRequest) else self._descend
                )
                for i, answer in zip(group, work([requests[i] for i in group]), strict=True):
                    answers[i] = answer
        return answers

    def _solve(self, requests: Sequence[Any]) -> Sequence[Answer]:
        """Solve problems that fit in one; what each of them would have found."""
        problems, solver = [request.problem for request in requests], requests[0].solver
        many, others, first = solver.for_ensembles(), len(requests) - 1, problems[0]
        swapped = many.names != solver.names  # rock4 for bdf
        few = swapped and len(requests) < MANY
        if few and self._stiff:
            return [None] * len(requests)
        whole = Problem(
            first.flow,
            torch.stack([problem.y0 for problem in problems]),
            first.ts,
            own_ts=[problem.ts for problem in problems],
            leave_stiff=few,
            rtol=first.rtol,
            atol=first.atol,
            max_evals=first.max_evals,
            progress=self._progress,
        )
        try:
            solve_resumable(many, whole, requests[0].name, steps=True)
        except _TOO_MUCH:
            return [None] * len(requests)
        except Stop:  # of all members: each says why on its own
            pass
        self._stiff |= any(STIFF in why for why in whole.failures.values())
        remark = f"solved in one ensemble with {others} other {'run' if others == 1 else 'runs'}"
        remark += ", rock4 for bdf" if swapped and not few else ""
        return [
            None if i in whole.failures else _results_of(whole, i, len(problem.ts), remark)
            for i, problem in enumerate(problems)
        ]

    def _descend(self, requests: Sequence[Any]) -> Sequence[Answer]:
        """Descend from starts that fit in one; what was saved of each."""
        whole = requests[0]._replace(start=torch.stack([request.start for request in requests]))
        try:
            found = serve_descent(whole, self._progress)
        except _TOO_MUCH:
            return [None] * len(requests)
        states = found.values["parameters"]
        return [
            # One that diverged stops there when it is alone.
            None
            if at is not None
            else DescentRecord(found.steps, {"parameters": states[:, i]}, [at])
            for i, at in enumerate(found.diverged_at)
        ]


def can_batch(request: Request) -> bool:
    """Whether a solve or a descent may be a member of an ensemble."""
    if isinstance(request, DescentRequest):
        return request.start.numel() <= LARGEST and not request.batch
    problem, solver = request.problem, request.solver
    return (
        isinstance(solver, SteppedSolver)
        and solver.for_ensembles() is not None
        and not problem.batch
        and problem.size <= LARGEST
        and not problem.dense
        and problem.event is problem.sharpness is problem.resume is problem.checkpoint is None
    )


def _groups(requests: Sequence[Request]) -> list[list[int]]:
    """Where those stand that fit each other, in groups of at least two."""
    groups = []
    left = [i for i, request in enumerate(requests) if can_batch(request)]
    while left:
        group = [i for i in left if _fit(requests[left[0]], requests[i])]
        left = [i for i in left if i not in group]
        if len(group) > 1:
            groups.append(group)
    return groups


def _fit(a: Request, b: Request) -> bool:
    """Whether two solves differ in nothing but start and times, two descents in their start."""
    if isinstance(a, DescentRequest) and isinstance(b, DescentRequest):
        return a[2:] == b[2:] and _alike(a.start, b.start) and same(a.flow, b.flow)
    if isinstance(a, DescentRequest) or isinstance(b, DescentRequest):
        return False
    p, q = a.problem, b.problem
    return (
        (a.name, a.solver.names) == (b.name, b.solver.names)
        and (p.rtol, p.atol, p.max_evals, p.ts[0]) == (q.rtol, q.atol, q.max_evals, q.ts[0])
        and _alike(p.y0, q.y0)
        and same(p.flow, q.flow)
    )


def _alike(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)


def same(a: Any, b: Any) -> bool:
    """Whether two flows, or what they are made of, are equal in every number.

    What is not a flow, a loss, a tensor or a plain value is the same only as itself.

    Examples
    --------
    >>> from gflow.flows import EndToEndFlow
    >>> same(EndToEndFlow.example()[0], EndToEndFlow.example()[0])
    True
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return _alike(a, b) and torch.equal(a, b)
    if isinstance(a, Flow | Loss):
        return same(_given(a), _given(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, int | float | str | torch.device | torch.dtype) and a == b


def _given(a: Flow | Loss) -> dict[str, Any]:
    """What it is made of, without what it has worked out from that so far."""
    static = functools.partial(inspect.getattr_static, type(a), default=None)
    worked_out = functools.cached_property
    return {k: v for k, v in vars(a).items() if not isinstance(static(k), worked_out)}


def _results_of(whole: Problem, i: int, times: int, remark: str) -> Checkpoint:
    """The results of one member, of so many times."""
    tensors = {
        "y": whole.y[i],
        "y_norm": whole.y_norm[i],
        "largest_rise": whole.largest_rise[i],
        "saved": torch.stack([states[i] for states in whole.saved[:times]]),
    }
    if whole.dissipated is not None:
        tensors["dissipated"] = whole.dissipated[i]
    evals, good, bad = (0, 0, 0) if whole.spent is None else whole.spent[:, i].tolist()
    return Checkpoint(
        tensors={name: value.clone() for name, value in tensors.items()},
        meta={
            "t": whole.own_ts[i][-1] if whole.own_ts else whole.t,
            "rhs_evals": evals,
            "accepted": good,
            "rejected": bad,
            "remark": remark,
            "products": 0,
            "failures": [],
            "event_times": [],
            "seconds": whole.wall_seconds * evals / max(1, whole.rhs_evals),
            "stopped": None,
        },
    )
