r"""The losses of a dense matrix W: squared distance, regression, sensing, completion."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gflow.checks import require_dtype_and_device, require_float, require_tensor, shown
from gflow.errors import InputError
from gflow.linalg.arrays import shared_array
from gflow.losses.base import Loss, require_matrix
from gflow.losses.entries import EntryCompletion

_GRAM_ROUND_OFF = 1e-9  # largest ε·cond(X)² at which one product with XᵀX stands for two with X


def _inner(a: Any, b: Any) -> Any:
    """⟨a, b⟩ of the matrices of two tensors, or of two arrays."""
    return np.vdot(a, b) if isinstance(a, np.ndarray) else (a * b).sum(dim=(-2, -1))


def _square(x: Any) -> Any:
    """‖x‖²_F of each matrix of a tensor, or of one array."""
    return _inner(x, x)


def _arrays(own: Any, of: type) -> Any:
    """Return a loss with arrays in place of tensors, on the same memory; None for subclasses."""
    is_shared = shared_array(own.reference_tensor) is not None
    if type(own) is not of or not is_shared:
        return None
    arrays = copy.copy(own)
    for name, value in vars(own).items():
        if isinstance(value, Tensor):
            setattr(arrays, name, shared_array(value))
    return arrays


class SquaredDistance(Loss):
    """½‖W − M‖²_F.

    Parameters
    ----------
    target : Tensor, shape (d_N, d_0)
        The matrix M.

    Raises
    ------
    InputError
        If the target is not a finite floating-point matrix.

    Examples
    --------
    >>> import torch
    >>> loss = SquaredDistance(torch.eye(2, dtype=torch.float64))
    >>> W = torch.zeros(2, 2, dtype=torch.float64)
    >>> loss(W).item(), loss.gradient(W)[0].tolist()
    (1.0, [-1.0, 0.0])
    """

    def __init__(self, target: Tensor):
        target = require_matrix("target", target)
        self.target = self.reference_tensor = target
        self.shape = (target.shape[0], target.shape[1])

    def __call__(self, W: Tensor) -> Tensor:
        return 0.5 * _square(W - self.target)

    def gradient(self, W: Tensor) -> Tensor:
        return W - self.target

    def on_arrays(self) -> Any | None:
        return _arrays(self, SquaredDistance)

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        return self.target, 1.0


class LinearRegression(Loss):
    """1/(2n) ‖X Wᵀ − Y‖²_F, the mean over samples of half the squared error.

    With more samples than input dimensions, X is replaced once by the triangular
    factor of its QR decomposition: the same function at d_0 rows instead of n,
    without the loss of accuracy of the normal equations. Where that loss is small,
    ε·cond(X)² ≤ 1e-9, the gradient takes one product with XᵀX instead of two with X.

    Parameters
    ----------
    inputs : Tensor, shape (n, d_0)
        Inputs X, one sample a row.
    targets : Tensor, shape (n, d_N)
        Targets Y, one a row.

    Raises
    ------
    InputError
        If either is not a finite matrix or the numbers of rows differ.

    Examples
    --------
    >>> import torch
    >>> X = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> loss = LinearRegression(X, 3 * X)
    >>> round(loss(torch.tensor([[0.0]], dtype=torch.float64)).item(), 12)
    11.25
    """

    def __init__(self, inputs: Tensor, targets: Tensor):
        inputs = require_matrix("inputs", inputs)
        targets = require_matrix("targets", targets)
        require_dtype_and_device("targets", targets, inputs, "inputs")
        if inputs.shape[0] != targets.shape[0]:
            raise InputError(
                "inputs and targets must have one row a sample, "
                f"got {inputs.shape[0]} and {targets.shape[0]} rows; "
                "transpose one, or remove samples without a partner"
            )
        n, d = inputs.shape
        self.samples = n
        self.shape = (targets.shape[1], d)
        self.reference_tensor = inputs
        X, Y = inputs / n**0.5, targets / n**0.5
        self._gram = self._moment = None
        self._constant = torch.zeros((), dtype=inputs.dtype, device=inputs.device)
        if n > d:
            gram = X.mT @ X
            if _well_conditioned(gram):
                self._gram, self._moment = gram, Y.mT @ X
            X, Y, self._constant = _triangular(X, Y)
        #: ℓ(W) = ½‖W Xᵀ − Yᵀ‖² + constant, X and Y divided by √n.
        self._X, self._XT, self._YT = X, X.mT, Y.mT

    def __call__(self, W: Tensor) -> Tensor:
        return 0.5 * _square(W @ self._XT - self._YT) + self._constant

    def gradient(self, W: Tensor) -> Tensor:
        if self._gram is not None:
            return W @ self._gram - self._moment
        return (W @ self._XT - self._YT) @ self._X

    def on_arrays(self) -> Any | None:
        return _arrays(self, LinearRegression)

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        gram = self._XT @ self._X
        scale = gram.diagonal().mean()
        eye = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
        if scale == 0:  # all inputs vanish: the loss has no target
            return None
        if not torch.allclose(gram, scale * eye, rtol=0, atol=float(1e-13 * scale)):
            return None
        return self._YT @ self._X / scale, float(scale)


def _triangular(X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (R, QᵀY, c) of X = QR, with ½‖X Z − Y‖² = ½‖R Z − QᵀY‖² + c."""
    Q, R = torch.linalg.qr(X)
    projected = Q.mT @ Y
    return R, projected, 0.5 * _square(Y - Q @ projected)


