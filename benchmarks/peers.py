"""Adapters of all solvers: gflow's methods, and peers on the same torch right-hand side.

An adapter takes (problem, rtol, progress) and returns an `Answer`: the state at the last time, its
cost and the seconds of the call. Peers use their own default error norms with rtol and
atol = rtol × the size of a typical component; gflow uses its own norm with
atol = 1e-3·rtol·‖start‖ or 1e-3·rtol. SUNDIALS is in `peers_sundials`, and diffrax, whose
right-hand sides are in JAX, in `peers_jax`.
"""

from __future__ import annotations

import functools
import re
import time
from typing import Any

import torch
from counted import Counted, CountedNumpy, require
from measuring import EVERY_DECADE, Answer, Method, NotRun, OutOfTime, Progress
from peers_sundials import sundials_methods
from problems import Problem
from torch import Tensor

import gflow
from gflow.errors import InputError
from gflow.solvers import methods

_DENSE = 2000  # largest state for solvers that factorise n×n matrices
_CERTIFICATE = 4.0  # times the limit of a solve that it may take together with its certificate


def run_eigh(problem: Problem, rtol: float, progress: Progress) -> Answer:
    """Solve by one eigendecomposition of H, the yardstick of exact methods."""
    if problem.kind != "kernel":
        raise NotRun("not a kernel flow")
    H: Any = problem.data["H"]
    y: Any = problem.data["targets"]
    began = time.perf_counter()
    lam, V = torch.linalg.eigh(H)
    seconds = time.perf_counter() - began
    decay = torch.exp(-problem.ts[-1] * lam)
    return Answer(y + V @ (decay * (V.mT @ (problem.y0 - y))), seconds, None)


# -- gflow ------------------------------------------------------------------------------


def gflow_methods(full: bool = False) -> list[Method]:
    """Return ``auto`` and every native method.

    In full, also torchdiffeq's dopri5 and dopri8 as gflow wraps them. The other wrapped methods are
    omitted: their libraries are peers.
    """
    wrapped = ("gflow.solvers.torchdiffeq", "gflow.solvers.scipy")
    native = [name for name, solver in methods().items() if type(solver).__module__ not in wrapped]
    chosen = [_gflow(name, EVERY_DECADE) for name in ("auto", *sorted(native)) if name != "exact"]
    if "exact" in native:
        chosen.append(_gflow("exact", (1e-6,)))
    return chosen + [_gflow(name, EVERY_DECADE[1::2]) for name in ("dopri5", "dopri8") if full]


def _gflow(method: str, ladder: tuple[float, ...]) -> Method:
    run = functools.partial(run_gflow, method)
    explicit = method in ("tsit5", "dop853", "dopri5", "dopri8")
    return Method(f"gflow {method}", run, "gflow", explicit, ladder, grace=_CERTIFICATE)


def run_gflow(method: str, problem: Problem, rtol: float, progress: Progress) -> Answer:
    """Solve by `gflow.integrate`; `Answer.seconds` include the certificate."""
    flow = problem.make()

    def watch(t: float, loss: float) -> None:
        progress.t = t
        if time.perf_counter() - began > progress.limit:
            raise OutOfTime

    atol = 1e-3 * rtol * problem.least
    began = time.perf_counter()
    try:
        path = gflow.integrate(
            flow, problem.y0, problem.ts, method, rtol, atol, progress=watch, max_evals=10**7
        )
    except InputError as reason:
        raise NotRun(str(reason)) from None
    seconds = time.perf_counter() - began
    flag = "; ".join(path.certificate.failures())
    stats = path.stats
    later = re.findall(r"(\w+) from t = ", stats.reason)  # methods to which auto switched
    first = re.findall(r"; (\w+), and ", stats.reason) or [stats.method]
    chosen = " → ".join([*first, *later]) if method == "auto" else ""
    return Answer(
        path.ys[-1], seconds, stats.rhs_evals, stats.jvp_evals, chosen, flag, stats.wall_seconds
    )


# -- peers on the torch right-hand side ----------------------------------------------------


