"""Deep linear networks and W = UUᵀ against closed forms in many digits."""

from __future__ import annotations

import functools
import math

import mpmath as mp
import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from torch import Tensor

from gflow.flows import EndToEndFlow, FactorFlow, Flow, LayerwiseFlow, ProductFlow
from gflow.losses import MatrixCompletion, SquaredDistance
from tests.helpers import randn
from tests.truths.case import Truth
from tests.truths.landscapes import rotation


def without_closed_form(flow: Flow) -> Flow:
    """Let nothing but the solver know the path."""
    flow.closed_form = lambda y0: None
    return flow


def exactly(A: Tensor) -> mp.matrix:
    """Return a matrix in many digits."""
    return mp.matrix(A.double().tolist())


def riccati(F: mp.matrix, Q0: mp.matrix, c: int, t: float) -> mp.matrix:
    """Compute e^{Ft} Q₀ [I + c Q₀ᵀ (∫₀ᵗ e^{2Fs} ds) Q₀]⁻¹ Q₀ᵀ e^{Ft} in many digits."""
    lam, V = mp.eigsy(F)
    t = mp.mpf(t)
    grown = mp.diag([mp.exp(x * t) for x in lam])
    integral = mp.diag([mp.expm1(2 * x * t) / (2 * x) if x else t for x in lam])
    q = V.T * Q0
    inner = mp.eye(Q0.cols) + c * (q.T * integral * q)
    left = V * (grown * q)
    return left * inner**-1 * left.T


def _in_digits(function, elapsed: list[float], digits: int) -> Tensor:
    with mp.workdps(digits):
        return torch.tensor(
            [[[float(x) for x in row] for row in function(t).tolist()] for t in elapsed],
            dtype=torch.float64,
        )


def _symmetric(values: list[float], turn: int | None) -> Tensor:
    M = torch.diag(torch.tensor(values, dtype=torch.float64))
    if turn is not None:
        Q = rotation(len(values), turn)
        M = Q @ M @ Q.mT
    return 0.5 * (M + M.mT)


def factorization(
    *,
    target: list[float],
    scale: float,
    columns: int,
    turn: int | None,
    product: bool,
    seed: int,
    identity: bool,
    single: bool = False,
) -> Truth:
    """Make W = UUᵀ against a symmetric M, in U or in W, from U₀ = scale·(I, or Gaussian).

    Parameters
    ----------
    target : list of float
        The eigenvalues of M, of any sign.
    scale : float
    columns : int
        Of U: the rank of W.
    turn : int, optional
        The seed of a rotation of M.
    product : bool
        Whether the state is W.
    seed : int
        Of the start.
    identity : bool
        Whether the start is a multiple of the first columns of the eigenvectors.
    single : bool
        Whether float32.
    """
    dtype = torch.float32 if single else torch.float64
    n = len(target)
    M = _symmetric(target, turn).to(dtype)
    if identity:
        basis = torch.eye(n).double() if turn is None else rotation(n, turn)
        U0 = scale * basis[:, :columns]
    else:
        U0 = scale * randn(n, columns, seed=seed)
    U0 = U0.to(dtype)
    y0 = U0 @ U0.mT if product else U0
    loss = SquaredDistance(M)
    flow = without_closed_form(ProductFlow(loss)) if product else FactorFlow(loss)
    growing = [m for m in target if m > 1e-3] or [1.0]
    exits = sorted(max(-np.log(scale), 0.1) / (2 * m) for m in growing)
    end = 1.3 * exits[-1] + 1.0 / min(growing)
    digits = 60 + int(8 * max(abs(m) for m in target) * end / np.log(10))
    with mp.workdps(digits):
        F, Q0 = 2 * exactly(M), exactly(U0)

    def at(elapsed: list[float]) -> Tensor:
        return _in_digits(lambda t: riccati(F, Q0, 4, t), elapsed, digits)

    ts = sorted({0.0, end, *(t for e in exits for t in (0.7 * e, e) if t < end)})
    smallest = scale**2 if product else scale
    turned = turn is not None or not identity
    round_off = 100 * torch.finfo(dtype).eps * (1 / smallest if turned else 1 + end)
    return Truth(
        flow,
        y0,
        ts,
        at,
        measure=(lambda ys: ys) if product else flow.product,
        stiffness=4 * max(abs(m) for m in target) * end,
        round_off=round_off,
        factors=1 if product else 2,
    )


