"""Sharpness: the largest eigenvalues of the Hessian of a flow's objective.

The sharpness at a state is the largest eigenvalue λ_max of the Hessian of the objective, minus the
Jacobian of its gradient flow; gradient descent is stable for step sizes below 2/λ_max. Of a flow
with time scales r it is the largest eigenvalue of r^{1/2}Hr^{1/2}, for which that holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from gflow.checks import require_count, require_float, require_nonempty, require_positive
from gflow.errors import InputError
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.starts import single_start
from gflow.linalg.eigen import Eigenpairs, largest_eigenvalues

_WARM = 0.02  # relative tolerance of the residuals from a nearby start


def sharpness(
    flow: Flow,
    y: Tensor,
    k: int = 1,
    start: Tensor | None = None,
    *,
    tol: float | None = None,
    max_products: int = 200,
) -> Eigenpairs:
    """Compute the k largest eigenvalues of the Hessian of the objective of the parameters.

    Along a path pass the ``vectors`` of one state as the ``start`` of the next, as
    `sharpness_along` does. On the digits tanh network (8,970 parameters) at 100 times to
    T = 1,000 that takes 2.6 products a time after the first, and λ_max is right to 0.1 % at
    most times, 1.3 % where it is nearly double. Another eigenvalue may overtake the last of the
    k unnoticed for a while: compute one more than needed.

    Parameters
    ----------
    flow : Flow
        A flow of parameters; for a reduced flow the objective of its parameters is taken, at
        ``flow.lift(y)``.
    y : Tensor, shape (*state)
        One state.
    k : int
        Number of eigenvalues.
    start : Tensor, shape (m, n), optional
        First vectors over the flattened parameters; k fixed random ones by default.
    tol : float, optional
        Tolerance of the residuals, relative to λ_max; by default 0.02, and 0.002 from a random
        start, which does not contain the first eigenvector. Where eigenvalues are apart, their
        relative error is of the order of tol².
    max_products : int
        Largest number of Hessian products.

    Returns
    -------
    Eigenpairs
        ``values``, (k,), descending; ``vectors`` to start from at a nearby state; their
        ``residuals`` and the number of ``products``.

    Raises
    ------
    InputError
        If the state is an ensemble or no state of the flow, or an argument is out of range.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    >>> flow = gflow.KernelFlow(H, torch.ones(2, dtype=torch.float64))
    >>> round(sharpness(flow, torch.zeros(2, dtype=torch.float64)).values.item(), 4)
    4.0
    """
    flow, y = single_start("the sharpness", flow, y, "gflow.spectra.sharpness(flow, y)")
    if start is not None:
        start = require_float("start", start)
        n = flow.lift(y).numel()
        if start.ndim not in (1, 2) or start.shape[-1] != n:
            raise InputError(
                f"start must have shape (m, {n}), one row a vector over the parameters, got "
                f"{tuple(start.shape)}; pass the vectors of another state"
            )
    k, max_products = require_count("k", k), require_count("max_products", max_products)
    tol = None if tol is None else require_positive("tol", tol)
    return hessian_eigenpairs(flow, y, k, start, tol=tol, max_products=max_products)


def hessian_eigenpairs(
    flow: Flow,
    y: Tensor,
    k: int = 1,
    start: Tensor | None = None,
    *,
    tol: float | None = None,
    max_products: int = 200,
) -> Eigenpairs:
    """Compute `sharpness` without checks of its arguments; NaN where the Hessian is not finite.

    Parameters
    ----------
    flow : Flow
    y : Tensor, shape (*state)
    k : int
    start : Tensor, optional
    tol : float, optional
    max_products : int
        All as of `sharpness`.

    Returns
    -------
    Eigenpairs

    Examples
    --------
    >>> import gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> hessian_eigenpairs(flow, U, 2).values.shape
    torch.Size([2])
    """
    inner, theta = flow.parameter_flow, flow.lift(y)
    if tol is None:
        tol = _WARM if start is not None else _WARM / 10
    if start is None:
        noise = torch.Generator().manual_seed(0)
        # One for each value: a repeated eigenvalue appears as often as there are first vectors.
        start = torch.randn(k, theta.numel(), generator=noise, dtype=torch.float64).to(theta)
    return largest_eigenvalues(
        hessian_product(inner, theta),
        start,
        k,
        tol=tol,
        max_products=max_products,
    )


def hessian_product(flow: Flow, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v ↦ Hv at one state, (n,) → (n,); with time scales r, v ↦ r^{1/2}Hr^{1/2}v.

    Parameters
    ----------
    flow : Flow
        Of parameters.
    theta : Tensor, shape (*state)
        One state, of n numbers.

    Returns
    -------
    callable

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.KernelFlow(torch.diag(torch.tensor([4.0, 1.0])), torch.ones(2))
    >>> hessian_product(flow, torch.zeros(2))(torch.ones(2)).tolist()
    [4.0, 1.0]
    """
    linearised, chart = flow.linearised(theta), flow.perturbations(theta)

    def product(v: Tensor) -> Tensor:
        v = v.reshape(theta.shape)
        image = linearised(v) if chart is None else chart[1](linearised(chart[0](v)))
        return -image.flatten()

    return product


