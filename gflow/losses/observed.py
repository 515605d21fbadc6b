r"""The losses of measurements of W and of some of its entries, of one matrix or of an ensemble.

Data with leading dimensions belong to the members of an ensemble: the loss of member i is that of
its measurements, or of its entries. `Loss.for_members` selects some of them.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from gflow.checks import (
    require_dtype_and_device,
    require_finite,
    require_float,
    require_nonempty,
    require_tensor,
    shown,
)
from gflow.errors import InputError
from gflow.linalg.arrays import shared_array
from gflow.losses.arithmetic import inner, square, triangular, with_arrays
from gflow.losses.base import Loss
from gflow.losses.entries import EntryCompletion


def _require_data(name: str, value: object, ndim: int) -> Tensor:
    """Return data with at least some dimensions; those before are of the members."""
    data = require_float(name, value)
    if data.ndim < ndim:
        raise InputError(
            f"{name} must have {ndim} dimensions, after those of an ensemble, got shape "
            f"{tuple(data.shape)}; reshape it"
        )
    require_nonempty(name, data)
    require_finite(name, data)
    return data


def _shared_members(a: tuple[str, Tensor, int], b: tuple[str, Tensor, int]) -> tuple[int, ...]:
    """Return the leading dimensions of two named tensors; either may have none."""
    leads = [tuple(x.shape[: x.ndim - ndim]) for _, x, ndim in (a, b)]
    found = [lead for lead in leads if lead]
    if len(set(found)) > 1:
        raise InputError(
            f"{a[0]} and {b[0]} must have the same members before their own dimensions, got shapes "
            f"{tuple(a[1].shape)} and {tuple(b[1].shape)}; give one of them for all members, or "
            "both for each"
        )
    return found[0] if found else ()


class MatrixSensing(Loss):
    """1/(2m) Σ_i (⟨A_i, W⟩ − b_i)².

    Parameters
    ----------
    measurements : Tensor, shape (..., m, d_N, d_0)
        The matrices A_i; they need not be symmetric. Leading dimensions are those of an ensemble,
        whose members then have measurements of their own.
    values : Tensor, shape (..., m)
        The numbers b_i; for each member, or for all.

    Raises
    ------
    InputError
        If shapes do not fit or an entry is not finite.

    Examples
    --------
    >>> import torch
    >>> A = torch.ones(1, 2, 2, dtype=torch.float64)
    >>> loss = MatrixSensing(A, torch.tensor([2.0], dtype=torch.float64))
    >>> loss(torch.eye(2, dtype=torch.float64)).item()
    0.0
    """

    def __init__(self, measurements: Tensor, values: Tensor):
        measurements = _require_data("measurements", measurements, 3)
        values = _require_data("values", values, 1)
        require_dtype_and_device("values", values, measurements, "measurements")
        if measurements.shape[-3] != values.shape[-1]:
            raise InputError(
                "there must be one value a measurement, "
                f"got {measurements.shape[-3]} measurements "
                f"and {values.shape[-1]} values; remove those without a partner"
            )
        self.members = _shared_members(("measurements", measurements, 3), ("values", values, 1))
        values = values.expand(*self.members, values.shape[-1])
        self.shape = (measurements.shape[-2], measurements.shape[-1])
        self.reference_tensor = values
        #: ℓ(W) = (½‖A vec W − b‖² + constant)·scale, A with at most as many rows as columns.
        self._scale = 1.0 / values.shape[-1]
        A = measurements.flatten(-2)
        self._A, b = A.expand(*self.members, *A.shape[-2:]), values[..., None]
        self._constant = values.new_zeros(self.members)
        if self._A.shape[-2] > self._A.shape[-1]:
            self._A, b, self._constant = triangular(self._A, b)
        self._AT, self._b = self._A.mT, b.mT

    def _residual(self, W: Tensor) -> Tensor:
        return W.reshape(*W.shape[:-2], 1, -1) @ self._AT - self._b

    def __call__(self, W: Tensor) -> Tensor:
        return (0.5 * square(self._residual(W)) + self._constant) * self._scale

    def gradient(self, W: Tensor) -> Tensor:
        return (self._scale * self._residual(W) @ self._A).reshape(W.shape)

    def symmetric_descent(self, W: Tensor) -> Tensor:
        if type(self) is not MatrixSensing or self.shape[0] != self.shape[1]:
            return super().symmetric_descent(W)
        A, AT, rows, columns, place, weight = self._symmetric
        residual = W[..., rows, columns][..., None, :] @ AT - self._b
        return (residual @ A)[..., 0, :][..., place] * weight

    @functools.cached_property
    def _symmetric(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The measurements of a symmetric W, of its d(d + 1)/2 entries on and above the diagonal.

        A with A_ij + A_ji in the columns of i < j, and Aᵀ; rows and columns of the entries; and
        for each entry of −(∇ℓ + ∇ℓᵀ) its place among these, and its factor.
        """
        d = self.shape[0]
        rows, columns = torch.triu_indices(d, d, device=self._A.device)
        matrices = self._A.unflatten(-1, self.shape)
        both = matrices[..., rows, columns] + matrices[..., columns, rows]
        A = torch.where(rows == columns, 0.5 * both, both)
        place = torch.empty(d, d, dtype=torch.long, device=rows.device)
        place[rows, columns] = place[columns, rows] = torch.arange(len(rows), device=rows.device)
        weight = -self._scale * (1 + torch.eye(d, dtype=A.dtype, device=A.device))
        return A, A.mT, rows, columns, place, weight

    def on_arrays(self) -> Any | None:
        arrays = with_arrays(self, MatrixSensing)
        if arrays is not None and self.shape[0] == self.shape[1]:
            arrays._symmetric = tuple(part.detach().numpy() for part in self._symmetric)
        return arrays

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        return None


