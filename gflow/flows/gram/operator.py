"""A symmetric positive semidefinite matrix H, by its entries or by its products alone."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from gflow.checks import evaluated, require_finite
from gflow.errors import InputError
from gflow.flows.gram.split_by_rows import SharedGram, absolute_product
from gflow.linalg.columns import on_columns

#: v ↦ H v for v of shape (n,) or (n, k).
Product = Callable[[Tensor], Tensor]

_EXACT = 1e-3  # relative residual of an eigenpair that is no round-off
_ROWS = 256  # rows checked at a time, so that no second n × n matrix is made
_SWEEPS = 3  # power iterations for the eigenvalue bound
_TIGHT = 1.1  # largest ratio of the upper to the lower bound that counts as tight


class KernelOperator:
    """H with its products, eigendecomposition and a cheap bound on its largest eigenvalue.

    Parameters
    ----------
    given : Tensor of shape (n, n), or callable
        H, or its product v ↦ H v for v of shape (n,) or (n, k).
    like : Tensor, shape (n, ...)
        Fixes n, and the dtype and device of a callable's products.

    Raises
    ------
    InputError
        If H is not finite, square and symmetric; a callable is tested on two vectors.

    Examples
    --------
    >>> import torch
    >>> scales = torch.tensor([2.0, 1.0])
    >>> H = KernelOperator(lambda v: (v.mT * scales).mT, torch.zeros(2))
    >>> H.rows(torch.ones(3, 2))[2].tolist()
    [2.0, 1.0]
    """

    def __init__(self, given: Tensor | Product, like: Tensor):
        self.given = given
        #: A tensor of the dtype and on the device of H.
        self.reference_tensor = given if isinstance(given, Tensor) else like
        if isinstance(given, Tensor):
            _check_entries(given)
        else:
            _check_product(given, like)

    @property
    def has_entries(self) -> bool:
        """Whether the entries of H are known, not its products alone."""
        given = self.given
        return given.has_entries if isinstance(given, SharedGram) else isinstance(given, Tensor)

    @property
    def entries(self) -> Tensor:
        """H as a matrix, gathered where processes share it.

        Raises
        ------
        InputError
            If only the products of H are known.
        """
        if isinstance(self.given, Tensor):
            return self.given
        if isinstance(self.given, SharedGram) and self.given.has_entries:
            return self.given.entries
        raise InputError(
            "H was given as a product v ↦ H v, so its entries and eigenvalues are not known; "
            "pass H as a tensor, or use method='krylov'"
        )

    def _absolute(self, x: Tensor) -> Tensor:
        """|H| x."""
        if isinstance(self.given, SharedGram):
            return self.given.absolute(x)
        return absolute_product(self.entries, x)

    def columns(self, v: Tensor) -> Tensor:
        """Compute H v for v of shape (..., n, k)."""
        given = self.given
        return on_columns(given.__matmul__ if isinstance(given, Tensor) else given, v)

    def rows(self, v: Tensor) -> Tensor:
        """Apply H to the last dimension of v, shape (..., n)."""
        if isinstance(self.given, Tensor):
            return v @ self.given  # H is symmetric
        if v.ndim == 1:
            return self.given(v)
        return self.given(v.reshape(-1, v.shape[-1]).mT).mT.reshape(v.shape)

    @functools.cached_property
    def eigh(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues, ascending, round-off set to zero, and eigenvectors."""
        lam, V = torch.linalg.eigh(self.entries)
        low, high = float(lam[0]), float(lam[-1])
        top = max(abs(low), abs(high))
        noise = len(lam) * torch.finfo(lam.dtype).eps * top
        if low < -10 * noise:
            raise InputError(
                "H must be positive semidefinite, but its least eigenvalue is "
                f"{low:.3g} (largest {top:.3g}), along which the flow explodes; "
                "pass a positive semidefinite kernel"
            )
        # Those of a diagonal H, and of its diagonal blocks, are exact however small they are.
        small = torch.nonzero((lam > 0) & (lam <= noise)).flatten()
        exact = self._residuals(lam[small], V[:, small]) <= _EXACT * lam[small]
        is_noise = lam <= noise
        is_noise[small[exact]] = False
        return torch.where(is_noise, torch.zeros_like(lam), lam), V

    def _residuals(self, lam: Tensor, V: Tensor) -> Tensor:
        """‖H v − λ v‖ of approximate eigenvectors, in columns of V."""
        return (self.entries @ V - V * lam).norm(dim=0)

    @functools.cached_property
    def eigenvalue_errors(self) -> Tensor:
        """How far the eigenvalues may be wrong, (n,): the residuals of their eigenvectors."""
        return self._residuals(*self.eigh)

    @property
    def is_decomposed(self) -> bool:
        """Whether the eigendecomposition has been made."""
        return "eigh" in vars(self)

    def largest_eigenvalue_bound(self) -> float | None:
        """λ_max where the decomposition exists, else an upper bound within 10 %, else None."""
        if self.is_decomposed:
            return float(self.eigh[0][-1])
        return self._bound if self.has_entries else None

    @functools.cached_property
    def _bound(self) -> float | None:
        # λ_max ≤ max_i (|H|x)_i/x_i for every x > 0 (Collatz–Wielandt); with x = 1 this is the
        # largest row sum, and each sweep x ← |H|x brings it nearer to |H|'s largest eigenvalue,
        # which is H's own where its entries are positive.
        x = self.reference_tensor.new_ones(self.reference_tensor.shape[0])
        for _ in range(_SWEEPS):
            x = self._absolute(x / x.max().clamp_min(torch.finfo(x.dtype).tiny))
        if not bool(x.max() > 0):
            return 0.0
        y = self._absolute(x)
        # Where x is tiny the quotient is round-off; those rows are zero or all but.
        upper = float(torch.where(x > 0, y / x, torch.zeros_like(x)).max())
        lower = float((x @ self.rows(x)) / (x @ x))
        return upper if upper <= _TIGHT * lower else None


