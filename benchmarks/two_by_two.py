"""Razin & Cohen's path to a loss of 1e-10, at every decade beside SciPy's Radau in log coordinates.

W = R diag(e^{y0}, e^{y1}) Rᵀ with R the rotation by y2 stays symmetric; its rates are those of the
singular values and vectors (Arora et al. 2019, theorem 3), written here without gflow.

python benchmarks/two_by_two.py
"""

from __future__ import annotations

import cmath
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp

import gflow
from gflow.losses import MatrixCompletion

DECADES = range(2, 9)  # below it Radau takes minutes
END = 1e-10
W0 = 1e-2 * torch.tensor([[1.2, 0.3], [0.3, 0.9]], dtype=torch.float64)


def entries(y: Any) -> tuple[complex, complex, complex]:
    """Return W11, W12 and W22."""
    s1, s2, c, s = cmath.exp(y[0]), cmath.exp(y[1]), cmath.cos(y[2]), cmath.sin(y[2])
    return s1 * c * c + s2 * s * s, (s1 - s2) * c * s, s1 * s * s + s2 * c * c


def rates(depth: int, y: Any) -> list[complex]:
    """Return the rates of the logs of the singular values and of the angle."""
    _, w12, w22 = entries(y)
    c, s = cmath.cos(y[2]), cmath.sin(y[2])
    g12, g22 = (w12 - 1) / 3, w22 / 3  # ∇ℓ of ((W12 − 1)² + (W21 − 1)² + W22²)/6
    along = 2 * c * s * g12 + s * s * g22, -2 * c * s * g12 + c * c * g22
    cross = (c * c - s * s) * g12 + c * s * g22
    a1, a2 = (cmath.exp(2 * x / depth) for x in y[:2])
    K = sum(a1**k * a2 ** (depth - 1 - k) for k in range(depth))
    power = 1 - 2 / depth
    logs = [-depth * cmath.exp(power * x) * g for x, g in zip(y[:2], along, strict=True)]
    return [*logs, -K * cross / (cmath.exp(y[0]) - cmath.exp(y[1]))]


def jacobian(depth: int, y: np.ndarray) -> np.ndarray:
    """Return the derivatives of the rates, by steps into the complex plane: no difference."""
    step = 1e-30
    columns = [[x.imag / step for x in rates(depth, y + step * 1j * e)] for e in np.eye(3)]
    return np.array(columns).T


def loss_passes(power: int) -> Callable[[float, np.ndarray], float]:
    """Return the event that the loss falls to 10^−power; the last one ends the path."""

    def event(t: float, y: np.ndarray) -> float:
        _, w12, w22 = (x.real for x in entries(y))
        return math.log((2 * (w12 - 1) ** 2 + w22**2) / 6) + power * math.log(10)

    event.terminal = power == DECADES[-1]  # type: ignore[attr-defined]
    return event


def by_radau(depth: int) -> tuple[list[float], np.ndarray]:
    """Return the times of the decades, and the coordinates there, (decades, 3)."""
    s, U = torch.linalg.eigh(W0)
    angle = math.atan2(float(U[1, 1]), float(U[0, 1]))
    found = solve_ivp(
        lambda t, y: [x.real for x in rates(depth, y)],
        (0, 1e20),
        [math.log(float(s[1])), math.log(float(s[0])), angle],
        "Radau",
        jac=lambda t, y: jacobian(depth, y),
        events=[loss_passes(power) for power in DECADES],
        rtol=1e-7,
        atol=[1e-9, 1e-6, 1e-12],
    )
    return [float(t[0]) for t in found.t_events], np.stack([y[0] for y in found.y_events])


def main() -> None:
    values = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    loss = MatrixCompletion(values, torch.tensor([[False, True], [True, True]]))
    for depth in (2, 3, 4, 5):
        times, truth = by_radau(depth)
        flow = gflow.SpectralFlow(loss, depth)
        began = time.process_time()
        ts, until = [0.0, *times, 1e30], gflow.events.loss_reaches(flow, END)
        path = gflow.integrate(flow, flow.start(W0), ts, rtol=1e-9, atol=0.0, until=until)
        seconds = time.process_time() - began
        corners = path.flow.end_to_end(path.ys[1:])[:, 0, 0]
        apart = (corners[:-1] / torch.tensor([entries(y)[0].real for y in truth]) - 1).abs()
        late = ((corners * (6 * path.losses[1:]).sqrt() - 1).abs())[len(times) - 1 :]
        logs = flow.log_singular_values(path.ys[1:-1])[:, 1]
        resolved = logs > math.log(1e-300)
        error = (logs - torch.from_numpy(truth[:, 1])).abs()[resolved].max()
        certificate = path.certificate
        print(
            f"depth {depth}, loss {float(path.losses[-1]):.1e} at t = {float(path.ts[-1]):.4g}: "
            f"W11 within {float(apart.max()):.1e} of Radau at every decade to 1e-8, "
            f"W11√(6ℓ) within {float(late.max()):.1e} of 1 below, second singular values to "
            f"{float(logs[resolved].exp().min()):.3e} within {float(error):.1e}; "
            f"{path.stats.rhs_evals} evaluations, {seconds:.1f} CPU s, certified "
            f"{certificate.holds} {'; '.join(certificate.failures())}"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
