"""The whole state of a solve between two steps, to be saved and resumed from."""

from __future__ import annotations

import time
from typing import Protocol

from gflow.errors import InputError
from gflow.execution.checkpointing import Checkpoint
from gflow.solvers.base import Method
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.past import Past
from gflow.solvers.loop.record import Record
from gflow.solvers.problem import Problem


class Stepping(Protocol):
    """What of the stepping loop (stepping.py) is its state between two steps."""

    problem: Problem
    members: Members
    record: Record
    past: Past | None
    switches: list[str]
    steppers: tuple[Method, ...]


def snapshot(stepping: Stepping) -> Checkpoint:
    """The whole state of a solve between two steps."""
    past, sharpness = stepping.past, stepping.problem.sharpness
    return Checkpoint(
        tensors={
            **stepping.members.tensors(),
            **stepping.record.tensors(),
            **({} if past is None else {"past": past.states.clone()}),
            **({} if sharpness is None else sharpness.tensors()),
        },
        meta={
            "asked": _asked(stepping),
            "rhs_evals": stepping.problem.rhs_evals,
            "seconds": stepping.problem.wall_seconds,
            "switches": list(stepping.switches),
            "past": None if past is None else past.meta,
            "products": 0 if sharpness is None else sharpness.products,
            "failures": list(stepping.record.failures.items()),
            "event_times": list(stepping.record.event_times.items()),
        },
    )


def restore(stepping: Stepping, found: Checkpoint) -> None:
    """Go on from a snapshot.

    Raises
    ------
    InputError
        If it is one of another solve.
    """
    meta, tensors, record = found.meta, dict(found.tensors), stepping.record
    if not meta["rhs_evals"] >= 0:  # else there would be no end of what may be spent
        raise InputError(f"a checkpoint has a count of evaluations, got {meta['rhs_evals']}")
    if meta["asked"] != _asked(stepping) or tensors["last"].shape != record.last.shape:
        raise InputError(
            "a checkpoint resumes the solve it was taken from: the same flow, start, times, "
            "method, tolerances, dense and sharpness; got another one. Integrate from the start"
        )
    record.restore(tensors)
    record.failures.update({int(i): str(why) for i, why in meta["failures"]})
    record.event_times.update({int(i): float(t) for i, t in meta["event_times"]})
    stepping.members = Members.from_tensors(tensors, stepping.problem.y0)
    stepping.problem.rhs_evals = meta["rhs_evals"]
    stepping.problem.began = time.perf_counter() - meta["seconds"]
    stepping.switches = list(meta["switches"])
    if stepping.past is not None:
        stepping.past.restore(tensors["past"].to(stepping.problem.y0), meta["past"])
    if stepping.problem.sharpness is not None:
        stepping.problem.sharpness.restore(tensors, meta["products"], stepping.problem.y0)


def _asked(stepping: Stepping) -> list[object]:
    """What must be the same in a resumed solve."""
    problem = stepping.problem
    names = [stepper.name for stepper in stepping.steppers]
    values = 0 if problem.sharpness is None else problem.sharpness.k
    return [names, problem.own_ts or problem.ts, problem.rtol, problem.atol, problem.dense, values]
