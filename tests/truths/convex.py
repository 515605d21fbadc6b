"""Affine flows with spectra over many decades, and logistic regression at late times."""

from __future__ import annotations

import math

import torch
from scipy.special import wrightomega
from torch import Tensor

import gflow
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.losses import LinearRegression
from tests.helpers import randn
from tests.truths.case import Truth
from tests.truths.landscapes import Landscape, rotation


def affine(
    *, rates: list[float], turn: int | None, kind: str, moment: int, seed: int, single: bool = False
) -> Truth:
    """Make a flow u̇ = −H(u − y) with known eigenvectors.

    Parameters
    ----------
    rates : list of float
        The eigenvalues, at least one of them positive.
    turn : int, optional
        The seed of the eigenvectors; None: the coordinates.
    kind : str
        "kernel"; "product", a kernel known by its products; "network", a linear module with a
        mean square; "regression", an `EndToEndFlow` of one layer.
    moment : int
        The path ends at 3 over the positive rate of this index (modulo their number).
    seed : int
        Of start and target.
    single : bool
        Whether float32.
    """
    dtype = torch.float32 if single else torch.float64
    lam = torch.tensor(rates).double()
    n = len(lam)
    Q = torch.eye(n).double() if turn is None else rotation(n, turn)
    y, u0 = randn(n, seed=seed), randn(n, seed=seed + 1)
    positive = sorted(x for x in rates if x > 0)
    end = 3 / positive[moment % len(positive)]
    round_off = 100 * torch.finfo(dtype).eps * (1 if turn is None else max(rates) * end)
    if kind in ("kernel", "product"):
        H = (Q * lam) @ Q.mT
        H = (0.5 * (H + H.mT)).to(dtype)
        target, start = y.to(dtype), u0.to(dtype)
        flow = KernelFlow(H if kind == "kernel" else _Product(H, turn is None), target)
    else:
        X = torch.diag((lam * n).sqrt()) @ Q.mT  # XᵀX/n = H
        X = X.to(dtype)
        round_off = (
            100 * torch.finfo(dtype).eps * (1 if turn is None else (max(rates) * end) ** 0.5)
        )
        if kind == "network":
            module = torch.nn.Linear(n, 1, bias=False).to(dtype)
            flow = gflow.NetworkFlow(
                module,
                lambda out, targets: 0.5 * (out - targets).square().mean(),
                X,
                (X.double() @ y[:, None]).to(dtype),
            )
            start = u0.to(dtype)
        else:
            flow = EndToEndFlow(LinearRegression(X, (X.double() @ y[:, None]).to(dtype)), 1)
            start = u0[None].to(dtype)

    def at(elapsed: list[float]) -> Tensor:
        t = torch.tensor(elapsed, dtype=torch.float64)
        path = y + (torch.exp(-t[:, None] * lam) * ((u0 - y) @ Q)) @ Q.mT
        return path.reshape(len(elapsed), *start.shape)

    return Truth(
        flow,
        start,
        [0.0, *sorted({end * f for f in (1e-3, 0.1, 1 / 3, 1.0)})],
        at,
        stiffness=max(rates) * end,
        round_off=round_off,
    )


class _Product:
    """v ↦ H v."""

    def __init__(self, H: Tensor, diagonal: bool):
        self._H, self._diagonal = H, H.diagonal() if diagonal else None

    def __call__(self, v: Tensor) -> Tensor:
        if self._diagonal is None:
            return self._H @ v
        return self._diagonal[:, None] * v if v.ndim > 1 else self._diagonal * v


def logistic(
    *, sizes: list[float], turn: int | None, criterion: str, end: float, start: float
) -> Truth:
    """Make logistic regression on orthogonal samples: z + e^z rises linearly for each margin z.

    Parameters
    ----------
    sizes : list of float
        Norms of the samples.
    turn : int, optional
        The seed of their directions; None: the coordinates.
    criterion : str
        "logistic": log(1 + e^{−z}) of one output; "cross-entropy": of two logits.
    end : float
        The last time.
    start : float
        Every margin at first.
    """
    n = len(sizes)
    s = torch.tensor(sizes).double()
    Q = torch.eye(n).double() if turn is None else rotation(n, turn)
    X = s[:, None] * Q.mT
    two = criterion == "cross-entropy"
    module = torch.nn.Linear(n, 2 if two else 1, bias=False).double()
    if two:
        labels = torch.ones(n, dtype=torch.long)
        flow = gflow.NetworkFlow(module, torch.nn.functional.cross_entropy, X, labels)
    else:
        ones = torch.ones(n, 1).double()
        flow = gflow.NetworkFlow(
            module, torch.nn.functional.binary_cross_entropy_with_logits, X, ones
        )
    speed = (2 if two else 1) * s.square() / n

    def at(elapsed: list[float]) -> Tensor:
        t = torch.tensor(elapsed, dtype=torch.float64)[:, None]
        rhs = start + math.exp(start) + speed * t  # z + e^z, and e^z = ω(z + e^z)
        z = torch.log(torch.from_numpy(wrightomega(rhs.numpy())))
        w = (z / s) @ Q.mT
        return torch.cat([-0.5 * w, 0.5 * w], dim=-1) if two else w

    ts = [0.0, *(t for t in (1.0, 1e3, 1e6, 1e9, 1e15, 1e25) if t < end), end]
    return Truth(
        flow,
        at([0.0])[0],
        ts,
        at,
        stiffness=0.0,
        round_off=0.0 if turn is None else 1e-12,
    )


def modified(*, rates: list[float], turn: int | None, step: float, seed: int) -> Truth:
    """Make the modified flow of a quadratic, of rates λ(1 + ηλ/2).

    Parameters
    ----------
    rates : list of float
    turn : int, optional
        The seed of the eigenvectors.
    step : float
        η times the largest rate.
    seed : int
        Of the start.
    """
    lam = torch.tensor(rates).double()
    n = len(lam)
    Q = torch.eye(n).double() if turn is None else rotation(n, turn)
    y, u0 = randn(n, seed=seed), randn(n, seed=seed + 1)
    eta = step / max(rates)
    flow = gflow.ModifiedFlow(Landscape(lam, Q.mT @ y, torch.zeros(0).double(), Q), eta)
    end = 3 / min(rates)
    faster = lam * (1 + 0.5 * eta * lam)

    def at(elapsed: list[float]) -> Tensor:
        t = torch.tensor(elapsed, dtype=torch.float64)
        return y + (torch.exp(-t[:, None] * faster) * ((u0 - y) @ Q)) @ Q.mT

    return Truth(
        flow,
        u0,
        [0.0, 0.01 * end, 0.3 * end, end],
        at,
        stiffness=float(faster.max()) * end,
        round_off=1e-12 * max(rates) / min(rates),
    )
