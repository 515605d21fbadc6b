r"""The losses of a whole matrix W: squared distance and regression."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gflow.checks import require_dtype_and_device
from gflow.errors import InputError
from gflow.losses.arithmetic import square, triangular, with_arrays
from gflow.losses.base import Loss, require_matrix

_GRAM_ROUND_OFF = 1e-9  # largest ε·cond(X)² at which one product with XᵀX stands for two with X


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
        return 0.5 * square(W - self.target)

    def gradient(self, W: Tensor) -> Tensor:
        return W - self.target

    def on_arrays(self) -> Any | None:
        return with_arrays(self, SquaredDistance)

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
            X, Y, self._constant = triangular(X, Y)
        #: ℓ(W) = ½‖W Xᵀ − Yᵀ‖² + constant, X and Y divided by √n.
        self._X, self._XT, self._YT = X, X.mT, Y.mT

    def __call__(self, W: Tensor) -> Tensor:
        return 0.5 * square(W @ self._XT - self._YT) + self._constant

    def gradient(self, W: Tensor) -> Tensor:
        if self._gram is not None:
            return W @ self._gram - self._moment
        return (W @ self._XT - self._YT) @ self._X

    def on_arrays(self) -> Any | None:
        return with_arrays(self, LinearRegression)

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        gram = self._XT @ self._X
        scale = gram.diagonal().mean()
        eye = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
        if scale == 0:  # all inputs vanish: the loss has no target
            return None
        if not torch.allclose(gram, scale * eye, rtol=0, atol=float(1e-13 * scale)):
            return None
        return self._YT @ self._X / scale, float(scale)


def _well_conditioned(gram: Tensor) -> bool:
    """Whether products with XᵀX lose little; columns of X that are zero lose nothing."""
    eps = torch.finfo(gram.dtype).eps
    used = gram.diagonal() > 0
    if eps > _GRAM_ROUND_OFF or not bool(used.any()):
        return False
    eigenvalues = torch.linalg.eigvalsh(gram[used][:, used])
    return eps * float(eigenvalues[-1]) <= _GRAM_ROUND_OFF * float(eigenvalues[0])
