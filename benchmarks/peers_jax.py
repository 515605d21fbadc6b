"""diffrax on the same problems, with the right-hand sides in jax.numpy.

Before a solve its right-hand side is compared with torch's at the start. A solve is timed warm,
when it is compiled; `cold_rows` adds the seconds of tracing and compiling. Right-hand sides are
counted from the solver's steps: 6 a step for Tsit5, 13 for Dopri8 (first stage same as last), and 2
for the first step size. Kvaerno5 forms dense Jacobians: its work is not counted in
gradient-equivalents, only in seconds.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measuring import EVERY_DECADE, Answer, Method, NotRun, OutOfTime, Progress, Row
from problems import Problem

_STAGES = {"Tsit5": 6, "Dopri8": 13}
_DENSE = 500  # states: factorising and compiling take minutes beyond


#: What the name of a method that is timed with its compilation ends with.
COLD = ", cold"


@functools.cache
def libraries() -> tuple[Any, Any, Any]:
    """Return (jax, jax.numpy, diffrax), set to float64 and one CPU thread."""
    if any(importlib.util.find_spec(name) is None for name in ("jax", "diffrax")):
        raise NotRun("diffrax is not installed (pip install 'gflow-ode[bench]')")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault(
        "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    )
    jax, jnp, diffrax = map(importlib.import_module, ("jax", "jax.numpy", "diffrax"))
    jax.config.update("jax_enable_x64", True)
    return jax, jnp, diffrax


# -- right-hand sides f(t, y, data) on flat vectors ---------------------------------------


def _kernel(t: Any, y: Any, data: dict[str, Any]) -> Any:
    return data["H"] @ (data["targets"] - y)


def _layers(y: Any, dims: tuple[int, ...], bias: bool) -> list[Any]:
    """Return [W_1, b_1, W_2, b_2, …], or the weights only."""
    parts, at = [], 0
    for a, b in itertools.pairwise(dims):
        for shape in ((b, a), (b,)) if bias else ((b, a),):
            size = int(np.prod(shape))
            parts.append(y[at : at + size].reshape(shape))
            at += size
    return parts


def _descent(dims: tuple[int, ...], bias: bool, loss: Callable[..., Any]) -> Any:
    jax = libraries()[0]

    def rhs(t: Any, y: Any, data: dict[str, Any]) -> Any:
        return -jax.grad(lambda v: loss(_layers(v, dims, bias), data))(y)

    return rhs


def _product(layers: list[Any]) -> Any:
    return functools.reduce(lambda W, layer: layer @ W, layers)


def _linear_loss(layers: list[Any], data: dict[str, Any]) -> Any:
    # As in the flow, the samples are reduced once to a triangular factor.
    residual = data["R"] @ _product(layers).T - data["QY"]
    return 0.5 * (residual**2).sum() / data["count"]


def _matching_loss(layers: list[Any], data: dict[str, Any]) -> Any:
    return 0.5 * ((_product(layers) - data["target"]) ** 2).sum()


def _tanh_loss(parts: list[Any], data: dict[str, Any]) -> Any:
    jnp = libraries()[1]
    x = data["inputs"]
    for i in range(0, len(parts), 2):
        x = x @ parts[i].T + parts[i + 1]
        x = jnp.tanh(x) if i + 2 < len(parts) else x
    return 0.5 * ((x - data["targets"]) ** 2).sum(1).mean()


def _completion(t: Any, y: Any, data: dict[str, Any]) -> Any:
    mask, values = data["mask"], data["values"]
    U = y.reshape(values.shape[0], -1)
    G = mask * (U @ U.T - values) / data["count"]
    return (-(G + G.T) @ U).reshape(-1)


def right_hand_side(problem: Problem) -> tuple[Any, dict[str, Any]]:
    """Return f(t, y, data) on flat vectors and its data, after a comparison with torch's."""
    jnp = libraries()[1]
    dims: Any = problem.data.get("dims")
    numbers: dict[str, Any] = {
        k: v.numpy() for k, v in problem.data.items() if isinstance(v, torch.Tensor)
    }
    rhs = {
        "kernel": lambda: _kernel,
        "completion": lambda: _completion,
        "tanh": lambda: _descent(dims, True, _tanh_loss),
        "linear": lambda: _descent(dims, False, _linear_loss),
        "matching": lambda: _descent(dims, False, _matching_loss),
    }[problem.kind]()
    if problem.kind == "linear":
        Q, R = np.linalg.qr(numbers["inputs"])
        numbers = {"R": R, "QY": Q.T @ numbers["targets"], "count": float(len(Q))}
    if problem.kind == "completion":
        numbers["count"] = numbers["mask"].sum().astype(float)
        numbers["mask"] = numbers["mask"].astype(float)
    data = {k: jnp.asarray(v) for k, v in numbers.items()}
    ours = np.asarray(rhs(0.0, jnp.asarray(problem.y0.reshape(-1).numpy()), data))
    theirs = problem.make()(0.0, problem.y0).reshape(-1).numpy()
    if not np.allclose(ours, theirs, rtol=1e-9, atol=1e-12 * float(np.abs(theirs).max())):
        raise RuntimeError("the JAX right-hand side differs from torch's at the start")
    return rhs, data