def _check_entries(H: Tensor) -> None:
    if H.ndim != 2 or H.shape[0] != H.shape[1]:
        raise InputError(
            f"H must be a square matrix, got {tuple(H.shape)}; pass the kernel of all pairs of "
            "training points"
        )
    if not bool(torch.stack([torch.isfinite(rows).all() for rows in H.split(_ROWS)]).all()):
        require_finite("H", H)  # counts the entries, which takes as much memory as H
    blocks = list(zip(H.split(_ROWS), H.split(_ROWS, dim=1), strict=True))
    defect = float(torch.stack([(a - b.mT).abs().max() for a, b in blocks]).max())
    largest = float(torch.stack([a.abs().max() for a, _ in blocks]).max())
    if defect > 1e3 * torch.finfo(H.dtype).eps * largest:
        raise InputError(
            f"H must be symmetric, but |H − Hᵀ| reaches {defect:.3g}; use (H + Hᵀ)/2 if the "
            "difference is an accident"
        )


def _check_product(product: Product, like: Tensor) -> None:
    n = like.shape[0]
    angles = torch.arange(n, dtype=like.dtype, device=like.device)
    probes = torch.stack([torch.cos(angles), torch.sin(angles * angles)], dim=1)
    mend = "it must map v of shape (n, k) to H v"
    image = evaluated(f"the callable H on v of shape ({n}, 2)", lambda: product(probes), mend)
    expected = (probes.shape, probes.dtype, probes.device)
    if not isinstance(image, Tensor) or (image.shape, image.dtype, image.device) != expected:
        received = (
            f"{tuple(image.shape)} of {image.dtype} on {image.device}"
            if isinstance(image, Tensor)
            else type(image).__name__
        )
        raise InputError(
            f"a callable H must map v of shape (n, k) to H v of the same shape, dtype and device, "
            f"here ({n}, 2) of {like.dtype} on {like.device}; got {received}"
        )
    require_finite("the product of H", image)
    inner = probes.mT @ image
    defect = float((inner[0, 1] - inner[1, 0]).abs())
    size = float(probes.norm() * image.norm())
    if defect > 1e3 * torch.finfo(like.dtype).eps * size:
        raise InputError(
            f"H must be symmetric, but ⟨v, Hw⟩ and ⟨Hv, w⟩ differ by {defect:.3g} for two test "
            "vectors; pass the product of a symmetric matrix"
        )
