"""The whole state of a solve between two steps, to be saved and resumed from.

A resumed solve goes on as if it had never stopped: step sizes, controllers, spectral
vectors and counters are all here, so that it agrees with an uninterrupted one to the last
bit on the same machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gflow.errors import InputError
from gflow.solvers.members import Members

if TYPE_CHECKING:
    from gflow.solvers.stepping import Stepping


@dataclass(frozen=True)
class Checkpoint:
    """A solve between two steps.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        States and vectors, on the solve's device, and per-member numbers, on the host.
        Safe to keep: the solve does not write to them again.
    meta : mapping
        Plain numbers and strings (JSON holds them to the bit): what is solved and the counters.
    """

    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any]


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
            "steps": stepping.steps,
            "rejections": stepping.rejections,
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
    stepping.steps, stepping.rejections = meta["steps"], meta["rejections"]
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
    return [names, list(problem.ts), problem.rtol, problem.atol, problem.dense, values]
