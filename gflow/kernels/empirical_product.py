r"""Products with the empirical neural tangent kernel that make no kernel.

    Θv = J(x1) (J(x2)ᵀ v),   J(x) = ∂u(x)/∂θ:

a vector-Jacobian product and a Jacobian-vector product, at the price of a few passes through
the network. Conventions are those of `gflow.kernels.empirical`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from gflow.errors import InputError
from gflow.kernels.contractions import MEMORY, SHARE, allocated, push
from gflow.kernels.functional import prepare


def empirical_ntk_product(
    module: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    full: bool = False,
    params: Mapping[str, Tensor] | None = None,
    max_memory: int = MEMORY,
) -> Callable[[Tensor], Tensor]:
    """v ↦ Θ(x1, x2) v without Θ, by a Jacobian-vector product of a vector-Jacobian product.

    It goes straight into ``KernelFlow(H=…, H_test=…)``.

    Parameters
    ----------
    module, x1, x2, params
        As for `empirical_ntk`.
    full : bool
        The nk × nk kernel: v of shape (n2·k,) or (n2·k, c), the order of ``u.flatten()``. Else
        the mean over outputs, v of shape (n2,) or (n2, c), at k times the work.
    max_memory : int
        Most bytes allocated in a call: as many vectors and points at once as fit.

    Examples
    --------
    >>> import torch, gflow
    >>> module = torch.nn.Linear(2, 1).double()
    >>> x, y = torch.eye(2).double(), torch.ones(2).double()
    >>> H = empirical_ntk_product(module, x)   # x·x' + 1
    >>> H(torch.tensor([1.0, 0.0], dtype=torch.float64)).tolist()
    [2.0, 1.0]
    >>> path = gflow.integrate(gflow.KernelFlow(H, y), torch.zeros(2).double(), [0.0, 9.0])
    >>> path.stats.method, path.ys[-1].round(decimals=6).tolist()
    ('krylov', [1.0, 1.0])
    """
    network, parameters, x1, points, k = prepare(module, x1, x2, params)

    def pull(x: Tensor, along: Tensor) -> dict[str, Tensor]:
        """Σ J(x)ᵀ v for each v, (c, n, k)."""
        back = vjp(lambda p: network(p, x), parameters)[1]
        pulled: dict[str, Tensor] = vmap(lambda v: back(v)[0])(along)
        return pulled

    def price(x: Tensor) -> int:
        along = next(iter(parameters.values())).new_ones(1, len(x), k)
        return allocated(lambda: push(network, parameters, x, pull(x, along)))[0]

    try:
        one, two = price(points[:1]), price(points[:2])
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise InputError(
            "torch.func cannot differentiate this module along many directions at once "
            f"({why}); use empirical_ntk with method='jacobian'"
        ) from None
    each = max(two - one, 0) or one  # bytes a point, and beside them what the parameters take
    rows = min(max(len(x1), len(points)), int(SHARE * max_memory - one) // each)
    if rows < 1:
        raise InputError(
            f"max_memory must be at least about {math.ceil((one + each) / SHARE)} bytes for a "
            f"product with the kernel of this module, got {max_memory}; raise it"
        )
    at_once = max(1, int(SHARE * max_memory) // (one + rows * each))

    def product(v: Tensor) -> Tensor:
        out = v.new_zeros(len(x1) * (k if full else 1), *v.shape[1:])
        # The columns as cotangents (c, n2, k): with a mean over outputs one for each of them.
        columns = v.reshape(len(v), -1).mT
        found = out.view(len(out), -1)
        count = len(columns) * (1 if full else k)
        for some in torch.arange(count, device=v.device).split(at_once):
            if full:
                along = columns[some].reshape(len(some), -1, k)
            else:
                outputs = torch.eye(k, dtype=v.dtype, device=v.device)[some % k]
                along = columns[some // k][:, :, None] * outputs[:, None]
            pulled: dict[str, Tensor] = {}
            for i in range(0, len(points), rows):
                part = pull(points[i : i + rows], along[:, i : i + rows])
                pulled = {key: pulled[key] + g for key, g in part.items()} if pulled else part
            pieces = [push(network, parameters, x, pulled) for x in x1.split(rows)]
            moved = torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]
            if full:
                found[:, some] = moved.flatten(1).mT
            else:
                own = moved.gather(2, (some % k)[:, None, None].expand(-1, len(x1), 1))[..., 0]
                found.index_add_(1, some // k, own.mT / k)
        return out

    return product
