r"""Gradient flow of the first layer of a two-layer ReLU network in NTK parametrisation.

    f(x) = m^{-1/2} Σ_r a_r σ(w_r·x),   σ = ReLU,   a_r ∈ {±1}^k fixed

on L(W) = ½‖u − y‖², u = f(X), a **sum** over points and outputs (Du et al. 2019,
arXiv:1810.02054, eqs. 2-5):

    ẇ_r = m^{-1/2} Σ_i 1[w_r·x_i > 0] a_r·(y_i − u_i) x_i
    u̇   = −H(W)(u − y),   H_(ic)(jd) = x_i·x_j/m Σ_r a_rc a_rd 1[w_r·x_i > 0] 1[w_r·x_j > 0]

For w_r ~ N(0, I) and m → ∞, H(W) tends to H* ⊗ I_k (`gflow.kernels.two_layer_relu_gram`)
and stays there. Time unit: t = k·step_size of full-batch descent on the same sum. At a kink,
w_r·x_i = 0, the slope of σ is 0, as in torch; away from kinks the Hessian of L is JᵀJ, of
the same nonzero eigenvalues as H(W).
"""

from __future__ import annotations

import copy
import functools

import numpy as np
import torch
from torch import Tensor

from gflow.checks import (
    require_dtype_and_device,
    require_finite,
    require_float,
    require_nonempty,
)
from gflow.errors import InputError
from gflow.flows.array_form import ArrayForm, squared_speed
from gflow.flows.base import ParameterFlow
from gflow.linalg.arrays import shared_array

_BLOCK = 1024  # neurons at a time: their W Xᵀ, for 100 points, stays in a core's cache


def two_layer_outputs(W: Tensor, a: Tensor, X: Tensor) -> Tensor:
    """Compute u = m^{-1/2} σ(X Wᵀ) a.

    Parameters
    ----------
    W : Tensor, shape (..., m, d)
        First layer, one neuron a row.
    a : Tensor, shape (..., m, k)
        Signs of the second layer.
    X : Tensor, shape (n, d)
        Inputs.

    Returns
    -------
    Tensor, shape (..., n, k)
        The outputs.

    Examples
    --------
    >>> import torch
    >>> two_layer_outputs(torch.tensor([[2.0], [-1.0]]), torch.ones(2, 1), torch.ones(1, 1))
    tensor([[1.4142]])
    """
    return torch.relu(X @ W.mT) @ a / W.shape[-2] ** 0.5


def two_layer_rhs(W: Tensor, a: Tensor, X: Tensor, y: Tensor) -> Tensor:
    """Compute Ẇ = m^{-1/2} (1[W Xᵀ > 0] ∘ a(y − u)ᵀ) X.

    By blocks of neurons: at m = 8,192 that takes 0.6 of the time of all at once.

    Parameters
    ----------
    W : Tensor, shape (..., m, d)
        First layer, one neuron a row.
    a : Tensor, shape (..., m, k)
        Signs of the second layer.
    X : Tensor, shape (n, d)
        Inputs.
    y : Tensor, shape (n, k)
        Targets.

    Returns
    -------
    Tensor, shape (..., m, d)
        The velocity Ẇ.

    Examples
    --------
    >>> import torch
    >>> ones = torch.ones(1, 1)
    >>> two_layer_rhs(2 * ones, ones, ones, 5 * ones)   # u = 2
    tensor([[3.]])
    """
    blocks = list(zip(W.split(_BLOCK, dim=-2), a.split(_BLOCK, dim=-2), strict=True))
    scale = W.shape[-2] ** -0.5
    active, sums = [], []
    for w, signs in blocks:
        z = w @ X.mT
        active.append(z > 0)
        sums.append(z.clamp_min_(0.0).mT @ signs)
    residual = scale * (y - scale * functools.reduce(torch.add, sums)).mT
    rates = [(signs @ residual).mul_(on) @ X for on, (_, signs) in zip(active, blocks, strict=True)]
    return rates[0] if len(rates) == 1 else torch.cat(rates, dim=-2)


