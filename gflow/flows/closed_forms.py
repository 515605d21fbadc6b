r"""Closed forms shared by several flows, written so that large t cannot overflow.

`riccati` solves Ṗ = F P + P F − c P² for P(0) = Q₀Q₀ᵀ, F symmetric:

    P(t) = e^{Ft} Q₀ [I + c Q₀ᵀ (∫₀ᵗ e^{2Fs} ds) Q₀]⁻¹ Q₀ᵀ e^{Ft}

which is both the two-layer linear network (Fukumizu 1998; Saxe et al. 2014, eq. 6;
Braun et al. 2022, eq. 9) and the fully observed W = UUᵀ. `aligned_mode` solves
ṡ = N s^{2−2/N}(m − s), one singular value of a depth-N network whose start is
aligned with its target (Saxe et al. 2014). Time unit: t = k·step_size of descent
on ½‖W − M‖².
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from gflow.linalg.arrays import to_numpy
from gflow.linalg.eigen import scaled_rank, singular_modes

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANEL = 0.5  # width in x of one quadrature panel: the integrand changes by e^0.5 at most
_EARLY = 0.1  # time over the fastest time scale until which nothing grows
_SATURATED = 40.0  # e^-40 is below round-off against 1


def riccati(F: Tensor, Q0: Tensor, c: float, ts: Tensor) -> Tensor:
    """Compute P(t) of Ṗ = F P + P F − c P² with P(0) = Q₀Q₀ᵀ.

    Parameters
    ----------
    F : Tensor, shape (n, n)
        Symmetric.
    Q0 : Tensor, shape (n, k)
        Any factor of the start.
    c : float
        Positive coefficient.
    ts : Tensor, shape (T,)
        Times, t ≥ 0.

    Returns
    -------
    Tensor, shape (T, n, n)
        P at each time.

    Notes
    -----
    In the eigenbasis of F, with B_i² = ∫₀ᵗ e^{2λ_i s} ds and q = VᵀQ₀, the formula is
    R·S·R with R_i = e^{λ_i t}/B_i, which is bounded, and S = Z(I + cZᵀZ)⁻¹Zᵀ, Z = Bq,
    whose rows grow like e^{λ_i t}. A rotation of the columns makes q lower trapezoidal
    for decreasing λ; each column is then divided by its largest entry. What remains is
    bounded by one, and the QR factors of [√c Y; C] give S = Q₁Q₁ᵀ/c.

    Examples
    --------
    >>> import torch
    >>> F, Q0 = torch.eye(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    >>> P = riccati(F, Q0, 1.0, torch.tensor([0.0, 1e6], dtype=torch.float64))
    >>> [round(p, 12) for p in P.flatten().tolist()]
    [1.0, 2.0]
    """
    factor = riccati_factor(F, Q0, c, ts)
    return torch.where((ts == 0)[:, None, None], Q0 @ Q0.mT, factor @ factor.mT)


def riccati_factor(F: Tensor, Q0: Tensor, c: float, ts: Tensor) -> Tensor:
    """Compute a factor of `riccati`: some Q(t) with P(t) = Q(t)Q(t)ᵀ, and Q(0) = Q₀.

    Parameters
    ----------
    F : Tensor, shape (n, n)
        Symmetric.
    Q0 : Tensor, shape (n, k)
        Any factor of the start.
    c : float
        Positive coefficient.
    ts : Tensor, shape (T,)
        Times, t ≥ 0.

    Returns
    -------
    Tensor, shape (T, n, k)
        Factors, each up to an orthogonal matrix on its right, which need not be continuous in t.

    Examples
    --------
    >>> F, Q0 = torch.eye(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    >>> Q = riccati_factor(F, Q0, 1.0, torch.tensor([1e6], dtype=torch.float64))
    >>> round(Q.square().item(), 12)
    2.0
    """
    lam, V = torch.linalg.eigh(F)
    lam, V = lam.flip(0), V.flip(1)
    q = V.mT @ Q0
    _, R = torch.linalg.qr(q.mT, mode="complete")
    L = R.mT  # n × k, lower trapezoidal: q times a rotation
    noise = torch.finfo(q.dtype).eps * len(lam) * q.abs().max()
    L = torch.where(L.abs() <= noise, torch.zeros_like(L), L)

    t = ts[:, None]
    start = t == 0
    z = 2 * lam.abs() * torch.where(start, torch.ones_like(t), t)
    # log B² = log ∫ e^{2λs} ds and R = e^{λt}/B, both from 1 − e^{−2|λ|t}.
    unit = torch.where(z > 0, -torch.expm1(-z) / z.clamp_min(torch.finfo(q.dtype).tiny), 1.0)
    log_t_unit = torch.log(torch.where(start, 1.0, t) * unit)
    log_B = 0.5 * log_t_unit + torch.clamp_min(lam * t, 0.0)
    log_R = torch.clamp_max(lam * t, 0.0) - 0.5 * log_t_unit

    log_Y = log_B[:, :, None] + L.abs().log()
    e = log_Y.amax(dim=1).clamp_min(0.0)
    Y = torch.sign(L) * torch.exp(log_Y - e[:, None, :])
    stacked = torch.cat([Y * c**0.5, torch.diag_embed(torch.exp(-e))], dim=1)
    Q1 = torch.linalg.qr(stacked)[0][:, : len(lam)]
    half = torch.exp(log_R)[:, :, None] * Q1 / c**0.5
    # Early Q₁ is as small as √t beside 1: there nothing overflows, and the formula itself is used.
    early = ts * (lam.abs().max() + c * Q0.square().sum()) <= _EARLY
    if bool(early.any()):
        grown = torch.exp(lam * t[early])[:, :, None] * q
        B = torch.exp(log_B[early])[:, :, None] * q
        N = torch.eye(q.shape[1], dtype=q.dtype, device=q.device) + c * (B.mT @ B)
        lower = torch.linalg.cholesky(N)
        half[early] = torch.linalg.solve_triangular(lower, grown.mT, upper=False).mT
    return torch.where(start[..., None], Q0, V @ half)


def aligned_mode(s0: Tensor, m: Tensor, depth: int, ts: Tensor) -> Tensor:
    """Compute s(t) of ṡ = N s^{2−2/N}(m − s), elementwise over modes.

    Parameters
    ----------
    s0, m : Tensor, shape (r,)
        Starts s ≥ 0 (any sign for depth 1) and targets, of any sign.
    depth : int
        Number of layers N ≥ 1.
    ts : Tensor, shape (T,)
        Times, t ≥ 0.

    Returns
    -------
    Tensor, shape (T, r)
        The modes at each time.

    Notes
    -----
    N = 1 and 2 are elementary. For N ≥ 3, x = log(s/|m − s|) obeys
    dt = s^{2/N−1} dx / (N m), a smooth integrand: t(x) is one quadrature, inverted by
    Newton's method, accurate to round-off.

    Examples
    --------
    >>> import torch
    >>> m = torch.ones(1, dtype=torch.float64)
    >>> aligned_mode(0.1 * m, m, 3, torch.tensor([0.0, 50.0], dtype=torch.float64)).tolist()
    [[0.1], [1.0]]
    """
    t = ts[:, None]
    if depth == 1:
        return m + (s0 - m) * torch.exp(-t)
    if depth == 2:
        safe = torch.where(m == 0, torch.ones_like(m), m.abs())
        z = 2 * safe * t
        growth = torch.where(m == 0, 2 * t, -torch.expm1(-z) / safe)
        decay = torch.exp(-z)
        below = torch.where(m == 0, 1 + s0 * growth, decay + s0 * growth)
        up = s0 / torch.where(s0 == 0, torch.ones_like(below), below)
        down = s0 * decay / (1 + s0 * growth)
        return torch.where(m < 0, down, up)
    if not len(s0):
        return s0.new_empty(len(ts), 0)
    columns = [_deep_mode(float(a), float(b), depth, ts) for a, b in zip(s0, m, strict=True)]
    return torch.stack(columns, dim=-1)


def shared_singular_modes(W0: Tensor, M: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Decompose a start and its target in common singular vectors, where there are such.

    Parameters
    ----------
    W0, M : Tensor, shape (d_N, d_0)
        Start and target.

    Returns
    -------
    (U, s, V, m), or None
        W0 = U diag(s) Vᵀ and UᵀM = diag(m) Vᵀ, M V = U diag(m), for U (d_N, r), V (d_0, r), s > 0
        and m (r,); None where the singular vectors differ, or where round-off hides a mode of W0.

    Examples
    --------
    >>> import torch
    >>> M = torch.diag(torch.tensor([3.0, 1.0]))
    >>> _, s, _, m = shared_singular_modes(torch.diag(torch.tensor([0.5, 2.0])), M)
    >>> s.tolist(), m.tolist()
    ([2.0, 0.5], [1.0, 3.0])
    >>> shared_singular_modes(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), M) is None
    True
    """
    U, sigma, Vh = singular_modes(W0)
    eps = torch.finfo(W0.dtype).eps * max(W0.shape)
    k = int((sigma > 0).sum())
    if k < int(scaled_rank(W0)):  # modes of the start are lost
        return None
    U, sigma, V = U[:, :k], sigma[:k], Vh[:k].mT
    # Equal singular values do not fix the basis: diagonalise M within each group.
    UMV = U.mT @ M @ V
    if k > 1:
        groups = (sigma[:-1] - sigma[1:] > 1e3 * eps * sigma[:-1]).tolist()
        cuts = [0, *(i + 1 for i, cut in enumerate(groups) if cut), k]
        rotations = []
        for start, stop in itertools.pairwise(cuts):
            block = UMV[start:stop, start:stop]
            rotations.append(torch.linalg.eigh(0.5 * (block + block.mT))[1])
        rotation = torch.block_diag(*rotations)
        U, V = U @ rotation, V @ rotation
        UMV = U.mT @ M @ V
    m = UMV.diagonal()
    left_gap = float((U.mT @ M - m[:, None] * V.mT).norm())
    right_gap = float((M @ V - U * m).norm())
    tolerance = 1e2 * eps * float(M.norm()) + 1e-300
    return (U, sigma, V, m) if max(left_gap, right_gap) <= tolerance else None


def _deep_mode(s0: float, m: float, depth: int, ts: Tensor) -> Tensor:
    """One mode for depth ≥ 3, in float64 on the host."""
    times = to_numpy(ts)
    p = 2 - 2 / depth
    if s0 == 0 or s0 == m:
        s = np.full_like(times, s0)
    elif m == 0:
        s = (s0**-p + depth * p * times) ** (-1 / p)
    else:
        s = _invert(s0, m, depth, times)
    return torch.as_tensor(s, dtype=ts.dtype, device=ts.device)


def _invert(s0: float, m: float, depth: int, times: np.ndarray) -> np.ndarray:
    # s as a function of x = log(s/|m − s|); three branches, s < m, s > m > 0 and m < 0 < s.
    if m > 0 and s0 < m:
        state = lambda x: m / (1 + np.exp(-x))  # noqa: E731
        x0 = np.log(s0) - np.log(m - s0)
        unit = 1.0
    else:  # x has the sign of m; s ≈ m/x where s is far above |m|, so x must keep its digits
        state = lambda x: m / -np.expm1(-x)  # noqa: E731
        x0 = -np.log1p(-m / s0)
        unit = 0.0
    sign = 1.0 if m > 0 else -1.0
    rate = lambda x: state(x) ** (2 / depth - 1) / (depth * m)  # noqa: E731  dt/dx

    def elapsed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        x = 0.5 * (a + b)[..., None] + 0.5 * (b - a)[..., None] * _NODES
        return 0.5 * (b - a) * (rate(x) @ _WEIGHTS)

    knots, clock = [x0], [0.0]
    while clock[-1] < times.max() and not (m > 0 and knots[-1] > _SATURATED):
        a = knots[-1]
        # Beside the pole at x = 0 (starts above their target) panels shrink with |x|.
        width = _PANEL if (m > 0 and s0 < m) else min(_PANEL, 0.5 * abs(a))
        b = a + sign * width
        clock.append(clock[-1] + float(elapsed(np.array(a), np.array(b))))
        knots.append(b)
    grid, t_grid = np.array(knots), np.array(clock)

    inside = np.minimum(times, t_grid[-1])
    k = np.clip(np.searchsorted(t_grid, inside, side="right") - 1, 0, max(len(grid) - 2, 0))
    base, t_base = grid[k], t_grid[k]
    x = base + (inside - t_base) / rate(base)
    if len(grid) > 1:
        low, high = np.minimum(base, grid[k + 1]), np.maximum(base, grid[k + 1])
        for _ in range(60):
            x = np.clip(x, low, high)
            step = (t_base + elapsed(base, x) - inside) / rate(x)
            x = x - step
            if (np.abs(step) <= 4 * np.finfo(float).eps * (unit + np.abs(x))).all():
                break
    s = state(x)
    # Past saturation s differs from m by less than round-off.
    return np.where(times > t_grid[-1], m if m > 0 else s, np.where(times == 0, s0, s))
