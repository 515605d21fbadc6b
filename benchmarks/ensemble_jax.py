"""The ensemble by diffrax, all starts in one compiled call, with `lax.map` and `vmap`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peers_jax import libraries, right_hand_side, solver
from problems import Problem
from torch import Tensor

_STEPS = 100_000  # at most, of one start

Run = Callable[[float], tuple[float, None, Tensor]]


def diffrax_solvers(problem: Problem, Y0: Tensor, vmap: bool) -> dict[str, tuple[float, Run]]:
    """Return the seconds of compilation, in an empty cache, and a function of rtol, by method.

    What was compiled before is lost, and compiled again when it is called.

    Raises
    ------
    NotRun
        Without diffrax.
    """
    jax, jnp, _ = libraries()
    rhs, data = right_hand_side(problem)
    starts, ts = jnp.asarray(Y0.numpy()), jnp.asarray(problem.ts)
    solvers: dict[str, tuple[float, Run]] = {}
    pairs = [("Tsit5", "lax.map"), ("Dopri8", "lax.map")] + [("Tsit5", "vmap")] * vmap
    for name, over in pairs:
        call = jax.jit(functools.partial(_OVER[over], solver(name, rhs, _STEPS)))
        jax.clear_caches()
        began = time.perf_counter()
        call(starts, data, 1e-6 * ts, 0.1, 0.1)[0].block_until_ready()
        compilation = time.perf_counter() - began
        solvers[f"diffrax {name} {over}"] = (
            compilation,
            functools.partial(_run, functools.partial(call, starts, data, ts), problem.scale),
        )
    return solvers


def _map(solve: Any, Y0: Any, data: Any, ts: Any, rtol: Any, atol: Any) -> Any:
    return libraries()[0].lax.map(lambda y0: solve(y0, data, ts, rtol, atol), Y0)


def _vmap(solve: Any, Y0: Any, data: Any, ts: Any, rtol: Any, atol: Any) -> Any:
    return libraries()[0].vmap(lambda y0: solve(y0, data, ts, rtol, atol))(Y0)


_OVER = {"lax.map": _map, "vmap": _vmap}


def _run(call: Any, scale: float, rtol: float) -> tuple[float, None, Tensor]:
    began = time.perf_counter()
    ends, _, reached = call(rtol, scale * rtol)
    ends.block_until_ready()
    seconds = time.perf_counter() - began
    if not bool(reached.all()):
        raise RuntimeError("diffrax did not reach the end of every start")
    return seconds, None, torch.from_numpy(np.array(ends))