class MatrixCompletion(Loss):
    """1/(2|Ω|) Σ_{(i,j)∈Ω} (W_ij − v_ij)².

    Parameters
    ----------
    values : Tensor, shape (..., d_N, d_0)
        The entries v_ij; those outside Ω are ignored and may be anything, NaN included. Leading
        dimensions are those of an ensemble, whose members then have entries of their own.
    mask : Tensor, shape (..., d_N, d_0)
        True (or nonzero) on Ω, which need not be symmetric; for each member, or for all.

    Attributes
    ----------
    observed_count : int or Tensor
        |Ω|; a tensor of the shape of the ensemble where members have entries of their own.

    Raises
    ------
    InputError
        If shapes differ, no entry is observed, or an observed entry is not finite.

    Examples
    --------
    >>> import torch
    >>> values = torch.tensor([[1.0, float("nan")], [2.0, 3.0]], dtype=torch.float64)
    >>> loss = MatrixCompletion(values, ~values.isnan())
    >>> round(loss(torch.zeros(2, 2, dtype=torch.float64)).item(), 12)
    2.333333333333

    Two members, of which one sees the diagonal alone:

    >>> masks = torch.stack([~values.isnan(), torch.eye(2).bool()])
    >>> MatrixCompletion(values, masks)(torch.zeros(2, 2, 2, dtype=torch.float64)).tolist()[1]
    2.5
    """

    def __init__(self, values: Tensor, mask: Tensor):
        values = require_float("values", values)
        if values.ndim < 2:
            raise InputError(f"values must be a matrix, got {shown(values)}; reshape it")
        mask = require_tensor("mask", mask)
        if mask.is_complex() or bool(mask.isnan().any()):
            raise InputError(f"mask must be True or False for each entry, got {mask.dtype}")
        mask = mask.to(values.device)
        if mask.ndim < 2 or mask.shape[-2:] != values.shape[-2:]:
            raise InputError(
                f"mask must have the shape of values, {tuple(values.shape)}, "
                f"got {tuple(mask.shape)}; make one entry for each value"
            )
        self.members = _shared_members(("values", values, 2), ("mask", mask, 2))
        observed = mask.to(torch.bool)
        counts = observed.sum((-2, -1))
        if not bool(counts.all()):
            where = " of each member" if counts.ndim else ""
            raise InputError(
                f"mask must observe at least one entry{where}, got none; set one to True"
            )
        filled = torch.where(observed, values, torch.zeros_like(values))
        require_nonempty("observed values", filled)
        require_finite("observed values", filled)
        self.observed_count: Any = counts.expand(self.members) if self.members else int(counts)
        self.shape = (values.shape[-2], values.shape[-1])
        self._v = self.reference_tensor = filled
        weights = observed.to(values.dtype) / counts[..., None, None]
        self._weights = weights.expand(*self.members, *self.shape)

    @classmethod
    def from_entries(
        cls, rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]
    ) -> EntryCompletion:
        """Make the loss of a list of entries, of which no step on factors forms the matrix.

        Parameters
        ----------
        rows, columns : Tensor of integers, shape (m,)
            i and j of each entry, from 0.
        values : Tensor, shape (m,)
            v_ij. An entry that is listed twice counts twice.
        shape : (int, int)
            (d_N, d_0).

        Returns
        -------
        EntryCompletion

        Raises
        ------
        InputError
            If lengths differ, an index is out of range, or a value is not finite.

        Examples
        --------
        >>> import torch, gflow
        >>> i, j = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 2])
        >>> values = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
        >>> loss = MatrixCompletion.from_entries(i, j, values, (2, 3))
        >>> flow = gflow.LayerwiseFlow(loss, [3, 1, 2])
        >>> y = flow.pack([torch.ones(1, 3).double(), torch.ones(2, 1).double()])
        >>> round(flow.loss(y).item(), 12)     # (0 + 1 + 4)/6
        0.833333333333
        """
        return EntryCompletion(rows, columns, values, shape)

    @functools.cached_property
    def _symmetric(self) -> tuple[Tensor, Tensor]:
        """(K, V) of −(∇ℓ + ∇ℓᵀ) = K ∘ (W − V): an entry seen on both sides has the mean value."""
        seen = self._weights.ne(0)
        both = seen & seen.mT
        values = torch.where(both, 0.5 * (self._v + self._v.mT), self._v + self._v.mT)
        return -(self._weights + self._weights.mT), values

    def __call__(self, W: Tensor) -> Tensor:
        difference = W - self._v
        return 0.5 * inner(self._weights * difference, difference)

    def gradient(self, W: Tensor) -> Tensor:
        return self._weights * (W - self._v)

    def symmetric_descent(self, W: Tensor) -> Tensor:
        if type(self) is not MatrixCompletion:  # a subclass may have another gradient
            return super().symmetric_descent(W)
        weights, values = self._symmetric
        return weights * (W - values)

    def on_arrays(self) -> Any | None:
        arrays = with_arrays(self, MatrixCompletion)
        if arrays is not None and self.shape[0] == self.shape[1]:
            arrays._symmetric = tuple(map(shared_array, self._symmetric))
        return arrays

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        if self.members or int(self.observed_count) < self._v.numel():
            return None
        return self._v, 1.0 / int(self.observed_count)
