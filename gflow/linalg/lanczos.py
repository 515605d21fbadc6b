r"""Lanczos: a symmetric operator on the Krylov space of a vector.

    A Q_m = Q_m T_m + β_m q_{m+1} e_mᵀ,   ‖r‖ Q_m g(T_m) e_1 ≈ g(A) r

with Q_m orthonormal, q_1 = r/‖r‖, and T_m tridiagonal (Saad 1992, doi:10.1137/0729014). The
error of the exponentials among these g has a bound that needs T_m and β_m alone. The residual
of w_m(t) = ‖r‖ Q_m tᵖφ_p(−tT_m) e_1 in the equation it solves is β_m q_{m+1}‖r‖[tᵖφ_p(−tT_m)]_{m1},
and for A positive semidefinite e^{−sA} is a contraction, so

    ‖w(t) − w_m(t)‖ ≤ β_m ‖r‖ ∫₀ᵗ |[sᵖφ_p(−sT_m)]_{m1}| ds = β_m ‖r‖ |[t^{p+1}φ_{p+1}(−tT_m)]_{m1}|.

The integral is exact: signs alternating along the diagonal make −T_m a matrix with
positive off-diagonal entries, so the entry (m, 1) of its exponential never changes sign. The
bound grows with t, so its value at the last time is enough.

[g(T_m)]_{m1} = ∏β_i · g[θ_1, …, θ_m] is summed as Σ_j g(θ_j) ∏β_i/∏_{i≠j}(θ_j − θ_i): its weights
keep the relative accuracy that the last components of computed eigenvectors lose where
they are tiny. What round-off may do to the sum is estimated beside it.

Memory: the basis, vectors × m × n numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.linalg.arrays import to_numpy
from gflow.linalg.orthogonalisation import orthogonalise

#: v ↦ A v for each row of v, shape (vectors, n).
Product = Callable[[Tensor], Tensor]

_ROUND_OFF = 8.0  # of eps‖A‖: the error of a computed Ritz value
_SERIES = 0.3  # below this φ_2 is summed as a series


def phi(order: int, t: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Compute tᵖφ_p(−tθ).

    Parameters
    ----------
    order : int
        p, 0, 1 or 2.
    t : ndarray
        Times, at least 0.
    theta : ndarray
        Eigenvalues, at least 0, which broadcast against the times.

    Returns
    -------
    ndarray

    Examples
    --------
    >>> import numpy as np
    >>> phi(1, np.array([0.0, 1.0, 1e9]), np.zeros(1)).tolist()
    [0.0, 1.0, 1000000000.0]
    """
    z = t * theta
    if order == 0:
        return np.exp(-z)
    safe = np.where(z > 0, z, 1.0)
    if order == 1:
        return t * np.where(z > 0, -np.expm1(-safe) / safe, 1.0)
    small = np.minimum(z, _SERIES)
    series = np.zeros_like(z)
    for j in range(12, 2, -1):  # Σ (−z)^{j−2}/j! from its last term
        series = (1 - small * series) / j
    series = (1 - small * series) / 2
    return t * t * np.where(z > _SERIES, (safe + np.expm1(-safe)) / safe**2, series)