class SharpnessPath:
    """`sharpness` along one path, state by state, each started from the one before.

    Parameters
    ----------
    flow : Flow
        The flow whose path it is.
    k : int
        Number of eigenvalues.
    tol : float, optional
        Relative tolerance of the residuals, as in `sharpness`.

    Attributes
    ----------
    values : list of Tensor, shape (k,)
        Eigenvalues at every state so far.
    vectors : Tensor or None
        Vectors to start the next state from.
    products : int
        Hessian products so far.
    """

    def __init__(self, flow: Flow, k: int = 1, *, tol: float | None = None):
        self.k = k
        self.values: list[Tensor] = []
        self.vectors: Tensor | None = None
        self.products = 0
        self._flow = flow
        self._tol = tol

    def add(self, y: Tensor) -> Eigenpairs:
        """Compute the eigenvalues at the next state, (*state)."""
        pairs = hessian_eigenpairs(self._flow, y, self.k, self.vectors, tol=self._tol)
        self.values.append(pairs.values)
        self.vectors, self.products = pairs.vectors, self.products + pairs.products
        return pairs

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors for a checkpoint, none before the first state.

        They are not modified afterwards.
        """
        if self.vectors is None:
            return {}
        return {"sharpness": torch.stack(self.values), "sharpness_vectors": self.vectors}

    def restore(self, tensors: Mapping[str, Tensor], products: int, like: Tensor) -> None:
        """Restore the state that `tensors` returned, on the device of like.

        Parameters
        ----------
        tensors : mapping of str to Tensor
            The tensors.
        products : int
            Hessian products up to there.
        like : Tensor
            A tensor of the dtype and device of states.
        """
        self.values = list(tensors["sharpness"].to(like))
        self.vectors, self.products = tensors["sharpness_vectors"].to(like), products


def sharpness_along(
    flow: Flow, ys: Tensor, k: int = 1, *, tol: float | None = None
) -> tuple[Tensor, int]:
    """Compute `sharpness` at the states of one path, each started from the one before.

    While integrating a path, ``gflow.integrate(…, sharpness=k)`` does the same, and the solver
    uses the values.

    Parameters
    ----------
    flow : Flow
        The flow whose path it is.
    ys : Tensor, shape (T, *state)
        The states in order.
    k : int
        Number of eigenvalues.
    tol : float, optional
        Relative tolerance of the residuals, as in `sharpness`.

    Returns
    -------
    values : Tensor, shape (T, k)
        The eigenvalues, descending.
    products : int
        Number of Hessian products.

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.KernelFlow(torch.diag(torch.tensor([4.0, 1.0])), torch.ones(2))
    >>> values, products = sharpness_along(flow, torch.zeros(3, 2))
    >>> values.squeeze().round(decimals=3).tolist()
    [4.0, 4.0, 4.0]
    """
    k, tol = require_count("k", k), None if tol is None else require_positive("tol", tol)
    ys = require_float("ys", ys)
    require_flow(flow, "gflow.spectra.sharpness_along(flow, ys)")
    require_nonempty("ys", ys)
    if ys.ndim == 0:
        raise InputError("ys must be the states of one path, (T, *state), got one number")
    flow.check_state(ys[0])
    flow = flow.for_start(ys[0])
    if ys.ndim != flow.state_ndim + 1:
        raise InputError(
            f"ys must be the states of one path, of shape (T, *state), got {tuple(ys.shape)}; pass "
            "those of one member"
        )
    path = SharpnessPath(flow, k, tol=tol)
    for y in ys:
        path.add(y)
    return torch.stack(path.values), path.products
