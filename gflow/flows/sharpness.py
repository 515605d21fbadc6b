"""Sharpness: the largest eigenvalues of the Hessian of a flow's objective.

The sharpness at a state is the largest eigenvalue λ_max of the Hessian of the objective, minus the
Jacobian of its gradient flow; gradient descent is stable for step sizes below 2/λ_max.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gflow.linalg.eigen import Eigenpairs, largest_eigenvalues

if TYPE_CHECKING:
    from gflow.flows.base import Flow


_WARM = 0.02  # of the residual where the start is near


def sharpness(
    flow: Flow,
    y: Tensor,
    k: int = 1,
    start: Tensor | None = None,
    *,
    tol: float | None = None,
    max_products: int = 200,
) -> Eigenpairs:
    """The k largest eigenvalues of the Hessian of the objective of the parameters.

    Along a path pass the ``vectors`` of one state as the ``start`` of the next, as
    `sharpness_along` does. On the digits tanh network (8,970 parameters) at 100 times to
    T = 1,000 that takes 2.6 products a time after the first, and λ_max is right to 0.1 % at
    most times, 1.3 % where it is nearly double. The last of the k may be overtaken unseen for
    a while: ask for one more than matter.

    Parameters
    ----------
    flow : Flow
        Of a reduced flow it is the objective of its parameters, at ``flow.lift(y)``.
    y : Tensor, shape (*state)
        One state.
    k : int
    start : Tensor, shape (m, n), optional
        First vectors over the flattened parameters; k fixed random ones by default.
    tol, max_products
        As in `largest_eigenvalues`; by default 0.02, and 0.002 from a random start, which
        does not know which eigenvector is the first. Where eigenvalues are apart, the
        relative error is of the order of tol².

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    >>> flow = gflow.KernelFlow(H, torch.ones(2, dtype=torch.float64))
    >>> round(sharpness(flow, torch.zeros(2, dtype=torch.float64)).values.item(), 4)
    4.0
    """
    inner, theta = flow.parameter_flow, flow.lift(y)
    if tol is None:
        tol = _WARM if start is not None else _WARM / 10
    if start is None:
        noise = torch.Generator().manual_seed(0)
        # As many as values: a repeated eigenvalue is seen as often as there are first vectors.
        start = torch.randn(k, theta.numel(), generator=noise, dtype=torch.float64).to(theta)
    product = inner.linearised(theta)
    return largest_eigenvalues(
        lambda v: -product(v.reshape(theta.shape)).flatten(),
        start,
        k,
        tol=tol,
        max_products=max_products,
    )


class SharpnessPath:
    """`sharpness` along one path, state by state, each started from the one before.

    Parameters
    ----------
    flow : Flow
    k, tol
        As in `sharpness`.
    """

    def __init__(self, flow: Flow, k: int = 1, *, tol: float | None = None):
        self.k = k
        self.values: list[Tensor] = []  #: (k,) at every state so far
        self.vectors: Tensor | None = None  #: what to start the next state from
        self.products = 0
        self._flow = flow
        self._tol = tol

    def add(self, y: Tensor) -> Eigenpairs:
        """The eigenvalues at the next state, (*state)."""
        top = sharpness(self._flow, y, self.k, self.vectors, tol=self._tol)
        self.values.append(top.values)
        self.vectors, self.products = top.vectors, self.products + top.products
        return top

    def tensors(self) -> dict[str, Tensor]:
        """What it knows so far, once there is a state; none of it is written to again."""
        if self.vectors is None:
            return {}
        return {"sharpness": torch.stack(self.values), "sharpness_vectors": self.vectors}

    def restore(self, tensors: Mapping[str, Tensor], products: int, like: Tensor) -> None:
        """The inverse of `tensors`, on the device of like; and how many products that took."""
        self.values = list(tensors["sharpness"].to(like))
        self.vectors, self.products = tensors["sharpness_vectors"].to(like), products


def sharpness_along(
    flow: Flow, ys: Tensor, k: int = 1, *, tol: float | None = None
) -> tuple[Tensor, int]:
    """`sharpness` at states of one path in turn, each started from the one before.

    Along a path that is yet to be integrated, `gflow.integrate` takes it with
    ``sharpness=k``, and the solver makes use of it.

    Parameters
    ----------
    flow : Flow
    ys : Tensor, shape (T, *state)
    k, tol
        As in `sharpness`.

    Returns
    -------
    (Tensor of shape (T, k), int)
        The eigenvalues, and how many products they took.
    """
    path = SharpnessPath(flow, k, tol=tol)
    for y in ys:
        path.add(y)
    return torch.stack(path.values), path.products
