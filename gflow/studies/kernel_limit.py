"""The limit of infinite width: descent in function space with a fixed kernel, in closed form.

u_{k+1} = u_k − ηH(u_k − y) by the eigendecomposition of H, at any steps without taking them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gflow.flows.gram.modes import descent_factors
from gflow.flows.kernel import KernelFlow
from gflow.linalg.columns import on_columns


def kernel_descent(flow: KernelFlow, u0: Tensor, step_size: float, steps: Sequence[int]) -> Tensor:
    """Return u_k = y + (I − ηH)^k(u₀ − y) at some steps without taking them.

    Parameters
    ----------
    flow : KernelFlow
    u0 : Tensor, shape (n,) or (n, k)
    step_size : float
    steps : sequence of int

    Returns
    -------
    Tensor, shape (S, *u0.shape)

    Examples
    --------
    >>> import torch
    >>> flow = KernelFlow(torch.eye(1).double(), torch.ones(1).double())
    >>> kernel_descent(flow, torch.zeros(1).double(), 0.5, [0, 1, 2]).flatten().tolist()
    [0.0, 0.5, 0.75]
    """
    factors, _ = descent_factors(flow.eigenvalues, step_size, _counts(steps, u0))
    return flow.targets + flow.apply_modes(factors, u0 - flow.targets)


def kernel_descent_test(
    flow: KernelFlow,
    to_test: Tensor,
    u0: Tensor,
    test_u0: Tensor,
    step_size: float,
    steps: Sequence[int],
) -> Tensor:
    """Return kernel descent at test points, u_*(0) − ηH_* Σ_{j<k} (I − ηH)^j (u₀ − y).

    Parameters
    ----------
    flow : KernelFlow
    to_test : Tensor, shape (n_test, n)
        H_*, the kernel between test and training points.
    u0, test_u0 : Tensor, shape (n,) or (n, k), and (n_test,) or (n_test, k)
        Outputs at the start.
    step_size : float
    steps : sequence of int

    Returns
    -------
    Tensor, shape (S, *test_u0.shape)

    Examples
    --------
    >>> import torch
    >>> H, zero = torch.eye(1).double(), torch.zeros(1).double()
    >>> flow = KernelFlow(H, torch.ones(1).double())
    >>> kernel_descent_test(flow, H, zero, zero, 0.5, [0, 1, 2]).flatten().tolist()
    [0.0, 0.5, 0.75]
    """
    _, sums = descent_factors(flow.eigenvalues, step_size, _counts(steps, u0))
    moved = flow.apply_modes(sums, u0 - flow.targets)
    return test_u0 - (moved @ to_test.mT if u0.ndim == 1 else on_columns(to_test.__matmul__, moved))


def _counts(steps: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(list(steps), device=like.device)
