r"""Some entries of matrices: of a product of two factors, and sums over them, without the matrix.

With G the matrix that is z_k at (i_k, j_k) and 0 elsewhere (repeated entries are added),

    (A B)_{i_k j_k} = Σ_r A_{i_k r} B_{r j_k},    G B,    Gᵀ A

take one pass over the entries each. All are differentiable, as often as one likes.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor

from gflow.linalg.arrays import shared_array

_BLOCK = 2**17  # numbers of gathered rows at a time, which stay in a core's cache


class EntryPattern:
    """The places of some entries of a matrix, sorted by rows.

    Parameters
    ----------
    rows, columns : Tensor of int64, shape (m,)
        i_k and j_k, sorted by rows.
    shape : (int, int)
        Of the matrix.

    Examples
    --------
    >>> pattern = EntryPattern(torch.tensor([0, 1]), torch.tensor([1, 0]), (2, 2))
    >>> A, B = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0]])
    >>> pattern.of_product(A, B).tolist()
    [4.0, 6.0]
    """

    def __init__(self, rows: Tensor, columns: Tensor, shape: tuple[int, int]):
        self.rows, self.columns, self.shape = rows, columns, shape
        counts = torch.bincount(rows, minlength=shape[0]).cumsum(0)
        offsets = torch.cat([counts.new_zeros(1), counts])
        # Sparse products read half as much of short indices.
        index = torch.int32 if max(len(rows), *shape) < 2**31 else torch.int64
        self._offsets, self._columns = offsets.to(index), columns.to(index)
        _quiet(rows.device)

    @functools.cached_property
    def _order(self) -> Tensor:
        """The order of the entries by columns."""
        return torch.argsort(self.columns, stable=True)

    @functools.cached_property
    def _transposed(self) -> EntryPattern:
        order = self._order
        return EntryPattern(self.columns[order], self.rows[order], self.shape[::-1])

    def take(self, W: Tensor) -> Tensor:
        """Return the entries of W (..., d, d'), shape (..., m)."""
        return W[..., self.rows, self.columns]

    def spread(self, values: Tensor) -> Tensor:
        """Return the matrix G of values (..., m), shape (..., d, d')."""
        flat = self.rows * self.shape[1] + self.columns
        size = self.shape[0] * self.shape[1]
        matrix = values.new_zeros(*values.shape[:-1], size).index_add(-1, flat, values)
        return matrix.unflatten(-1, self.shape)

    def of_product(self, left: Tensor, right: Tensor) -> Tensor:
        """Compute the entries of a product.

        Parameters
        ----------
        left : Tensor, shape (..., d, r)
            A.
        right : Tensor, shape (..., r, d')
            B.

        Returns
        -------
        Tensor, shape (..., m)
            The entries of A B.
        """
        entries: Tensor = _Entries.apply(self, left.contiguous(), right.mT.contiguous())
        return entries

    def times(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Compute G B.

        Parameters
        ----------
        values : Tensor, shape (..., m)
            z.
        matrix : Tensor, shape (..., d', r)
            B.

        Returns
        -------
        Tensor, shape (..., d, r)
        """
        product: Tensor = _Times.apply(self, values, matrix)
        return product

    def _sparse_times(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Compute G B of values (m,) and a matrix (d', r)."""
        z, B = shared_array(values), shared_array(matrix)
        if z is None or B is None:
            G = torch.sparse_csr_tensor(
                self._offsets, self._columns, values, self.shape, check_invariants=False
            )
            return G @ matrix
        # SciPy's product takes half the time of torch's.
        from scipy.sparse import csr_array

        index = self._columns.numpy(), self._offsets.numpy()
        return torch.from_numpy(csr_array((z, *index), shape=self.shape) @ B)

    def transposed_times(self, values: Tensor, matrix: Tensor) -> Tensor:
        """Compute Gᵀ A.

        Parameters
        ----------
        values : Tensor, shape (..., m)
            z.
        matrix : Tensor, shape (..., d, r)
            A.

        Returns
        -------
        Tensor, shape (..., d', r)
        """
        return self._transposed.times(values[..., self._order], matrix)


class _Entries(torch.autograd.Function):
    """Σ_r A_{i r} B_{j r} at the places of a pattern."""

    @staticmethod
    def forward(ctx: Any, pattern: EntryPattern, left: Tensor, right: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(left, right)
        batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        entries = left.new_empty(*batch, len(pattern.rows))
        block = max(1, _BLOCK // left.shape[-1])
        ones = left.new_ones(left.shape[-1])
        for out, a, b in _members(batch, (entries, 1), (left, 2), (right, 2)):
            for begin in range(0, len(pattern.rows), block):
                part = slice(begin, begin + block)
                i, j = pattern.rows[part], pattern.columns[part]
                # Sums of short rows are fastest as a product with ones.
                torch.mv(a.index_select(0, i).mul_(b.index_select(0, j)), ones, out=out[part])
        return entries

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> Any:
        left, right = ctx.saved_tensors
        by_left = ctx.pattern.times(slopes, right)
        return None, by_left, ctx.pattern.transposed_times(slopes, left)


class _Times(torch.autograd.Function):
    """G B of a pattern and its values."""

    @staticmethod
    def forward(ctx: Any, pattern: EntryPattern, values: Tensor, matrix: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(values, matrix)
        batch = torch.broadcast_shapes(values.shape[:-1], matrix.shape[:-2])
        products = [
            pattern._sparse_times(z, b) for z, b in _members(batch, (values, 1), (matrix, 2))
        ]
        return torch.stack(products).unflatten(0, batch) if batch else products[0]

    @staticmethod
    def backward(ctx: Any, slopes: Tensor) -> Any:
        values, matrix = ctx.saved_tensors
        by_values = ctx.pattern.of_product(slopes, matrix.mT)
        return None, by_values, ctx.pattern.transposed_times(values, slopes)


def _members(batch: torch.Size, *tensors: tuple[Tensor, int]) -> Any:
    """Return the members of tensors, each with its number of dimensions, side by side."""
    flat = [
        x.expand(*batch, *x.shape[x.ndim - ndim :]).reshape(-1, *x.shape[x.ndim - ndim :])
        if batch
        else x[None]
        for x, ndim in tensors
    ]
    return zip(*flat, strict=True)


@functools.cache
def _quiet(device: torch.device) -> None:
    """Let torch say once, unseen, that its sparse rows are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zero = torch.zeros(1, dtype=torch.int64, device=device)
        torch.sparse_csr_tensor(
            torch.zeros(2, dtype=torch.int64, device=device), zero[:0], zero[:0]
        )
