r"""Empirical neural tangent kernel of any torch module.

    Θ(x, x') = J(x) J(x')ᵀ,   J(x) = ∂u(x)/∂θ,

at the parameters as the module has them (Jacot et al. 2018, arXiv:1806.07572): a network in
NTK parametrisation carries its 1/√width itself. Traced over k outputs it is the **mean**
(1/k) Σ_o ∂u_o/∂θ · ∂u_o/∂θ', the kernel of one output, to which the analytic `ntk` of a wide
network is the limit. Full, Θ[i, o, j, p] = ∂u_o(x_i)/∂θ · ∂u_p(x_j)/∂θ.

Time unit: u̇ = −Θ(u − y) is the flow of the **sum** ½‖u − y‖² at θ; t = k·step_size of descent
on it. Time runs n times slower on the mean over n points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gflow.errors import InputError
from gflow.kernels.contractions import (
    MEMORY,
    SHARE,
    Contraction,
    JacobianWay,
    LayerWay,
    ProductWay,
    allocated,
)
from gflow.kernels.functional import prepare

_WAYS: dict[str, type[Contraction]] = {w.name: w for w in (LayerWay, JacobianWay, ProductWay)}


def empirical_ntk(
    module: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    full: bool = False,
    params: Mapping[str, Tensor] | None = None,
    max_memory: int = MEMORY,
    method: str = "auto",
) -> Tensor:
    """The empirical NTK of a module between points.

    Parameters
    ----------
    module : nn.Module
        Called on a batch of points; each row of its outputs depends on its own point. It is
        neither changed nor copied. Parameters with ``requires_grad=False`` are constants;
        tied ones count once.
    x1 : Tensor, shape (n1, ...)
        Points, of the parameters' dtype, or whole numbers (for embeddings).
    x2 : Tensor, shape (n2, ...), optional
        Further points; x1 itself by default, and then the kernel is symmetric exactly.
    full : bool
        All pairs of outputs instead of the mean over them. For outputs (n, k) as one vector,
        ``.flatten(2).flatten(0, 1)`` is the nk × nk matrix that goes with ``u.flatten()``.
    params : mapping of str to Tensor, optional
        Values of the trainable parameters by name, such as ``flow.parameters_dict(theta)`` of
        a `NetworkFlow`; the module's own by default.
    max_memory : int
        Most bytes for the kernel and all that is allocated on the way to it.
    method : str
        ``jacobian``, ``products``, ``structured`` (modules whose trainable parameters are all
        weights and biases of dense layers), or ``auto``: the one with the least work of
        those that fit.

    Returns
    -------
    Tensor, shape (n1, n2), or (n1, k, n2, k) with ``full``
        Outputs of more dimensions are taken as k in all; a module with outputs (n,) has k = 1.

    Raises
    ------
    InputError
        If a layer is in a training mode that makes outputs random, points or parameters do
        not fit the module, or not even one pair of points fits into ``max_memory``.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Linear(2, 3, bias=False).double()
    >>> x = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    >>> empirical_ntk(module, x).tolist()   # x·x'
    [[5.0, 2.0], [2.0, 1.0]]
    >>> empirical_ntk(module, x, full=True)[0, :, 1].tolist()
    [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]]
    """
    network, parameters, x1, points, k = prepare(module, x1, x2, params)
    if method != "auto" and method not in _WAYS:
        raise InputError(f"method must be auto or one of {', '.join(_WAYS)}, got {method!r}")
    plans: list[_Plan] = []
    for name in _worth_a_look(full) if method == "auto" else (method,):
        plan = _plan(_WAYS[name](network, parameters, full), x1, points, k, max_memory)
        plans += [] if plan is None else [plan]
        if plan is not None and name == "structured":
            break
    if not plans:
        raise InputError(
            f"method {method!r} cannot serve this module: 'structured' needs dense layers that "
            "hold all trainable parameters, 'products' derivatives by torch.func; use 'jacobian'"
        )
    fitting = [plan for plan in plans if plan.block >= 1]
    if not fitting:
        least = min(plan.least for plan in plans)
        raise InputError(
            f"max_memory must be at least about {least} bytes for this kernel of "
            f"{len(x1)} × {len(points)} points and {k} outputs, got {max_memory}; raise it, or use "
            "empirical_ntk_product, which needs no matrix"
        )
    best = min(fitting, key=lambda plan: plan.work)
    kernel = _assemble(best, x1, x2, k)
    return kernel if full else kernel.div_(k)


def _worth_a_look(full: bool) -> tuple[str, ...]:
    """Ways that may be the cheapest: for a trace kP is less than 2kF, and dense layers need
    less work and less memory than both."""
    return ("structured", "jacobian", "products") if full else ("structured", "jacobian")


# -- blocks ---------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """A way, the points in a block (0: not even one fits) and the work for a pair."""

    way: Contraction
    block: int
    work: float
    least: int


def _plan(way: Contraction, x1: Tensor, x2: Tensor, k: int, max_memory: int) -> _Plan | None:
    """How a way would go about it; None where it does not apply."""
    parameters = way.parameters
    size = sum(p.numel() for p in parameters.values())
    pair, one = x2[:2], next(iter(parameters.values())).element_size()
    number = one * (k * k if way.full else 1)  # bytes of an entry of the kernel
    room, probe = SHARE * max_memory, 0
    if isinstance(way, LayerWay):
        probe, right = allocated(lambda: bool(way.columns(pair)) and _explains(way, pair))
        if not right:
            return None
    elif 6 * k * size * one > room:
        # A closer look would take so much.
        least = len(x1) * len(x2) * number + 6 * k * size * one
        return _Plan(way, 0, math.inf, math.ceil(least / SHARE))
    first, columns = allocated(lambda: way.columns(x2[:1]))
    second = allocated(lambda: way.columns(pair))[0] if len(pair) == 2 else 2 * first
    each = max(second - first, first // 2 if len(pair) < 2 else 0)
    fixed = max(first - each, probe)
    try:
        both, _ = allocated(lambda: way.tile(way.rows(x1[:1]), columns))
    except RuntimeError:
        if way.symmetric:
            raise
        return None  # an operation without a forward derivative
    entry = both - (0 if not way.symmetric else first) + number
    shared = way.symmetric and x1 is x2
    whole = fixed + len(x2) * each + (0 if shared else len(x1) * each) + len(x1) * len(x2) * entry
    with FlopCounterMode(display=False) as counter:
        way.network(parameters, x1[:1])
    forward = counter.get_total_flops() // 2
    work = float(way.work(k, size, forward))
    result = len(x1) * len(x2) * number
    if whole <= room:
        return _Plan(way, max(len(x1), len(x2)), work, whole)
    room -= result + fixed
    # The largest b with 2·each·b + entry·b² ≤ room.
    block = int((math.sqrt(each**2 + entry * room) - each) / entry) if room > 0 else 0
    again = 4 * k * max(forward, size) / max(block, 1)  # rows are prepared for every block
    least = math.ceil((result + fixed + 2 * each + entry) / SHARE)
    return _Plan(way, block, work + again, least)


def _explains(way: Contraction, x: Tensor) -> bool:
    """Whether the layers give the same ‖∂(c·u)/∂θ‖² as automatic differentiation, at two
    points: a module may use its parameters, or mix its rows, where no one can watch."""
    leaves = {name: p.detach().requires_grad_() for name, p in way.parameters.items()}
    with torch.enable_grad():
        u = way.network(leaves, x)
        c = torch.cos(torch.arange(u.numel(), dtype=u.dtype, device=u.device)).reshape(u.shape)
        slopes = torch.autograd.grad((c * u).sum(), list(leaves.values()), materialize_grads=True)
    want = float(sum(slope.square().sum() for slope in slopes))
    whole = LayerWay(way.network, way.parameters, full=True)
    columns = whole.columns(x)
    tile = whole.tile(columns, columns).flatten(2).flatten(0, 1)
    got = float(c.flatten() @ tile @ c.flatten())
    return abs(got - want) <= math.sqrt(torch.finfo(u.dtype).eps) * max(want, float(tile.trace()))


def _assemble(plan: _Plan, x1: Tensor, x2: Tensor | None, k: int) -> Tensor:
    """The kernel from blocks, those above the diagonal mirrored where it is symmetric."""
    way, points = plan.way, x1 if x2 is None else x2
    whole = plan.block >= max(len(x1), len(points))
    shape = (len(x1), k, len(points), k) if way.full else (len(x1), len(points))
    kernel = next(iter(way.parameters.values())).new_empty((0,) if whole else shape)
    # Points first: (n1, n2) or (n1, n2, k, k).
    here = kernel.movedim(-2, 1) if way.full and not whole else kernel
    for j, columns_at in _spans(len(points), plan.block):
        columns = way.columns(points[j:columns_at])
        for i, rows_at in _spans(len(x1), plan.block):
            if x2 is None and i < j:
                continue
            same = x2 is None and i == j
            rows = columns if same and way.symmetric else way.rows(x1[i:rows_at])
            tile = way.tile(rows, columns)
            del rows  # before the next ones are made
            if same:
                tile = (tile + _transposed(tile)).mul_(0.5)
            if whole:
                return tile
            here[i:rows_at, j:columns_at] = tile.movedim(-2, 1) if way.full else tile
            if x2 is None and not same:
                turned = _transposed(tile)
                here[j:columns_at, i:rows_at] = turned.movedim(-2, 1) if way.full else turned
        del columns
    return kernel


def _transposed(tile: Tensor) -> Tensor:
    return tile.permute(2, 3, 0, 1) if tile.ndim == 4 else tile.mT


def _spans(n: int, step: int) -> Iterator[tuple[int, int]]:
    return ((i, min(i + step, n)) for i in range(0, n, step))
