r"""Products with the empirical neural tangent kernel that make no kernel.

    Θv = J(x1) (J(x2)ᵀ v),   J(x) = ∂u(x)/∂θ:

a vector-Jacobian product and a Jacobian-vector product, at the price of a few passes through
the network. Conventions are those of `gflow.kernels.empirical`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import vjp, vmap

from gflow.checks import require_bool, require_count
from gflow.errors import InputError
from gflow.kernels.allocation import allocated_bytes
from gflow.kernels.contractions import MEMORY, USABLE
from gflow.kernels.functional import Parameters, prepare, pushforward


def empirical_ntk_product(
    module: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    full: bool = False,
    params: Parameters | None = None,
    max_memory: int = MEMORY,
) -> Callable[[Tensor], Tensor]:
    """Return v ↦ Θ(x1, x2) v without Θ, a Jacobian-vector product of a vector-Jacobian product.

    It can be passed to ``KernelFlow(H=…, H_test=…)``.

    Parameters
    ----------
    module : nn.Module
        As for `empirical_ntk`.
    x1 : Tensor, shape (n1, ...)
        Points of the rows.
    x2 : Tensor, shape (n2, ...), optional
        Points of the columns; x1 itself by default.
    full : bool
        The nk × nk kernel: v of shape (n2·k,) or (n2·k, c), the order of ``u.flatten()``. Else
        the mean over outputs, v of shape (n2,) or (n2, c), at k times the work.
    params : mapping of str to Tensor, optional
        Values of the trainable parameters by name; the module's own by default.
    max_memory : int
        Bytes allocated in a call: as many vectors and points at once as fit.

    Returns
    -------
    callable

    Raises
    ------
    InputError
        If points or parameters do not fit the module, torch.func cannot differentiate it, or
        not even one point fits into ``max_memory``.

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
    full, max_memory = require_bool("full", full), require_count("max_memory", max_memory)
    network, parameters, x1, points, k = prepare(module, x1, x2, params)

    def pull(x: Tensor, cotangents: Tensor) -> dict[str, Tensor]:
        """Return Σ J(x)ᵀ v for each v, (c, n, k)."""
        back = vjp(lambda p: network(p, x), parameters)[1]
        pulled: dict[str, Tensor] = vmap(lambda v: back(v)[0])(cotangents)
        return pulled

    def product_bytes(x: Tensor) -> int:
        v = next(iter(parameters.values())).new_ones(1, len(x), k)
        return allocated_bytes(lambda: pushforward(network, parameters, x, pull(x, v)))[0]

    try:
        one_point, two_points = product_bytes(points[:1]), product_bytes(points[:2])
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            "torch.func cannot differentiate this module along many directions at once "
            f"({reason}); use empirical_ntk with method='jacobian'"
        ) from None
    # Bytes for a point, and beside them for the parameters.
    each = max(two_points - one_point, 0) or one_point
    rows = min(max(len(x1), len(points)), int(USABLE * max_memory - one_point) // each)
    if rows < 1:
        raise InputError(
            f"max_memory must be at least about {math.ceil((one_point + each) / USABLE)} bytes for "
            f"a product with the kernel of this module, got {max_memory}; raise it"
        )
    vectors = max(1, int(USABLE * max_memory) // (one_point + rows * each))

    def product(v: Tensor) -> Tensor:
        out = v.new_zeros(len(x1) * (k if full else 1), *v.shape[1:])
        # The columns as cotangents (c, n2, k): with a mean over outputs one for each of them.
        columns = v.reshape(len(v), -1).mT
        products = out.view(len(out), -1)
        count = len(columns) * (1 if full else k)
        for batch in torch.arange(count, device=v.device).split(vectors):
            if full:
                cotangents = columns[batch].reshape(len(batch), -1, k)
            else:
                outputs = torch.eye(k, dtype=v.dtype, device=v.device)[batch % k]
                cotangents = columns[batch // k][:, :, None] * outputs[:, None]
            pulled: dict[str, Tensor] = {}
            for i in range(0, len(points), rows):
                part = pull(points[i : i + rows], cotangents[:, i : i + rows])
                pulled = {key: pulled[key] + g for key, g in part.items()} if pulled else part
            pieces = [pushforward(network, parameters, x, pulled) for x in x1.split(rows)]
            moved = torch.cat(pieces, dim=1) if len(pieces) > 1 else pieces[0]
            if full:
                products[:, batch] = moved.flatten(1).mT
            else:
                output = (batch % k)[:, None, None].expand(-1, len(x1), 1)
                products.index_add_(1, batch // k, moved.gather(2, output)[..., 0].mT / k)
        return out

    return product
