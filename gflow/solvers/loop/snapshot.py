"""Store the state of a solve between two steps in a checkpoint, and resume from one."""

from __future__ import annotations

import time

from gflow.errors import InputError
from gflow.execution.checkpointing import Checkpoint
from gflow.solvers.loop.members import Members
from gflow.solvers.loop.state import LoopState


def snapshot(state: LoopState) -> Checkpoint:
    """Return the state of a solve between two steps."""
    past, sharpness = state.past, state.problem.sharpness_path
    return Checkpoint(
        tensors={
            **state.members.tensors(),
            **state.record.tensors(),
            **({} if past is None else {"past": past.stacked()}),
            **({} if sharpness is None else sharpness.tensors()),
        },
        meta={
            "asked": _inputs(state),
            "rhs_evals": state.problem.rhs_evals,
            "seconds": state.problem.wall_seconds,
            "switches": list(state.switches),
            "past": None if past is None else past.meta,
            "products": 0 if sharpness is None else sharpness.products,
            "failures": list(state.record.failures.items()),
            "event_times": list(state.record.event_times.items()),
        },
    )


def restore(state: LoopState, checkpoint: Checkpoint) -> None:
    """Replace a new state by that of a checkpoint.

    Parameters
    ----------
    state : LoopState
        Of the same solve; it is changed.
    checkpoint : Checkpoint
        From `snapshot`.

    Raises
    ------
    InputError
        If the checkpoint is one of another solve.

    Examples
    --------
    >>> import torch, gflow
    >>> from gflow.losses import SquaredDistance
    >>> flow = gflow.EndToEndFlow(SquaredDistance(torch.eye(1, dtype=torch.float64)), depth=2)
    >>> states = []
    >>> solve = lambda **options: gflow.integrate(
    ...     flow, torch.full((1, 1), 0.5, dtype=torch.float64), [0.0, 1.0], "tsit5", **options)
    >>> path = solve(checkpoint=states.append, checkpoint_every=0.0)
    >>> torch.equal(solve(resume=states[0]).ys, path.ys)
    True
    """
    meta, tensors, record = checkpoint.meta, dict(checkpoint.tensors), state.record
    problem = state.problem
    if not meta["rhs_evals"] >= 0:  # a negative count would lift the limit on evaluations
        raise InputError(
            f"the evaluations counted in a checkpoint must be at least 0, got {meta['rhs_evals']}"
        )
    if meta["asked"] != _inputs(state) or tensors["last"].shape != record.last.shape:
        raise InputError(
            "a checkpoint resumes the solve it was taken from: the same flow, start, times, "
            "method, tolerances, dense and sharpness; got another one. Integrate from the start"
        )
    record.restore(tensors)
    record.failures.update({int(i): str(why) for i, why in meta["failures"]})
    record.event_times.update({int(i): float(t) for i, t in meta["event_times"]})
    state.members = Members.from_tensors(tensors, problem.y0)
    state.switches = list(meta["switches"])
    problem.rhs_evals = meta["rhs_evals"]
    problem.began = time.perf_counter() - meta["seconds"]
    if state.past is not None:
        states = state.system.native(tensors["past"].to(problem.y0))
        state.past.restore(states, meta["past"])
    if problem.sharpness_path is not None:
        problem.sharpness_path.restore(tensors, meta["products"], problem.y0)


def _inputs(state: LoopState) -> list[object]:
    """Return the inputs that must be equal in a resumed solve."""
    problem = state.problem
    names = [method.name for method in state.methods.methods]
    times = problem.requested_of_members or problem.requested
    return [names, times, problem.rtol, problem.atol, problem.dense, problem.sharpness]