_COMPILED: dict[tuple[str, str], tuple[Any, int]] = {}


def prepare(name: str, problem: Problem) -> None:
    """Compile the solver."""
    if (name, problem.name) in _COMPILED:
        return
    n = problem.y0.numel()
    jax, jnp, _ = libraries()
    if name not in _STAGES and n > _DENSE:
        raise NotRun(f"factorises dense {n:,} × {n:,} matrices ({8e-6 * n * n:,.0f} MB each)")
    if problem.explicit_limit < 5:
        raise NotRun("too long for the standard run, and compiled steps cannot be projected")
    rhs, data = right_hand_side(problem)
    y0 = jnp.asarray(problem.y0.reshape(-1).numpy())
    steps = _affordable_steps(jax, rhs, y0, data, name, problem.explicit_limit)
    call = functools.partial(solver(name, rhs, steps), y0, data)
    _first_call(call, problem)
    _COMPILED[name, problem.name] = call, steps


def _first_call(call: Any, problem: Problem) -> float:
    """Return the seconds of a first call, on a time so short that only compilation counts."""
    ts = 1e-6 * libraries()[1].asarray(problem.ts)
    began = time.perf_counter()
    call(ts, 0.1, 0.1 * problem.scale)[0].block_until_ready()
    return time.perf_counter() - began


def solver(name: str, rhs: Any, steps: int) -> Any:
    """Return a compiled function of (y0, data, ts, rtol, atol): state, steps, whether it ended."""
    jax, _, diffrax = libraries()

    @jax.jit
    def solve(y0: Any, data: Any, ts: Any, rtol: Any, atol: Any) -> Any:
        result = diffrax.diffeqsolve(
            diffrax.ODETerm(rhs),
            getattr(diffrax, name)(),
            t0=ts[0],
            t1=ts[-1],
            dt0=None,
            y0=y0,
            args=data,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            saveat=diffrax.SaveAt(ts=ts),
            max_steps=steps,
            throw=False,
        )
        return result.ys[-1], result.stats["num_steps"], diffrax.is_successful(result.result)

    return solve


def cold_rows(rows: list[Row], problem: Problem) -> list[Row]:
    """Return rows with the compilation counted, for the explicit solvers of answered rows.

    One compiled program serves all tolerances. It is traced and compiled once more, in an empty
    cache, and these seconds are added to those of each solve. What was compiled before is lost.
    """
    cold: list[Row] = []
    for name in _STAGES:
        warm = [row for row in rows if row.method == f"diffrax {name}" and row.answered]
        if not warm:
            continue
        call, steps = _COMPILED[name, problem.name]
        y0, data = call.args
        rhs, _ = right_hand_side(problem)
        libraries()[0].clear_caches()
        seconds = _first_call(functools.partial(solver(name, rhs, steps), y0, data), problem)
        cold += [
            dataclasses.replace(
                row, method=row.method + COLD, seconds=[s + seconds for s in row.seconds]
            )
            for row in warm
        ]
    for key in [key for key in _COMPILED if key[1] == problem.name and cold]:
        del _COMPILED[key]
    return cold


def _affordable_steps(jax: Any, rhs: Any, y0: Any, data: Any, name: str, limit: float) -> int:
    """Return the number of steps within the time limit: a compiled loop cannot be interrupted."""
    call = jax.jit(rhs)
    call(0.0, y0, data).block_until_ready()
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        call(0.0, y0, data).block_until_ready()
        seconds.append(time.perf_counter() - began)
    step_seconds = min(seconds) * _STAGES.get(name, 20)  # other load must not limit it
    if name not in _STAGES:
        step_seconds += y0.size**3 / 2e10  # a factorisation
    return max(20, min(100_000, int(limit / step_seconds)))


def run_diffrax(name: str, problem: Problem, rtol: float, progress: Progress) -> Answer:
    """Solve by diffeqsolve, compiled by `prepare`."""
    jnp = libraries()[1]
    solve, max_steps = _COMPILED[name, problem.name]
    ts = jnp.asarray(problem.ts)
    began = time.perf_counter()
    y, steps, reached = solve(ts, rtol, rtol * problem.scale)
    y.block_until_ready()
    seconds = time.perf_counter() - began
    if not bool(reached):
        if int(steps) >= max_steps:
            raise OutOfTime(f" ({max_steps:,} steps)")
        raise RuntimeError("diffrax did not reach the end")
    rhs = 2 + _STAGES[name] * int(steps) if name in _STAGES else None
    return Answer(torch.from_numpy(np.array(y)), seconds, rhs)


def jax_methods() -> list[Method]:
    """Return diffrax's solvers."""
    return [
        Method(
            f"diffrax {name}",
            functools.partial(run_diffrax, name),
            explicit=name in _STAGES,
            ladder=EVERY_DECADE if name in _STAGES else Method.ladder,
            prepare=functools.partial(prepare, name),
        )
        for name in ("Tsit5", "Dopri8", "Kvaerno5")
    ]