class Lanczos:
    """Orthonormal bases of the Krylov spaces of a symmetric operator, one for each row of start.

    Every new vector is orthogonalised twice against all before it. Where a space is
    invariant (or a row of start is zero) its later vectors are zero and change nothing.
    A vector takes a product and a dozen small operations, none of which waits for the device.

    Parameters
    ----------
    product : callable
        v ↦ A v for each row of v, shape (vectors, n).
    start : Tensor, shape (vectors, n)
        r, one a row.

    Examples
    --------
    >>> import torch
    >>> A = torch.diag(torch.tensor([1.0, 5.0, 3.0], dtype=torch.float64))
    >>> space = Lanczos(lambda v: v @ A, torch.ones(1, 3, dtype=torch.float64))
    >>> space.extend(3)
    >>> space.ritz()[0].round(9).tolist()
    [[1.0, 3.0, 5.0]]
    """

    def __init__(self, product: Product, start: Tensor):
        vectors, n = start.shape
        self.n = n
        self._product = product
        self._norms = torch.linalg.vector_norm(start, dim=1)
        self._basis = start.new_empty(vectors, min(33, n + 1), n)
        inverse = torch.where(self._norms > 0, self._norms.reciprocal(), 0.0)
        torch.mul(start, inverse[:, None], out=self._basis[:, 0])
        self._largest = torch.zeros_like(self._norms)
        self._along: list[Tensor] = []
        self._beta: list[Tensor] = []
        self._inverse: list[Tensor] = []
        self._solved: tuple[int, np.ndarray, np.ndarray] | None = None

    @property
    def size(self) -> int:
        """Number m of basis vectors, and of products so far."""
        return len(self._beta)

    @property
    def norms(self) -> np.ndarray:
        """Norms ‖r‖, shape (vectors,)."""
        return to_numpy(self._norms)

    def extend(self, count: int) -> None:
        """Add basis vectors, at one product each."""
        eps = torch.finfo(self._basis.dtype).eps
        for m in range(self.size, self.size + count):
            if m + 1 == self._basis.shape[1]:
                added = min(m, self.n - m)
                self._basis = torch.cat([self._basis, torch.empty_like(self._basis[:, :added])], 1)
            Q = self._basis[:, : m + 1]
            w = self._product(self._basis[:, m])[:, None]
            self._largest = torch.maximum(self._largest, torch.linalg.vector_norm(w, dim=(1, 2)))
            w, (along, _) = orthogonalise(w, Q)
            beta = torch.linalg.vector_norm(w, dim=(1, 2))
            inverse = torch.where(beta > 10 * eps * self._largest, beta.reciprocal(), 0.0)
            torch.mul(w[:, 0], inverse[:, None], out=self._basis[:, m + 1])
            self._along.append(along[:, 0, -1])
            self._beta.append(beta)
            self._inverse.append(inverse)

    # -- the small problem, in float64 on the host -------------------------------------

    def _tridiagonal(self) -> tuple[np.ndarray, np.ndarray]:
        """Return T_m, shape (vectors, m, m), and β, shape (vectors, m), its last entry the β_m
        that leads out of the space."""
        stacked = torch.stack([torch.stack(x) for x in (self._along, self._beta, self._inverse)])
        alpha, beta, inverse = to_numpy(stacked).transpose(0, 2, 1)
        if not np.isfinite(alpha).all() or not np.isfinite(beta).all():
            raise InputError(
                "the product with the operator must be finite, but it returned NaN or infinity; "
                "check the operator and the start, or scale them down"
            )
        beta = np.where(inverse > 0, beta, 0.0)
        if self.size == self.n:  # the space is everything
            beta[:, -1] = 0.0
        T = np.zeros((*alpha.shape, self.size))
        i = np.arange(self.size)
        T[:, i, i] = alpha
        T[:, i[1:], i[:-1]] = T[:, i[:-1], i[1:]] = beta[:, :-1]
        return T, beta

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute the eigenvalues and eigenvectors of T_m.

        Returns
        -------
        theta : ndarray, shape (vectors, m)
            Ascending, round-off set to zero.
        vectors : ndarray, shape (vectors, m, m)

        Raises
        ------
        InputError
            If an eigenvalue is negative, or a product was not finite.
        """
        if self._solved is None or self._solved[0] != self.size:
            theta, V = map(to_numpy, torch.linalg.eigh(torch.from_numpy(self._tridiagonal()[0])))
            self._solved = self.size, self._decay_rates(theta), V
        return self._solved[1:]

    def _decay_rates(self, theta: np.ndarray) -> np.ndarray:
        """Return Ritz values without their round-off; InputError where one is negative."""
        noise = self.n * torch.finfo(self._basis.dtype).eps * np.abs(theta).max(axis=1)[:, None]
        if (theta < -10 * noise).any():
            raise InputError(
                "the operator must be positive semidefinite, but it has an eigenvalue below "
                f"{theta.min():.3g} (largest {theta.max():.3g}), along which the flow "
                "explodes; pass a positive semidefinite one"
            )
        return np.where(theta > noise, theta, 0.0)

    def bound(self, ts: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute the bound on ‖w(t) − w_m(t)‖ of the module's head.

        Parameters
        ----------
        ts : ndarray, shape (T,)
            Times.
        order : int
            p, 0 or 1.

        Returns
        -------
        bound, round_off : ndarray, shape (T, vectors)
            The bound, and the round-off of computing it, which is to be added.
        """
        eps, i = np.finfo(float).eps, np.arange(self.size)
        T, beta = self._tridiagonal()
        theta = to_numpy(torch.linalg.eigvalsh(torch.from_numpy(T)))
        top = np.maximum(np.abs(theta).max(axis=1), np.finfo(float).tiny)[:, None, None]
        gaps = np.maximum(np.abs(theta[:, :, None] - theta[:, None, :]), eps * top)
        gaps[:, i, i] = 1.0
        with np.errstate(divide="ignore"):  # log 0 where the space is invariant
            logs = np.log(beta[:, :-1]).sum(axis=1)[:, None] - np.log(gaps).sum(axis=2)
        # Products of two components of orthonormal vectors, so at most one.
        weights = (self.norms * beta[:, -1])[:, None] * np.exp(np.minimum(logs, 0.0))
        terms = weights * phi(order + 1, broadcast_times(ts), self._decay_rates(theta))
        relative = eps * (10 * self.size + (top / gaps).sum(axis=2))
        return np.abs((terms * (-1.0) ** i).sum(axis=2)), (terms * relative).sum(axis=2)

    def round_off(self, ts: np.ndarray, order: int) -> np.ndarray:
        """Estimate what round-off of the Ritz values does to w_m(t).

        Each is wrong by a few eps‖A‖, which changes e^{−tθ} where t‖A‖ is near 1/eps.

        Parameters
        ----------
        ts : ndarray, shape (T,)
            Times.
        order : int
            p, 0 or 1.

        Returns
        -------
        ndarray, shape (T, vectors)
        """
        theta, V = self.ritz()
        raw = np.abs(to_numpy(torch.linalg.eigvalsh(torch.from_numpy(self._tridiagonal()[0]))))
        eps = torch.finfo(self._basis.dtype).eps
        wrong = _ROUND_OFF * eps * raw.max(axis=1)[:, None] + np.where(theta > 0, 0.0, raw)
        t = broadcast_times(ts)
        change = phi(order, t, np.maximum(theta - wrong, 0.0)) - phi(order, t, theta + wrong)
        return np.linalg.norm(change * V[:, 0] * self.norms[:, None], axis=2)

    def apply(self, factors: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        """Return ‖r‖ Q_m g(T_m) e_1, (T, vectors, n), for g: θ (vectors, m) ↦ (T, vectors, m)."""
        theta, V = self.ritz()
        modes = factors(theta) * (V[:, 0] * self.norms[:, None])
        coefficients = np.matmul(modes.transpose(1, 0, 2), V.transpose(0, 2, 1))
        coefficients = torch.from_numpy(coefficients).to(self._basis)
        return torch.bmm(coefficients, self._basis[:, : self.size]).transpose(0, 1)


def broadcast_times(ts: np.ndarray) -> np.ndarray:
    """Return times, (T,), in a shape that broadcasts against Ritz values, (vectors, m)."""
    return np.asarray(ts, dtype=float)[:, None, None]
