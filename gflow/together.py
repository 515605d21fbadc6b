"""Solves and descents of one flow from many starts as one ensemble, for runs side by side.

An ensemble's step costs little more than one member's where states are small, so that many
starts take a fraction of the time. In a solve each member keeps its own steps, error control and
requested times: it finds what a solve of its own does, to the tolerance, and where both take the
same steps to round-off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from gflow.descent import Measured, WantedDescent, descend_stated
from gflow.flows.base import Flow
from gflow.keeping import Checkpoint
from gflow.losses import Loss
from gflow.solvers.base import Problem, Progress, Stop
from gflow.solvers.checkpoint import Wanted, solve_kept
from gflow.solvers.stepping import SteppedSolver

#: Numbers in a state beyond which an ensemble is hardly faster than one start after the other
#: (`benchmarks/together.py`).
LARGEST = 4_000

Question = TypeVar("Question")


def answer(asked: Sequence[Any], progress: Progress | None = None) -> list[Any]:
    """Answer what runs side by side ask (`gflow.meeting`): solves and descents that fit as one.

    Parameters
    ----------
    asked : sequence of (Wanted or WantedDescent)
    progress : callable, optional
        As in `gflow.integrate`, of the ensembles of solves.

    Returns
    -------
    list
        For each what came of it, a `Checkpoint` or `Measured`; None for what is left to be done
        alone: nothing else fits it, a state is too large, its method takes one start at a time,
        or its member of the ensemble failed or diverged.
    """
    solves = [i for i, one in enumerate(asked) if isinstance(one, Wanted) and _can_join(one)]
    descents = [
        i
        for i, one in enumerate(asked)
        if isinstance(one, WantedDescent) and one.start.numel() <= LARGEST and not one.batch
    ]
    answers: list[Any] = [None] * len(asked)
    with torch.no_grad():
        for group in _groups(solves, lambda i, j: _fits(asked[i], asked[j])):
            found: Sequence[Any] = _solve([asked[i] for i in group], progress)
            for i, one in zip(group, found, strict=True):
                answers[i] = one
        for group in _groups(descents, lambda i, j: _goes_with(asked[i], asked[j])):
            found = _descend([asked[i] for i in group])
            for i, one in zip(group, found, strict=True):
                answers[i] = one
    return answers


def _groups(members: list[int], fit: Callable[[int, int], bool]) -> list[list[int]]:
    """Members in groups of at least two that fit each other."""
    groups = []
    while members:
        group = [i for i in members if fit(members[0], i)]
        members = [i for i in members if i not in group]
        if len(group) > 1:
            groups.append(group)
    return groups


def _can_join(one: Wanted) -> bool:
    problem, solver = one.problem, one.solver
    return (
        isinstance(solver, SteppedSolver)
        and solver.for_many() is not None
        and not problem.batch
        and problem.size <= LARGEST
        and not problem.dense
        and problem.event is problem.sharpness is problem.resume is problem.checkpoint is None
    )


def _fits(a: Wanted, b: Wanted) -> bool:
    """Whether two solves differ in nothing but start and times."""
    p, q = a.problem, b.problem
    return (
        a.name == b.name
        and _names(a) == _names(b)
        and (p.rtol, p.atol, p.max_evals, p.ts[0]) == (q.rtol, q.atol, q.max_evals, q.ts[0])
        and _alike(p.y0, q.y0)
        and same(p.flow, q.flow)
    )


def _goes_with(a: WantedDescent, b: WantedDescent) -> bool:
    """Whether two descents differ in nothing but start."""
    return a[2:] == b[2:] and _alike(a.start, b.start) and same(a.flow, b.flow)


def _alike(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device)


def _names(one: Wanted) -> list[str]:
    return [s.name for s in one.solver.steppers] if isinstance(one.solver, SteppedSolver) else []


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
        return same(vars(a), vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, int | float | str) and a == b


def _solve(wanted: Sequence[Wanted], progress: Progress | None) -> Sequence[Checkpoint | None]:
    """Solve problems that fit in one; what each of them would have found."""
    problems = [one.problem for one in wanted]
    first, solver = problems[0], wanted[0].solver
    many = solver.for_many() if isinstance(solver, SteppedSolver) else None
    if many is None:
        return [None] * len(wanted)
    whole = Problem(
        first.flow,
        torch.stack([problem.y0 for problem in problems]),
        first.ts,
        own_ts=[problem.ts for problem in problems],
        rtol=first.rtol,
        atol=first.atol,
        max_evals=first.max_evals,
        progress=progress,
    )
    try:
        solve_kept(many, whole, wanted[0].name, steps=True)
    except Stop:  # of all members: each says why on its own
        return [None] * len(wanted)
    return [
        None if i in whole.failures else _results_of(whole, i, len(problem.ts))
        for i, problem in enumerate(problems)
    ]


def _descend(wanted: Sequence[WantedDescent]) -> Sequence[Measured | None]:
    """Descend from starts that fit in one; what was saved of each."""
    first = wanted[0]
    found = descend_stated(first._replace(start=torch.stack([one.start for one in wanted])))
    whole = found.values["parameters"]
    return [
        # One that diverged stops there when it is alone.
        None if at is not None else Measured(found.steps, {"parameters": whole[:, i]}, [at])
        for i, at in enumerate(found.diverged_at)
    ]


def _results_of(whole: Problem, i: int, times: int) -> Checkpoint:
    """The results of one member, of so many times."""
    count = len(whole.y0)
    tensors = {
        "y": whole.y[i],
        "y_norm": whole.y_norm[i],
        "largest_rise": whole.largest_rise[i],
        "saved": torch.stack([states[i] for states in whole.saved[:times]]),
    }
    if whole.dissipated is not None:
        tensors["dissipated"] = whole.dissipated[i]
    evals, good, bad = (0, 0, 0) if whole.spent is None else whole.spent[:, i].tolist()
    remark = f"solved in one ensemble with {count - 1} other {'run' if count == 2 else 'runs'}"
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
