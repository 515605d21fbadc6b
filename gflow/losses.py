r"""Losses of the end-to-end matrix W (d_N × d_0), with gradients in closed form.

=====================  ==========================================
``SquaredDistance``    ½‖W − M‖²_F
``LinearRegression``   1/(2n) ‖X Wᵀ − Y‖²_F
``MatrixSensing``      1/(2m) Σ_i (⟨A_i, W⟩ − b_i)²
``MatrixCompletion``   1/(2|Ω|) Σ_{(i,j)∈Ω} (W_ij − v_ij)²
=====================  ==========================================

Each can be evaluated on many matrices at once: W may have leading batch
dimensions. The normalisation fixes the time unit of the flow: t = k·step_size
for gradient descent on the same loss.
"""

from __future__ import annotations

import abc

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


def _require_matrix(name: str, value: object, ndim: int = 2) -> Tensor:
    matrix = require_float(name, value)
    if matrix.ndim != ndim:
        column = f", one column by {name}[:, None]" if (matrix.ndim, ndim) == (1, 2) else ""
        raise InputError(
            f"{name} must have {ndim} dimensions, got shape {tuple(matrix.shape)}; reshape it"
            f"{column}"
        )
    require_nonempty(name, matrix)
    require_finite(name, matrix)
    return matrix


def _square(x: Tensor) -> Tensor:
    return x.square().sum(dim=(-2, -1))


class Loss(abc.ABC):
    """A function of the end-to-end matrix W with its gradient ∇ℓ(W).

    Attributes
    ----------
    shape : (int, int)
        (d_N, d_0), the shape of one W.
    reference_tensor : Tensor
        A tensor of the data; W must share its dtype and device.
    """

    shape: tuple[int, int]
    reference_tensor: Tensor

    @abc.abstractmethod
    def __call__(self, W: Tensor) -> Tensor:
        """Compute ℓ(W), shape (...), for W of shape (..., d_N, d_0)."""

    @abc.abstractmethod
    def gradient(self, W: Tensor) -> Tensor:
        """Compute ∇ℓ(W), of the shape of W."""

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        """Return (M, c) where ℓ(W) = c·½‖W − M‖²_F up to a constant, else None, the default.

        Flows have closed forms for the squared distance.
        """
        return None


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
        target = _require_matrix("target", target)
        self.target = self.reference_tensor = target
        self.shape = (target.shape[0], target.shape[1])

    def __call__(self, W: Tensor) -> Tensor:
        return 0.5 * _square(W - self.target)

    def gradient(self, W: Tensor) -> Tensor:
        return W - self.target

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        return self.target, 1.0


class LinearRegression(Loss):
    """1/(2n) ‖X Wᵀ − Y‖²_F, the mean over samples of half the squared error.

    With more samples than input dimensions, X is replaced once by the triangular
    factor of its QR decomposition: the same function at d_0 rows instead of n,
    without the loss of accuracy of the normal equations.

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
        inputs = _require_matrix("inputs", inputs)
        targets = _require_matrix("targets", targets)
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
        self._X, self._Y = inputs, targets
        self._constant = torch.zeros((), dtype=inputs.dtype, device=inputs.device)
        if n > d:
            Q, R = torch.linalg.qr(inputs)
            self._X, self._Y = R, Q.mT @ targets
            self._constant = _square(targets - Q @ self._Y)

    def _residual(self, W: Tensor) -> Tensor:
        return self._X @ W.mT - self._Y

    def __call__(self, W: Tensor) -> Tensor:
        return (_square(self._residual(W)) + self._constant) / (2 * self.samples)

    def gradient(self, W: Tensor) -> Tensor:
        return self._residual(W).mT @ self._X / self.samples

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        gram = self._X.mT @ self._X / self.samples
        scale = gram.diagonal().mean()
        eye = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
        if scale == 0:  # all inputs vanish: the loss has no target
            return None
        if not torch.allclose(gram, scale * eye, rtol=0, atol=float(1e-13 * scale)):
            return None
        return (self._Y.mT @ self._X) / (self.samples * scale), float(scale)


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
        measurements = _require_matrix("measurements", measurements, ndim=3)
        values = _require_matrix("values", values, ndim=1)
        require_dtype_and_device("values", values, measurements, "measurements")
        if measurements.shape[0] != values.shape[0]:
            raise InputError(
                "there must be one value a measurement, "
                f"got {measurements.shape[0]} measurements "
                f"and {values.shape[0]} values; remove those without a partner"
            )
        self.shape = (measurements.shape[1], measurements.shape[2])
        self._A = measurements.flatten(1)
        self._b = self.reference_tensor = values

    def _residual(self, W: Tensor) -> Tensor:
        return W.flatten(-2) @ self._A.mT - self._b

    def __call__(self, W: Tensor) -> Tensor:
        return self._residual(W).square().sum(-1) / (2 * len(self._b))

    def gradient(self, W: Tensor) -> Tensor:
        return (self._residual(W) @ self._A).unflatten(-1, self.shape) / len(self._b)

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
    >>> loss(torch.zeros(2, 2, dtype=torch.float64)).item()
    2.3333333333333335
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
        _require_matrix("observed values", filled)
        self.shape = (values.shape[0], values.shape[1])
        self._v = self.reference_tensor = filled
        self._mask = observed.to(values.dtype)

    def _residual(self, W: Tensor) -> Tensor:
        return self._mask * (W - self._v)

    def __call__(self, W: Tensor) -> Tensor:
        return _square(self._residual(W)) / (2 * self.observed_count)

    def gradient(self, W: Tensor) -> Tensor:
        return self._residual(W) / self.observed_count

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        if self.observed_count < self._mask.numel():
            return None
        return self._v, 1.0 / self.observed_count
