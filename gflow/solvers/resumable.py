"""Resumable solves: served from a batch, restored as a piece of a run, or computed."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from gflow.errors import OutputError, PeerError
from gflow.execution import current
from gflow.execution.checkpointing import Checkpoint
from gflow.solvers.base import Solver
from gflow.solvers.problem import Problem, Stop, failed


class SolveRequest(NamedTuple):
    """A solve to compute; `gflow.sweeping.ensembles` serves several as one ensemble."""

    problem: Problem
    solver: Solver
    name: str  #: name of the method


def solve_resumable(solver: Solver, problem: Problem, name: str, *, steps: bool) -> None:
    """Solve a problem, unless the execution context has its results.

    In a batched run, compatible solves are done as one ensemble; all others are solved here. In a
    resumed run, the results of a finished solve are restored.

    Parameters
    ----------
    solver : Solver
    problem : Problem
        It receives the results.
    name : str
        The name of the method.
    steps : bool
        Whether the solver calls ``problem.piece.step`` between its steps.

    Raises
    ------
    Stop
        If the solve stops early.

    Examples
    --------
    >>> import gflow
    >>> from gflow.solvers import methods
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> problem = Problem(flow, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    >>> solve_resumable(methods()["tsit5"], problem, "tsit5", steps=True)
    >>> problem.t, len(problem.saved)
    (1.0, 2)
    """
    execution = current()
    answer = execution.request(SolveRequest(problem, solver, name))
    if answer is not None:
        _restore_results(problem, answer)
        return
    inputs = {
        "flow": type(problem.flow).__name__,
        "method": name,
        "ts": problem.requested_of_members or problem.requested,
        "rtol": problem.rtol,
        "atol": problem.atol,
        "step_size": problem.step_size,
        "dense": problem.dense,
        "max_evals": problem.max_evals,
        "sharpness": problem.sharpness,
    }
    with execution.resumable("solve", steps=steps, y0=problem.y0, **inputs) as piece:
        if piece.finished is not None:
            _restore_results(problem, piece.finished)
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
        except (PeerError, OutputError):
            raise
        except Exception as error:  # the path until then took time; a resumed run tries again
            if problem.accepted == 0:
                raise
            problem.ended = time.perf_counter()
            raise Stop(failed(error)) from error
        problem.ended = time.perf_counter()
        piece.finish(lambda: _results(problem, None))


_STATES = ("y", "y_norm", "largest_rise")
_NUMBERS = ("t", "rhs_evals", "accepted", "rejected", "remark", "main_methods", "round_off", "lost")


def _results(problem: Problem, stopped: str | None) -> Checkpoint:
    """Return the results in a solved problem."""
    tensors = {name: getattr(problem, name) for name in _STATES}
    if problem.spent is not None:
        tensors["spent"] = torch.from_numpy(problem.spent)
    if problem.gain is not None:
        tensors["gain"] = torch.from_numpy(problem.gain)
    if problem.rest is not None:
        tensors["rest"] = torch.from_numpy(problem.rest)
    if problem.before is not None:
        tensors["before"] = problem.before
    if len(problem.visited) > 1:
        tensors["visited"] = torch.stack([y for _, y in problem.visited])
    if problem.dissipated is not None:
        tensors["dissipated"] = problem.dissipated
    carried = problem.carried
    if carried is not None:
        tensors |= {f"carried_{name}": value for name, value in carried.tensors.items()}
    products = 0
    if problem.sharpness_path is not None:
        tensors |= problem.sharpness_path.tensors()
        products = problem.sharpness_path.products
    return Checkpoint(
        tensors={**tensors, "saved": torch.stack(problem.saved)},
        meta={
            **{name: getattr(problem, name) for name in _NUMBERS},
            "products": products,
            "visited": [t for t, _ in problem.visited],
            "failures": list(problem.failures.items()),
            "event_times": list(problem.event_times.items()),
            "seconds": problem.wall_seconds,
            "stopped": stopped,
            "carried": None if carried is None else carried.meta,
        },
    )


def _restore_results(problem: Problem, results: Checkpoint) -> None:
    """Write the results of `_results` to a problem."""
    tensors = {name: value.to(problem.y0.device) for name, value in results.tensors.items()}
    for name in _STATES:
        setattr(problem, name, tensors[name])
    for name in _NUMBERS:
        setattr(problem, name, results.meta[name])
    problem.saved, problem.dissipated = list(tensors["saved"]), tensors.get("dissipated")
    if "spent" in results.tensors:
        problem.spent = results.tensors["spent"].numpy()
    if "gain" in results.tensors:
        problem.gain = results.tensors["gain"].numpy()
    if "rest" in results.tensors:
        problem.rest = results.tensors["rest"].numpy()
    problem.before = tensors.get("before")
    if "visited" in tensors:
        problem.visited = list(zip(results.meta["visited"], tensors["visited"], strict=True))
    if problem.sharpness_path is not None and "sharpness" in tensors:
        problem.sharpness_path.restore(tensors, results.meta["products"], problem.y0)
    if results.meta["carried"] is not None:
        prefix = "carried_"
        carried = {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}
        problem.carried = Checkpoint(carried, results.meta["carried"])
    problem.failures = {int(i): why for i, why in results.meta["failures"]}
    problem.event_times = {int(i): t for i, t in results.meta["event_times"]}
    problem.ended = time.perf_counter()
    problem.began = problem.ended - results.meta["seconds"]
