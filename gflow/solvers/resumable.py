"""The whole state of a solve between two steps, to be saved and resumed from.

A resumed solve goes on as if it had never stopped: step sizes, controllers, spectral
vectors and counters are all here, so that it agrees with an uninterrupted one to the last
bit on the same machine.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from gflow.execution.batching import ask
from gflow.execution.checkpointing import Checkpoint, piece_of_work
from gflow.solvers.base import Solver
from gflow.solvers.problem import Problem, Stop


class Wanted(NamedTuple):
    """A solve that is asked for: `gflow.execution.batching` may have the answer."""

    problem: Problem
    solver: Solver
    name: str  #: of the method


def solve_kept(solver: Solver, problem: Problem, name: str, *, steps: bool) -> None:
    """Solve a problem as a piece of work that a run keeps; see `gflow.execution.checkpointing`.

    ``steps``: whether the solver calls ``problem.piece.step``. Of runs side by side the solves
    that fit are one (together.py); the others are answered by none and solved here.
    """
    answer = ask(Wanted(problem, solver, name))
    if answer is not None:
        _take(problem, answer)
        return
    asked = {
        "flow": type(problem.flow).__name__,
        "method": name,
        "ts": problem.own_ts or problem.ts,
        "rtol": problem.rtol,
        "atol": problem.atol,
        "step_size": problem.step_size,
        "dense": problem.dense,
        "max_evals": problem.max_evals,
        "sharpness": 0 if problem.sharpness is None else problem.sharpness.k,
    }
    with piece_of_work("solve", steps=steps, y0=problem.y0, **asked) as piece:
        if piece.finished is not None:
            _take(problem, piece.finished)
            stopped = piece.finished.meta["stopped"]
            if stopped is not None:
                raise Stop(stopped)
            return
        problem.piece = piece
        if problem.resume is None:
            problem.resume = piece.resumed
        try:
            solver.solve(problem, name)
        except Stop as stop:
            why, problem.ended = str(stop), time.perf_counter()
            piece.finish(lambda: _results(problem, why))
            raise
        problem.ended = time.perf_counter()
        piece.finish(lambda: _results(problem, None))


_STATES = ("y", "y_norm", "largest_rise")
_NUMBERS = ("t", "rhs_evals", "accepted", "rejected", "remark")


def _results(problem: Problem, stopped: str | None) -> Checkpoint:
    """What a solve left in its problem."""
    tensors = {name: getattr(problem, name) for name in _STATES}
    if problem.spent is not None:
        tensors["spent"] = torch.from_numpy(problem.spent)
    if problem.dissipated is not None:
        tensors["dissipated"] = problem.dissipated
    products = 0
    if problem.sharpness is not None:
        tensors |= problem.sharpness.tensors()
        products = problem.sharpness.products
    return Checkpoint(
        tensors={**tensors, "saved": torch.stack(problem.saved)},
        meta={
            **{name: getattr(problem, name) for name in _NUMBERS},
            "products": products,
            "failures": list(problem.failures.items()),
            "event_times": list(problem.event_times.items()),
            "seconds": problem.wall_seconds,
            "stopped": stopped,
        },
    )


def _take(problem: Problem, found: Checkpoint) -> None:
    """The inverse of `_results`."""
    tensors = {name: value.to(problem.y0.device) for name, value in found.tensors.items()}
    for name in _STATES:
        setattr(problem, name, tensors[name])
    for name in _NUMBERS:
        setattr(problem, name, found.meta[name])
    problem.saved, problem.dissipated = list(tensors["saved"]), tensors.get("dissipated")
    if "spent" in found.tensors:
        problem.spent = found.tensors["spent"].numpy()
    if problem.sharpness is not None and "sharpness" in tensors:
        problem.sharpness.restore(tensors, found.meta["products"], problem.y0)
    problem.failures = {int(i): why for i, why in found.meta["failures"]}
    problem.event_times = {int(i): t for i, t in found.meta["event_times"]}
    problem.ended = time.perf_counter()
    problem.began = problem.ended - found.meta["seconds"]