def _well_conditioned(gram: Tensor) -> bool:
    """Whether products with XᵀX lose little; columns of X that are zero lose nothing."""
    eps = torch.finfo(gram.dtype).eps
    used = gram.diagonal() > 0
    if eps > _GRAM_ROUND_OFF or not bool(used.any()):
        return False
    eigenvalues = torch.linalg.eigvalsh(gram[used][:, used])
    return eps * float(eigenvalues[-1]) <= _GRAM_ROUND_OFF * float(eigenvalues[0])


class MatrixSensing(Loss):
    """1/(2m) Σ_i (⟨A_i, W⟩ − b_i)².

    Parameters
    ----------
    measurements : Tensor, shape (m, d_N, d_0)
        The matrices A_i; they need not be symmetric.
    values : Tensor, shape (m,)
        The numbers b_i.

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
        measurements = require_matrix("measurements", measurements, ndim=3)
        values = require_matrix("values", values, ndim=1)
        require_dtype_and_device("values", values, measurements, "measurements")
        if measurements.shape[0] != values.shape[0]:
            raise InputError(
                "there must be one value a measurement, "
                f"got {measurements.shape[0]} measurements "
                f"and {values.shape[0]} values; remove those without a partner"
            )
        self.shape = (measurements.shape[1], measurements.shape[2])
        self.reference_tensor = values
        #: ℓ(W) = (½‖A vec W − b‖² + constant)·scale, A with at most as many rows as columns.
        self._scale = 1.0 / len(values)
        self._A, b = measurements.flatten(1), values[:, None]
        self._constant = torch.zeros((), dtype=values.dtype, device=values.device)
        if self._A.shape[0] > self._A.shape[1]:
            self._A, b, self._constant = _triangular(self._A, b)
        self._AT, self._b = self._A.mT, b[:, 0]

    def _residual(self, W: Tensor) -> Tensor:
        return W.reshape(*W.shape[:-2], 1, -1) @ self._AT - self._b

    def __call__(self, W: Tensor) -> Tensor:
        return (0.5 * _square(self._residual(W)) + self._constant) * self._scale

    def gradient(self, W: Tensor) -> Tensor:
        return (self._scale * self._residual(W) @ self._A).reshape(W.shape)

    def on_arrays(self) -> Any | None:
        return _arrays(self, MatrixSensing)

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        return None


class MatrixCompletion(Loss):
    """1/(2|Ω|) Σ_{(i,j)∈Ω} (W_ij − v_ij)².

    Parameters
    ----------
    values : Tensor, shape (d_N, d_0)
        The entries v_ij; those outside Ω are ignored and may be anything, NaN included.
    mask : Tensor, shape (d_N, d_0)
        True (or nonzero) on Ω; it need not be symmetric.

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
    """

    def __init__(self, values: Tensor, mask: Tensor):
        values = require_float("values", values)
        if values.ndim != 2:
            raise InputError(f"values must be a matrix, got {shown(values)}; reshape it")
        mask = require_tensor("mask", mask)
        if mask.is_complex() or bool(mask.isnan().any()):
            raise InputError(f"mask must be True or False for each entry, got {mask.dtype}")
        mask = mask.to(values.device)
        if mask.shape != values.shape:
            raise InputError(
                f"mask must have the shape of values, {tuple(values.shape)}, "
                f"got {tuple(mask.shape)}; make one entry for each value"
            )
        observed = mask.to(torch.bool)
        self.observed_count = int(observed.sum())
        if self.observed_count == 0:
            raise InputError("mask must observe at least one entry, got none; set one to True")
        filled = torch.where(observed, values, torch.zeros_like(values))
        require_matrix("observed values", filled)
        self.shape = (values.shape[0], values.shape[1])
        self._v = self.reference_tensor = filled
        self._weights = observed.to(values.dtype) / self.observed_count

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
        return 0.5 * _inner(self._weights * difference, difference)

    def gradient(self, W: Tensor) -> Tensor:
        return self._weights * (W - self._v)

    def symmetric_descent(self, W: Tensor) -> Tensor:
        if type(self) is not MatrixCompletion:  # a subclass may have another gradient
            return super().symmetric_descent(W)
        weights, values = self._symmetric
        return weights * (W - values)

    def on_arrays(self) -> Any | None:
        arrays = _arrays(self, MatrixCompletion)
        if arrays is not None and self.shape[0] == self.shape[1]:
            arrays._symmetric = tuple(map(shared_array, self._symmetric))
        return arrays

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        if self.observed_count < self._v.numel():
            return None
        return self._v, 1.0 / self.observed_count
