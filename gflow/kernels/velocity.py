r"""Velocity of the empirical tangent kernel as the parameters move, exactly.

With θ̇ = v and J_o(x) = ∂u_o(x)/∂θ the rows of the Jacobian move as J̇_o(x) = ∇²u_o(x)·v, and

    dH_ij/dt = (1/k) Σ_o [J̇_o(x_i) · J_o(x_j) + J_o(x_i) · J̇_o(x_j)],

the first correction of the kernel in time (Huang & Yau 2020, arXiv:1909.08156, equation 1.5; Dyer &
Gur-Ari 2020, arXiv:1909.11304). H is the mean over outputs of `empirical_ntk`, or all pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from gflow.kernels.contractions import MEMORY, USABLE
from gflow.kernels.functional import Network, Parameters, named_parameters, prepare
from gflow.linalg.blocks import spans
from gflow.linalg.elementary_norms import with_elementary_norms

_COPIES = 6  # Jacobians in memory for each of two blocks: J, J̇ and what computing them needs


def empirical_ntk_velocity(
    module: nn.Module,
    x: Tensor,
    velocity: Parameters,
    *,
    full: bool = False,
    params: Parameters | None = None,
    max_memory: int = MEMORY,
) -> Tensor:
    """Compute how fast the empirical NTK of a module changes as its parameters move.

    Parameters
    ----------
    module : nn.Module
        As of `empirical_ntk`, and differentiable twice.
    x : Tensor, shape (n, ...)
        Points.
    velocity : mapping of str to Tensor
        θ̇ of each trainable parameter, by name.
    full : bool
        All pairs of outputs instead of the mean over them.
    params : mapping of str to Tensor, optional
        Values of the trainable parameters by name; the module's own by default.
    max_memory : int
        Bytes allowed for the Jacobians, which are in blocks of points: two blocks are in memory
        at a time, about twelve times 8kp bytes a point for p parameters and k outputs.

    Returns
    -------
    Tensor, shape (n, n), or (n, k, n, k) with ``full``
        dH/dt, symmetric.

    Raises
    ------
    InputError
        As `empirical_ntk` does, or if ``velocity`` does not fit the parameters.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    >>> w = {"0.weight": torch.tensor([[2.0]]).double(), "1.weight": torch.tensor([[3.0]]).double()}
    >>> x = torch.ones(1, 1, dtype=torch.float64)
    >>> empirical_ntk_velocity(module, x, w, params=w)   # d/dt (w₀² + w₁²) for ẇ = w
    tensor([[26.]], dtype=torch.float64)
    """
    network, parameters, x, _, k = prepare(module, x, None, params)
    network = with_elementary_norms(network)  # second derivatives of weight norm are wrong in torch
    direction = named_parameters("velocity", velocity, parameters)
    size = sum(p.numel() for p in parameters.values())
    row = 2 * _COPIES * k * size * next(iter(parameters.values())).element_size()
    block, each = max(1, int(USABLE * max_memory / row)), k if full else 1
    result = x.new_empty((0, 0), dtype=next(iter(parameters.values())).dtype)
    result.resize_(len(x) * each, len(x) * each)
    for right in spans(len(x), block):
        columns = _slopes_and_changes(network, parameters, direction, x[right], full)
        for below in spans(len(x), block, right.start):
            if below == right:
                half = columns[1] @ columns[0].mT
                tile = half + half.mT
            else:
                rows = _slopes_and_changes(network, parameters, direction, x[below], full)
                tile = rows[1] @ columns[0].mT + rows[0] @ columns[1].mT
            i, j = (slice(part.start * each, part.stop * each) for part in (below, right))
            result[i, j], result[j, i] = tile, tile.mT
    return result.reshape(len(x), k, len(x), k) if full else result.div_(k)


def _slopes_and_changes(
    network: Network, parameters: Parameters, direction: Parameters, x: Tensor, full: bool
) -> tuple[Tensor, Tensor]:
    """Return J and J̇ at points: a row for each point, or with ``full`` for each of its outputs."""
    try:
        with torch.no_grad():
            J, change = vmap(lambda point: _by_torch_func(network, parameters, direction, point))(x)
    except RuntimeError:  # a recurrent layer, or one that depends on values: point after point
        rows = [_by_autograd(network, parameters, direction, x[i : i + 1]) for i in range(len(x))]
        J, change = (torch.stack(each) for each in zip(*rows, strict=True))
    first = 0 if full else 1
    return J.detach().flatten(first, 1 + first), change.detach().flatten(first, 1 + first)


def _by_torch_func(
    network: Network, parameters: Parameters, direction: Parameters, point: Tensor
) -> tuple[Tensor, Tensor]:
    """Return J and J̇ at one point, (k, p) each, all outputs at once."""
    outputs = network(parameters, point[None])[0]

    def of_output(weights: Tensor) -> tuple[Tensor, Tensor]:
        def along(theta: Parameters) -> tuple[Tensor, Tensor]:
            slope = grad(lambda q: (weights * network(q, point[None])[0]).sum())(theta)
            return sum((slope[n] * direction[n]).sum() for n in slope), _flat(slope)

        change, slope = grad(along, has_aux=True)(parameters)
        return slope, _flat(change)

    return vmap(of_output)(torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device))


def _by_autograd(
    network: Network, parameters: Parameters, direction: Parameters, x: Tensor
) -> tuple[Tensor, Tensor]:
    """Return J and J̇ at one point, (k, p) each, output after output."""
    leaves = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    ends, slopes, changes = list(leaves.values()), [], []
    with torch.enable_grad():
        for u in network(leaves, x)[0].unbind():
            slope = torch.autograd.grad(u, ends, create_graph=True, materialize_grads=True)
            slopes.append(torch.cat([g.flatten() for g in slope]))
            along = slopes[-1] @ _flat(direction)
            change = tuple(torch.zeros_like(p) for p in ends)
            if along.requires_grad:
                change = torch.autograd.grad(along, ends, retain_graph=True, materialize_grads=True)
            changes.append(torch.cat([g.flatten() for g in change]))
    return torch.stack(slopes), torch.stack(changes)


def _flat(named: Parameters) -> Tensor:
    return torch.cat([part.flatten() for part in named.values()])