def two_layer_gram(W: Tensor, a: Tensor, X: Tensor) -> Tensor:
    """Compute the kernel H(W).

    Parameters
    ----------
    W : Tensor, shape (..., m, d)
        First layer, one neuron a row.
    a : Tensor, shape (..., m, k)
        Signs of the second layer.
    X : Tensor, shape (n, d)
        Inputs.

    Returns
    -------
    Tensor, shape (..., nk, nk)
        H(W), the k outputs of a point next to each other.

    Examples
    --------
    >>> import torch
    >>> two_layer_gram(torch.eye(2), torch.ones(2, 1), torch.eye(2))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    k = a.shape[-1]
    on = (X @ W.mT > 0).to(W)
    features = (on[..., :, None, :] * a.mT[..., None, :, :]).flatten(-3, -2)
    inner = (X @ X.mT / W.shape[-2]).repeat_interleave(k, 0).repeat_interleave(k, 1)
    return (features @ features.mT) * inner


class TwoLayerFlow(ParameterFlow):
    """Gradient flow of W in u = m^{-1/2} σ(X Wᵀ) a on the sum ½‖u − y‖².

    Parameters
    ----------
    inputs : Tensor, shape (n, d)
        Inputs X.
    targets : Tensor, shape (n,) or (n, k)
        Targets y.
    signs : Tensor, shape (..., m) or (..., m, k)
        Signs a of the second layer, with an output dimension where ``targets`` has one. Leading
        dimensions are an ensemble's: each start W then has its own signs.

    Raises
    ------
    InputError
        If shapes do not fit or an argument is not finite.

    Notes
    -----
    The state is W, (..., m, d). `NetworkFlow` takes any module and loss.

    Examples
    --------
    >>> import torch, gflow
    >>> X = torch.eye(2, dtype=torch.float64)
    >>> a = torch.tensor([1.0, -1.0], dtype=torch.float64)
    >>> flow = gflow.flows.TwoLayerFlow(X, torch.zeros(2, dtype=torch.float64), a)
    >>> flow.gram(2 * X).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    >>> flow.end_to_end(torch.tensor([[4.0, 0.0], [1.0, 1.0]]).double()).tolist() == [
    ...     3 / 2**0.5, -1 / 2**0.5]
    True
    """

    def __init__(self, inputs: Tensor, targets: Tensor, signs: Tensor):
        inputs, targets, signs = (
            require_float(name, value)
            for name, value in (("inputs", inputs), ("targets", targets), ("signs", signs))
        )
        for name, value in (("inputs", inputs), ("targets", targets), ("signs", signs)):
            require_finite(name, value)
            require_nonempty(name, value)
            require_dtype_and_device(name, value, inputs, "inputs")
        if inputs.ndim != 2 or targets.ndim not in (1, 2) or len(targets) != len(inputs):
            raise InputError(
                "inputs must have shape (n, d) and targets (n,) or (n, k), "
                f"got {tuple(inputs.shape)} and {tuple(targets.shape)}; reshape them"
            )
        outputs = tuple(targets.shape[1:])
        if signs.ndim < targets.ndim or tuple(signs.shape[signs.ndim - len(outputs) :]) != outputs:
            shown = ", ".join(["..., m", *map(str, outputs)])
            raise InputError(f"signs must have shape ({shown}), got {tuple(signs.shape)}")
        self.inputs = inputs
        self.targets = targets
        self.signs = signs

    @property
    def _columns(self) -> Tensor:
        """The signs as (..., m, k)."""
        return self.signs if self.targets.ndim == 2 else self.signs[..., None]

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self._columns.shape[-2], self.inputs.shape[1])

    @property
    def reference_tensor(self) -> Tensor:
        return self.inputs

    @property
    def members(self) -> tuple[int, ...]:
        return tuple(self.signs.shape[: -self.targets.ndim])

    def for_members(self, index: Tensor) -> TwoLayerFlow:
        if not self.members:
            return self
        members = copy.copy(self)
        members.signs = self.signs.flatten(0, -1 - self.targets.ndim)[index]
        return members

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        target = self.targets.reshape(len(self.targets), -1)
        signs = self._columns
        if y.ndim == 2:
            return two_layer_rhs(y, signs, self.inputs, target)
        members = y.reshape(-1, *self.state_shape)
        signs = signs.expand(*y.shape[:-2], *signs.shape[-2:]).reshape(
            len(members), *signs.shape[-2:]
        )
        block = max(1, _BLOCK // y.shape[-2])
        pairs = zip(members.split(block), signs.split(block), strict=True)
        rates = [two_layer_rhs(W, a, self.inputs, target) for W, a in pairs]
        return torch.cat(rates).reshape(y.shape)

    def loss(self, y: Tensor) -> Tensor:
        """Compute ½‖u − y‖², summed over points and outputs."""
        residual = self.end_to_end(y) - self.targets
        return 0.5 * residual.square().flatten(y.ndim - 2).sum(-1)

    def neurons(self, y: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.signs.ndim > self.targets.ndim:
            return None  # each member has its own
        return y, self._columns[..., 0].sign()

    def array_form(self) -> ArrayForm | None:
        X = shared_array(self.inputs)
        if X is None or type(self) is not TwoLayerFlow or self.signs.ndim > self.targets.ndim:
            return None
        signs = self._columns.detach().numpy()
        scale = len(signs) ** -0.5
        signs = scale * signs
        targets = self.targets.detach().reshape(len(X), -1).numpy()

        def residual(W: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = W @ X.T
            active = z > 0
            z *= active
            return active, targets - z.T @ signs

        def velocity(W: np.ndarray) -> np.ndarray:
            return loss_and_velocity(W)[1]

        def loss_and_velocity(W: np.ndarray) -> tuple[float, np.ndarray]:
            active, missing = residual(W)
            return 0.5 * squared_speed(W, missing), (active * (signs @ missing.T)) @ X

        def loss(W: np.ndarray) -> float:
            return 0.5 * squared_speed(W, residual(W)[1])

        return ArrayForm(velocity, loss, squared_speed, loss_and_velocity)

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        # −JᵀJ v, exact away from kinks
        active, scale = (self.inputs @ y.mT > 0).to(y.dtype), y.shape[-2] ** -0.5
        change = scale * (active * (self.inputs @ v.mT)) @ self._columns
        return -scale * (active * (change @ self._columns.mT)).mT @ self.inputs

    def outputs(self, y: Tensor, inputs: Tensor) -> Tensor:
        """Compute the network's outputs at any inputs.

        Parameters
        ----------
        y : Tensor, shape (..., m, d)
            A state W or an ensemble.
        inputs : Tensor, shape (n', d)
            Inputs.

        Returns
        -------
        Tensor, shape (..., n') or (..., n', k)
            The outputs f(inputs).
        """
        outputs = two_layer_outputs(y, self._columns, inputs)
        return outputs if self.targets.ndim == 2 else outputs[..., 0]

    def end_to_end(self, y: Tensor) -> Tensor:
        """Compute the outputs u on the flow's inputs, the argument of the loss."""
        return self.outputs(y, self.inputs)

    def gram(self, y: Tensor) -> Tensor:
        """Compute the kernel H(W) at a state, (..., nk, nk): u̇ = −H(W)(u − y)."""
        return two_layer_gram(y, self._columns, self.inputs)

    @classmethod
    def example(cls) -> tuple[TwoLayerFlow, Tensor]:
        angles = torch.tensor([-0.4, 0.0, 0.5, 2.8, 3.5], dtype=torch.float64)
        X = torch.stack([torch.cos(angles), torch.sin(angles)], dim=-1)
        signs = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        W = torch.tensor([[1.0, 0.2], [0.8, -0.3], [-0.9, 0.1]], dtype=torch.float64)
        # A minimum in the start's own linear piece: the path crosses no kink, so that solvers
        # show their order.
        return cls(X, two_layer_outputs(1.5 * W, signs, X), signs), W