def thin_product(*, n: int, rank: int, scale: float, seed: int, missing: int) -> Truth:
    """Make `ProductFlow` on matrix completion from low rank; the truth is SciPy's of the factor.

    Parameters
    ----------
    n, rank : int
    scale : float
        Of the factor.
    seed : int
    missing : int
        How many entries are not observed.
    """
    A = randn(n, n, seed=seed)
    mask = torch.ones(n, n, dtype=torch.bool)
    order = torch.randperm(n * n, generator=torch.Generator().manual_seed(seed))
    mask.view(-1)[order[:missing]] = False
    values = A @ A.mT / n
    count = int(mask.sum())
    V, m = values.numpy(), mask.double().numpy()
    U0 = scale * randn(n, rank, seed=seed + 1)

    def rhs(t: float, u: np.ndarray) -> np.ndarray:
        U = u.reshape(n, rank)
        G = m * (U @ U.T - V) / count
        return -((G + G.T) @ U).ravel()

    end = count * (-2 * np.log(min(scale, 0.5)) + 6)

    @functools.cache
    def path(elapsed: tuple[float, ...]) -> Tensor:
        return _scipy(rhs, U0.numpy().ravel(), elapsed).reshape(len(elapsed), n, rank)

    def at(elapsed: list[float]) -> Tensor:
        U = path(tuple(elapsed))
        return U @ U.mT

    return Truth(
        ProductFlow(MatrixCompletion(values, mask)),
        U0 @ U0.mT,
        [0.0, 0.1 * end, 0.3 * end, end, 5 * end],
        at,
        stiffness=20 * end / count,
        round_off=1e-9,
    )


def _scipy(rhs, y0: np.ndarray, elapsed: tuple[float, ...]) -> Tensor:
    solution = solve_ivp(
        rhs, (0.0, elapsed[-1]), y0, "DOP853", elapsed, rtol=1e-12, atol=1e-16 * np.abs(y0).max()
    )
    assert solution.success
    return torch.from_numpy(solution.y.T.copy())


def _grown(start: float, target: float, depth: int, elapsed: np.ndarray) -> np.ndarray:
    def size(x):
        return target / (1 + np.exp(-x))

    def slope(x, t):
        return size(x) ** (2 / depth - 1) / (depth * target)

    first, last = math.log(start / (target - start)), 45.0  # e^-45 is below round-off
    least = 1e-15 * slope(first, 0.0)
    clock = solve_ivp(
        slope,
        (first, last),
        [0.0],
        "DOP853",
        dense_output=True,
        rtol=3e-14,
        atol=least,
        max_step=0.5,
    ).sol
    end = float(clock(last)[0])
    xs = [
        last if t >= end else brentq(lambda x, t=t: float(clock(x)[0]) - t, first, last, xtol=1e-14)
        for t in elapsed.tolist()
    ]
    return np.where(elapsed > 0, size(np.array(xs)), start)


def modes(s0: Tensor, m: Tensor, depth: int, elapsed: list[float]) -> Tensor:
    """Solve ṡ = N s^{2−2/N}(m − s), (T, r), by SciPy, one mode at a time.

    A mode that grows is t(x), x = log(s/(m − s)), inverted: errors of s(t) would be amplified by
    all the growth to come. Any other is solved in log s.
    """
    columns = []
    for start, target in zip(s0.tolist(), m.tolist(), strict=True):
        if start == 0 and depth > 1:
            columns.append(np.zeros(len(elapsed)))
            continue
        if depth == 1:
            columns.append(target + (start - target) * np.exp(-np.array(elapsed)))
            continue

        if 0 < start < target:
            columns.append(_grown(start, target, depth, np.array(elapsed)))
            continue

        def rate(t, x, target=target):
            s = np.exp(x)
            return depth * s ** (1 - 2 / depth) * (target - s)

        solution = solve_ivp(
            rate, (0.0, elapsed[-1]), [np.log(start)], "LSODA", elapsed, rtol=1e-12, atol=1e-12
        )
        assert solution.success, solution.message
        columns.append(np.exp(solution.y[0]))
    return torch.from_numpy(np.stack(columns, axis=1))


