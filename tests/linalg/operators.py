"""Symmetric operators of known spectra, and functions of them by their eigenvectors."""

import numpy as np
import torch

from gflow.linalg.lanczos import phi
from tests.helpers import randn


def operator(lam, seed=0):
    V = torch.linalg.qr(randn(len(lam), len(lam), seed=seed))[0]
    H = (V * lam) @ V.mT
    return (H + H.mT) / 2, V


def truth(order, ts, lam, V, r):
    factors = torch.from_numpy(phi(order, np.array(ts)[:, None], lam.numpy()))
    return torch.stack([((r @ V) * f) @ V.mT for f in factors])


SPECTRA = {
    "decaying": 100 * 0.7 ** torch.arange(80, dtype=torch.float64),
    "uniform": torch.linspace(0.0, 50.0, 80, dtype=torch.float64),
    "singular": torch.cat([torch.zeros(30), torch.linspace(0.1, 9.0, 50)]).double(),
    "clustered": torch.cat([torch.full((40,), 3.0), torch.linspace(10.0, 10.001, 40)]).double(),
}
