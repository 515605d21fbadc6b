r"""Matrix completion from a list of entries, 1/(2m) Σ_k (W_{i_k j_k} − v_k)².

The entries of a product of narrow layers, and the gradient's products with them, take time and
memory of the entries (`gflow.linalg.entries`); W itself is never made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gflow.checks import require_count, require_numbers, require_tensor, shown
from gflow.errors import InputError
from gflow.linalg.entries import EntryPattern
from gflow.losses.base import Loss, require_matrix


class EntryCompletion(Loss):
    """1/(2m) Σ_k (W_{i_k j_k} − v_k)² of a list of entries; see `MatrixCompletion.from_entries`.

    Parameters
    ----------
    rows, columns : Tensor of integers, shape (m,)
        i_k and j_k, from 0.
    values : Tensor, shape (m,)
        v_k.
    shape : (int, int)
        (d_N, d_0).

    Raises
    ------
    InputError
        If lengths differ, an index is out of range, or a value is not finite.

    Notes
    -----
    `LayerwiseFlow` with a hidden layer at most half as wide as W, and `FactorFlow` with as few
    columns, compute the entries of the product alone. Attributes are sorted by rows.
    """

    def __init__(self, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]):
        values = require_matrix("values", values, ndim=1)
        pair = require_numbers("shape", shape, "(d_N, d_0)")
        sizes = [require_count("each of shape", size) for size in pair]
        if len(sizes) != 2:
            raise InputError(f"shape must be (d_N, d_0), got {shown(tuple(sizes))}")
        where = []
        for name, index, size in (("rows", rows, sizes[0]), ("columns", columns, sizes[1])):
            index = require_tensor(name, index).to(values.device)
            if index.is_floating_point() or index.is_complex() or index.dtype == torch.bool:
                raise InputError(f"{name} must be whole numbers, got {index.dtype}; use x.long()")
            if index.shape != values.shape:
                raise InputError(
                    f"{name} and values must have one number for each entry, got shapes "
                    f"{tuple(index.shape)} and {tuple(values.shape)}"
                )
            least, largest = int(index.min()), int(index.max())
            if least < 0 or largest >= size:
                raise InputError(
                    f"{name} must be from 0 to {size - 1} for shape {tuple(sizes)}, got "
                    f"{least if least < 0 else largest}; count from 0, or give a larger shape"
                )
            where.append(index.long())
        order = torch.argsort(where[0] * sizes[1] + where[1], stable=True)
        self.rows, self.columns = (index[order] for index in where)
        self.values = self.reference_tensor = values[order]
        self.observed_count = len(values)
        self.shape = (sizes[0], sizes[1])
        self._pattern = EntryPattern(self.rows, self.columns, self.shape)

    @property
    def entries(self) -> EntryPattern:
        return self._pattern

    def of_entries(self, values: Tensor) -> Tensor:
        return (values - self.values).square().sum(-1) / (2 * self.observed_count)

    def entries_gradient(self, values: Tensor) -> Tensor:
        return (values - self.values) / self.observed_count

    def __call__(self, W: Tensor) -> Tensor:
        return self.of_entries(self._pattern.take(W))

    def gradient(self, W: Tensor) -> Tensor:
        return self._pattern.spread(self.entries_gradient(self._pattern.take(W)))