def aligned(
    *,
    target: list[float],
    starts: list[float],
    depth: int,
    shape: list[int],
    turn: int | None,
    layers: bool,
    single: bool = False,
) -> Truth:
    """Make a deep linear network from a balanced start that shares M's singular vectors.

    Parameters
    ----------
    target, starts : list of float
        Singular values of M (of any sign) and of the start; one that is 0 stays 0.
    depth : int
    shape : list of int
        d_N and d_0.
    turn : int, optional
        The seed of the singular vectors; None: those of the coordinates. With a seed the larger
        start belongs to the larger target: else round-off turns the singular vectors, as modes
        with a small target that are ahead leave them on a saddle of rotations.
    layers : bool
        Whether the state is the layers.
    single : bool
        Whether float32.
    """
    dtype = torch.float32 if single else torch.float64
    rows, columns = shape
    r = len(target)
    if turn is not None:
        target, starts = sorted(target, reverse=True), sorted(starts, reverse=True)
    m, s0 = torch.tensor(target).double(), torch.tensor(starts).double()
    U, V = torch.eye(rows).double()[:, :r], torch.eye(columns).double()[:, :r]
    if turn is not None:
        U, V = rotation(rows, turn)[:, :r], rotation(columns, turn + 1)[:, :r]
    loss = SquaredDistance(((U * m) @ V.mT).to(dtype))
    W0 = ((U * s0) @ V.mT).to(dtype)
    width = max(min(rows, columns), r)
    if layers:
        flow = LayerwiseFlow(loss, [columns, *[width] * (depth - 1), rows])
        y0 = flow.pack(_layers(U, s0, V, depth, width, dtype))
    else:
        flow, y0 = without_closed_form(EndToEndFlow(loss, depth)), W0
    grows = (m > 0) & (s0 > 0)
    end = 3.0
    for s, x in zip(s0[grows].tolist(), m[grows].tolist(), strict=True):
        s = min(s, x)
        end = max(end, _arrival(s, x, depth) + 3 / (depth * x ** (2 - 2 / depth)))
    ts = [0.0, *(end * f for f in (0.05, 0.3, 0.7, 0.85, 0.95, 1.0))]

    @functools.cache
    def path(elapsed: tuple[float, ...]) -> Tensor:
        return modes(s0, m, depth, list(elapsed))

    def at(elapsed: list[float]) -> Tensor:
        return (U * path(tuple(elapsed))[:, None, :]) @ V.mT

    small = [s for s in starts if s > 0] or [1.0]
    least = min(small) ** (1 / depth) if layers else min(small)
    eps = torch.finfo(dtype).eps
    fastest = depth * float(torch.cat([m.abs(), s0]).max()) ** (2 - 2 / depth)
    return Truth(
        flow,
        y0,
        ts,
        at,
        measure=flow.end_to_end,
        stiffness=fastest * end,
        round_off=100 * eps * (1 if turn is None and not single else 10 / least),
        factors=depth if layers else 1,
    )


def _arrival(s: float, m: float, depth: int) -> float:
    """About the time from s to m/2."""
    if depth == 1:
        return 1.0
    if depth == 2:
        return max(np.log(m / s), 0.0) / (2 * m)
    p = 1 - 2 / depth
    return (s**-p - m**-p) / (p * depth * m)


def _layers(
    U: Tensor, s0: Tensor, V: Tensor, depth: int, width: int, dtype: torch.dtype
) -> list[Tensor]:
    """Balanced layers, made here and not by gflow."""
    r, root = len(s0), s0 ** (1 / depth)
    if depth == 1:
        return [((U * s0) @ V.mT).to(dtype)]
    first, last = torch.zeros(width, len(V)).double(), torch.zeros(len(U), width).double()
    first[:r], last[:, :r] = root[:, None] * V.mT, U * root
    middle = torch.zeros(width, width).double()
    middle[:r, :r] = torch.diag(root)
    return [layer.to(dtype) for layer in [first, *[middle] * (depth - 2), last]]


def two_layers(
    *, shape: list[int], rank: int, scale: float, seed: int, layers: bool, target_scale: float
) -> Truth:
    """Make a two-layer network from any balanced start W₀ of a rank, unaligned with M.

    Parameters
    ----------
    shape : list of int
    rank : int
    scale : float
        Of W₀.
    seed : int
    layers : bool
        Whether the state is the layers.
    target_scale : float
    """
    rows, columns = shape
    M = target_scale * randn(rows, columns, seed=seed)
    U, V = rotation(rows, seed + 1)[:, :rank], rotation(columns, seed + 2)[:, :rank]
    s0 = scale * torch.linspace(1.0, 0.4, rank, dtype=torch.float64)
    width = min(rows, columns)
    first, second = _layers(U, s0, V, 2, width, torch.float64)
    sigma = torch.linalg.svdvals(M)
    exits = [max(np.log(float(s) / scale), 0.2) / (2 * float(s)) for s in sigma[:rank]]
    end = 1.3 * max(exits) + 1 / float(sigma[rank - 1])
    digits = 60 + int(4 * float(sigma[0]) * end / np.log(10))
    with mp.workdps(digits):
        zeros = torch.zeros(rows + columns, rows + columns, dtype=torch.float64)
        zeros[:columns, columns:], zeros[columns:, :columns] = M.mT, M
        F, Q0 = exactly(zeros), exactly(torch.cat([first.mT, second]))

    def at(elapsed: list[float]) -> Tensor:
        whole = _in_digits(lambda t: riccati(F, Q0, 1, t), elapsed, digits)
        return whole[:, columns:, :columns]

    loss = SquaredDistance(M)
    if layers:
        flow = LayerwiseFlow(loss, [columns, width, rows])
        y0 = flow.pack([first, second])
    else:
        flow, y0 = without_closed_form(EndToEndFlow(loss, 2)), second @ first
    return Truth(
        flow,
        y0,
        sorted({0.0, 0.1 * end, end, *(t for t in exits if t < end)}),
        at,
        measure=flow.end_to_end,
        stiffness=2 * float(sigma[0]) * end,
        round_off=1e-13 / (scale**0.5 if layers else scale),
        factors=2 if layers else 1,
    )
