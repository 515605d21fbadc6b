r"""Heavy-ball descent θ_{k+1} = θ_k + β(θ_k − θ_{k−1}) + ηf(θ_k), f = −∇L, as a flow.

Time unit: with θ_{k+1} = θ(t + τ) and θ_{k−1} = θ(t − τ), leading order gives
(1 − β)τθ̇ = ηf: the gradient flow itself at t = kτ, τ = η/(1 − β). The next order is
τ(1 − β)θ̇ + ½τ²(1 + β)θ̈ = ηf, so that

    θ̇ = f − ½τs·f'f,   s = (1 + β)/(1 − β),

the gradient flow of L + ¼τs‖∇L‖² (Ghosh et al. 2023, arXiv:2302.00849, whose time is kη; Kovachki
& Stuart 2021, arXiv:1906.04285, on the attractive manifold that this flow lives on). β = 0 gives
back descent's modified flow.

Descent starts at rest, θ_{−1} = θ_0, off that manifold: its first steps are shorter by the
factors 1 − β, 1 − β², …, which sums up to τβ/(1 − β) of lost time. Once β^k is forgotten it follows
the flow that started at

    θ̃_0 = θ_0 − τβ/(1 − β)·f(θ_0) + O(η²).

During the first ~1/(1 − β) steps its distance from it is O(η), afterwards O(η²).
"""

from __future__ import annotations

from torch import Tensor

from gflow.flows.base import Flow


def time_unit(step_size: float, momentum: float) -> float:
    """Compute τ = η/(1 − β), the time that one step takes.

    Parameters
    ----------
    step_size : float
        Step size η.
    momentum : float
        Heavy-ball momentum β in [0, 1).

    Returns
    -------
    float
        The time unit τ.

    Examples
    --------
    >>> time_unit(0.01, 0.75)
    0.04
    """
    return step_size / (1 - momentum)


def inertia(momentum: float) -> float:
    """Compute s = (1 + β)/(1 − β), the factor on ½τ·f'f of the modified flow.

    Examples
    --------
    >>> inertia(0.0), inertia(0.5)
    (1.0, 3.0)
    """
    return (1 + momentum) / (1 - momentum)


def slow_start(flow: Flow, y0: Tensor, unit: float | Tensor, momentum: float) -> Tensor:
    """Compute θ̃_0, the start of the flow that heavy-ball descent from rest at y0 approaches.

    Parameters
    ----------
    flow : Flow
        The gradient flow of the parameters.
    y0 : Tensor, shape (..., *state)
        The start θ_0 of descent.
    unit : float or Tensor
        Time unit τ, one number or a tensor that broadcasts against y0.
    momentum : float
        Heavy-ball momentum β in [0, 1).

    Returns
    -------
    Tensor, shape (..., *state)
        The start of the flow.

    Examples
    --------
    >>> import torch, gflow
    >>> flow = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
    >>> slow_start(flow, torch.zeros(1).double(), 0.25, 0.5).item()
    -0.25
    """
    if momentum == 0:
        return y0
    return y0 - unit * (momentum / (1 - momentum)) * flow(0.0, y0)
