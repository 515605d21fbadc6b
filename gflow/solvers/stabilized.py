r"""``rkc2``: the stabilised explicit Runge–Kutta–Chebyshev method of order 2.

The Jacobian of a gradient flow is minus a Hessian: its spectrum is real and mostly
negative. With s stages RKC2 is stable for h·ρ ≤ 0.653(s² − 1), ρ the spectral radius, so
a step of length h costs about √(1.54hρ) evaluations where a standard explicit method
pays for hρ/3.3 steps. Sommeijer, Shampine & Verwer (1998), J. Comput. Appl. Math. 88,
315-326: coefficients eqs. 2.2-2.5, error estimate and controller sections 3.1-3.2.

ρ is measured by Arnoldi iteration on differences of the right-hand side (Jacobians of
reduced flows are not symmetric), started from the last eigenvector; only the negative end
of the spectrum is asked for, as positive eigenvalues (saddles) need no stages.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.solvers.base import Problem, Solver, Stop

_DAMPING = 2 / 13
_REFRESH = 25  # accepted steps between two looks at the spectrum
_MARGIN = 1.1  # on the measured spectral radius, which is approached from below
_KRYLOV = 20  # products of one look at most
_SETTLED = 0.02  # relative change of the estimate that ends a look
_MOST_STAGES = 400
_SAFETY = 0.8


class RKC2Solver(Solver):
    """Second-order Runge–Kutta–Chebyshev with adaptive steps and stages."""

    names = ("rkc2",)

    def solve(self, problem: Problem, method: str) -> None:
        spectrum = _Spectrum(problem)
        most = _most_stages(problem)
        t, z = problem.ts[0], problem.z0
        f = problem.rhs(t, z)
        rho = spectrum.radius(t, z, f)
        h = _first_step(problem, t, z, f, rho)
        last: tuple[float, float] | None = None  # (step, error) of the last accepted one
        age = 0
        while t < problem.ts[-1]:
            if rho > 0:
                h = min(h, 0.653 * (most**2 - 1) / rho)
            target = problem.next_time
            # Land on the requested time, and do not leave a sliver before it.
            cut = t + h * 1.01 >= target
            step = target - t if cut else min(h, 0.6 * (target - t))
            t_new = target if cut else t + step
            if not t_new > t:
                raise Stop(problem.why_stuck())
            stages = max(2, 1 + math.isqrt(int(1 + 1.54 * step * rho)))
            z_new = _step(problem, t, z, f, step, stages)
            f_new = problem.rhs(t_new, z_new)
            error = float(problem.error_norm(0.8 * (z - z_new) + 0.4 * step * (f + f_new)))
            if not error <= 1 or problem.rises(z_new):
                problem.reject()
                shrink = _SAFETY / error ** (1 / 3) if 1 < error < math.inf else 0.3
                h = step * min(max(shrink, 0.1), 0.7)
                if age:
                    rho, age = spectrum.radius(t, z, f), 0
                continue
            factor = _growth(step, max(error, 1e-10), last)
            last = (step, max(error, 1e-10))
            # A step cut short to land says nothing against the longer one it was cut from.
            h = max(step * factor, h) if cut else step * factor
            t, z, f = t_new, z_new, f_new
            problem.accept(t, z)
            age += 1
            if age >= _REFRESH:
                rho, age = spectrum.radius(t, z, f), 0


def _growth(step: float, error: float, last: tuple[float, float] | None) -> float:
    """The factor for the next step: predictive once there is a previous one."""
    factor = _SAFETY / error ** (1 / 3)
    if last is not None:
        before, error_before = last
        factor *= min(step / before * (error_before / error) ** (1 / 3), 1 / _SAFETY)
    return min(max(factor, 0.1), 10.0)


def _most_stages(problem: Problem) -> int:
    """Stages beyond which round-off, amplified about s² times, exceeds the tolerance."""
    eps = torch.finfo(problem.y0.dtype).eps
    return max(4, min(_MOST_STAGES, int(math.sqrt(problem.rtol / (10 * eps)))))


def _first_step(problem: Problem, t: float, z: Tensor, f: Tensor, rho: float) -> float:
    """A step whose Euler error is about a tenth of the tolerance, at most 1/ρ."""
    span = problem.ts[-1] - t
    h = min(span, 1 / rho if rho > 0 else span)
    change = float(problem.error_norm(h * (problem.rhs(t + h, z + h * f) - f)))
    if not math.isfinite(change):
        return h * 1e-3
    return min(h, 0.1 * h / math.sqrt(change)) if change > 0 else h


class _Chebyshev(NamedTuple):
    """Coefficients of the s-stage method; lists are indexed by the stage."""

    first: float
    mu: list[float]
    nu: list[float]
    mu_rate: list[float]
    gamma_rate: list[float]
    c: list[float]


@functools.cache
def _coefficients(s: int) -> _Chebyshev:
    excess = _DAMPING / s**2  # w₀ − 1
    w0 = 1 + excess
    T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for j in range(2, s + 1):
        T.append(2 * w0 * T[j - 1] - T[j - 2])
        dT.append(2 * T[j - 1] + 2 * w0 * dT[j - 1] - dT[j - 2])
        ddT.append(4 * dT[j - 1] + 2 * w0 * ddT[j - 1] - ddT[j - 2])
    w1 = dT[s] / ddT[s]
    b = [0.0, 0.0, *(ddT[j] / dT[j] ** 2 for j in range(2, s + 1))]
    b[0] = b[1] = b[2]
    a = [1 - b[j] * T[j] for j in range(s + 1)]
    mu, nu, mu_rate, gamma_rate = ([0.0] * (s + 1) for _ in range(4))
    c = [0.0, 0.0, *(w1 * ddT[j] / dT[j] for j in range(2, s + 1))]
    c[1] = c[2] / dT[2]
    for j in range(2, s + 1):
        mu[j] = 2 * w0 * b[j] / b[j - 1]
        nu[j] = -b[j] / b[j - 2]
        mu_rate[j] = 2 * b[j] * w1 / b[j - 1]
        gamma_rate[j] = -a[j - 1] * mu_rate[j]
    return _Chebyshev(b[1] * w1, mu, nu, mu_rate, gamma_rate, c)


def _step(problem: Problem, t: float, z: Tensor, f: Tensor, h: float, s: int) -> Tensor:
    """One step of s stages from (t, z), f = F(t, z)."""
    k = _coefficients(s)
    older, newer = z, torch.add(z, f, alpha=k.first * h)
    for j in range(2, s + 1):
        rate = problem.rhs(t + k.c[j - 1] * h, newer)
        stage = (1 - k.mu[j] - k.nu[j]) * z
        stage.add_(newer, alpha=k.mu[j]).add_(older, alpha=k.nu[j])
        stage.add_(rate, alpha=k.mu_rate[j] * h).add_(f, alpha=k.gamma_rate[j] * h)
        older, newer = newer, stage
    return newer


class _Spectrum:
    """The spectral radius of the Jacobian's negative end, of the stiffest member."""

    def __init__(self, problem: Problem):
        self._problem = problem
        noise = torch.Generator().manual_seed(0)
        shape = (problem.y0.numel(),)
        vector = torch.randn(shape, generator=noise, dtype=torch.float64).to(problem.y0)
        self._vector = vector / vector.norm()

    def radius(self, t: float, z: Tensor, f: Tensor) -> float:
        """A slight overestimate of max(−Re λ), 0 where nothing decays."""
        problem, n = self._problem, self._problem.y0.numel()
        eps = torch.finfo(z.dtype).eps
        delta = math.sqrt(eps) * max(float(z[:n].norm()), 1e-3)
        basis = [self._vector]
        H = torch.zeros(_KRYLOV + 1, _KRYLOV, dtype=torch.float64)
        top, coefficients = 0.0, torch.ones(1, dtype=torch.float64)
        for k in range(min(_KRYLOV, n)):
            moved = z.clone()
            moved[:n] += delta * basis[k]
            w = (f[:n] - problem.rhs(t, moved)[:n]) / delta  # −J v
            Q = torch.stack(basis, dim=1)
            for _ in range(2):
                overlap = Q.mT @ w
                w = w - Q @ overlap
                H[: k + 1, k] += overlap.double().cpu()
            size = float(w.norm())
            if not math.isfinite(size):
                raise Stop(problem.why_stuck())
            H[k + 1, k] = size
            values, vectors = torch.linalg.eig(H[: k + 1, : k + 1])
            best = int(values.real.argmax())
            before, top = top, float(values.real[best])
            coefficients = vectors[:, best].real
            scale = float(H[: k + 1, : k + 1].abs().max())
            if size <= 1e-7 * scale or (k > 2 and abs(top - before) <= _SETTLED * abs(top)):
                break
            basis.append(w / size)
        vector = torch.stack(basis[: len(coefficients)], dim=1) @ coefficients.to(z)
        if float(vector.norm()) > 0:
            self._vector = vector / vector.norm()
        return max(0.0, _MARGIN * top)