def run_torchdiffeq(method: str, problem: Problem, rtol: float, progress: Progress) -> Answer:
    """Solve by odeint: root-mean-square norm, requested times by interpolation."""
    from torchdiffeq import odeint

    f, ts = Counted(problem, progress), torch.tensor(problem.ts, dtype=torch.float64)
    options: dict[str, Any] = {}
    if method == "implicit_adams":  # fixed steps: rtol is the step size
        options = {"step_size": rtol}
    began = time.perf_counter()
    with torch.no_grad():
        ys = odeint(
            f, problem.y0, ts, rtol=rtol, atol=rtol * problem.scale, method=method, options=options
        )
    return Answer(ys[-1], time.perf_counter() - began, progress.rhs)


def run_scipy(method: str, problem: Problem, rtol: float, progress: Progress) -> Answer:
    """Solve by solve_ivp, with the exact Jacobian for kernel flow and differences elsewhere."""
    from scipy.integrate import solve_ivp

    n = problem.y0.numel()
    options: dict[str, Any] = {}
    if method in ("LSODA", "BDF", "Radau"):
        if n > _DENSE:
            raise NotRun(f"factorises dense {n:,} × {n:,} matrices ({8e-6 * n * n:,.0f} MB each)")
        if problem.kind == "kernel":
            H: Any = problem.data["H"]
            minus = -H.numpy()
            options["jac"] = (lambda t, y: minus) if method == "LSODA" else minus
    f = CountedNumpy(problem, progress)
    began = time.perf_counter()
    solution = solve_ivp(
        f.array,
        (problem.ts[0], problem.ts[-1]),
        problem.y0.reshape(-1).numpy(),
        method=method,
        t_eval=problem.ts,
        rtol=max(rtol, 2.3e-14),
        atol=rtol * problem.scale,
        **options,
    )
    seconds = time.perf_counter() - began
    if not solution.success:
        raise RuntimeError(solution.message)
    return Answer(torch.from_numpy(solution.y[:, -1].copy()), seconds, progress.rhs)


def run_torchode(method: str, problem: Problem, rtol: float, progress: Progress) -> Answer:
    """Solve by torchode with its integral controller, as a batch of one."""
    to = require("torchode")
    f, shape = Counted(problem, progress), problem.y0.shape

    def rhs(t: Tensor, y: Tensor) -> Tensor:
        return f(t[0], y[0].view(shape)).reshape(1, -1)

    term = to.ODETerm(rhs)
    controller = to.IntegralController(rtol * problem.scale, rtol, term=term)
    solver = to.AutoDiffAdjoint(getattr(to, method)(term=term), controller)
    ts = torch.tensor([problem.ts], dtype=torch.float64)
    began = time.perf_counter()
    with torch.no_grad():
        solution = solver.solve(to.InitialValueProblem(y0=problem.y0.reshape(1, -1), t_eval=ts))
    seconds = time.perf_counter() - began
    if int(solution.status[0]) != 0:
        raise RuntimeError(f"torchode status {int(solution.status[0])}")
    return Answer(solution.ys[0, -1], seconds, progress.rhs)


def peer_methods(full: bool = False) -> list[Method]:
    """Return every peer that runs on torch or NumPy.

    In full, also torchode's Dopri5 (torchdiffeq's tableau) and CVODE's default GMRES(5).
    """
    peers = [Method("torch.linalg.eigh", run_eigh, "yardstick", ladder=(1e-6,))]
    peers += [
        Method(f"torchdiffeq {name}", functools.partial(run_torchdiffeq, name), explicit=True)
        for name in ("dopri5", "bosh3", "dopri8")
    ]
    fixed = functools.partial(run_torchdiffeq, "implicit_adams")
    peers.append(
        Method("torchdiffeq implicit_adams", fixed, explicit=True, fixed=True, ladder=(1.0, 0.1))
    )
    peers += [
        Method(f"scipy {name}", functools.partial(run_scipy, name), explicit=name == "DOP853")
        for name in ("LSODA", "BDF", "Radau", "DOP853")
    ]
    peers += [
        Method(f"torchode {name}", functools.partial(run_torchode, name), explicit=True)
        for name in (("Tsit5", "Dopri5") if full else ("Tsit5",))
    ]
    return peers + sundials_methods(full)
