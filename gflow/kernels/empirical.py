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
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gflow.checks import require_bool, require_count, shown
from gflow.errors import InputError
from gflow.kernels.allocation import allocated_bytes
from gflow.kernels.contractions import (
    MEMORY,
    USABLE,
    Contraction,
    JacobianContraction,
    LayerContraction,
    ProductContraction,
)
from gflow.kernels.functional import Parameters, prepare
from gflow.linalg.blocks import spans

_METHODS: dict[str, type[Contraction]] = {
    kind.name: kind for kind in (LayerContraction, JacobianContraction, ProductContraction)
}


def empirical_ntk(
    module: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    *,
    full: bool = False,
    params: Parameters | None = None,
    max_memory: int = MEMORY,
    method: str = "auto",
) -> Tensor:
    """Compute the empirical NTK of a module between points.

    Parameters
    ----------
    module : nn.Module
        Called on a batch of points; each row of its outputs depends on its own point. It is
        neither changed nor copied. Parameters with ``requires_grad=False`` are constants;
        tied ones count once.
    x1 : Tensor, shape (n1, ...)
        Points, of the parameters' dtype, or whole numbers (for embeddings).
    x2 : Tensor, shape (n2, ...), optional
        Further points; x1 itself by default, and then the kernel is exactly symmetric.
    full : bool
        All pairs of outputs instead of the mean over them. For outputs (n, k) as one vector,
        ``.flatten(2).flatten(0, 1)`` is the nk × nk matrix that goes with ``u.flatten()``.
    params : mapping of str to Tensor, optional
        Values of the trainable parameters by name, such as ``flow.parameters_dict(theta)`` of
        a `NetworkFlow`; the module's own by default.
    max_memory : int
        Bytes allowed for the kernel and all that is allocated on the way to it.
    method : str
        ``jacobian``, ``products``, ``structured`` (modules whose trainable parameters are all
        weights and biases of dense layers), or ``auto``: of those that fit, the one with the
        least work.

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
    full, max_memory = require_bool("full", full), require_count("max_memory", max_memory)
    network, parameters, x1, points, k = prepare(module, x1, x2, params)
    x2 = None if x2 is None else points
    if not isinstance(method, str) or method not in ("auto", *_METHODS):
        raise InputError(
            f"method must be auto or one of {', '.join(_METHODS)}, got {shown(method)}"
        )
    plans: list[_Plan] = []
    for name in _candidates(full) if method == "auto" else (method,):
        contraction = _METHODS[name](network, parameters, full)
        plan = _plan(contraction, x1, points, k, max_memory)
        plans += [] if plan is None else [plan]
        if plan is not None and name == "structured":
            break
    if not plans:
        raise InputError(
            f"method {method!r} does not apply to this module: 'structured' needs dense layers "
            "that hold all trainable parameters, 'products' derivatives by torch.func; use "
            "'jacobian'"
        )
    fitting = [plan for plan in plans if plan.block >= 1]
    if not fitting:
        least = min(plan.least_memory for plan in plans)
        raise InputError(
            f"max_memory must be at least about {least} bytes for this kernel of "
            f"{len(x1)} × {len(points)} points and {k} outputs, got {max_memory}; raise it, or use "
            "empirical_ntk_product, which needs no matrix"
        )
    cheapest = min(fitting, key=lambda plan: plan.work)
    kernel = _assemble(cheapest, x1, x2, k)
    return kernel if full else kernel.div_(k)


def _candidates(full: bool) -> tuple[str, ...]:
    """Return the methods that may be the cheapest: for a trace kP is less than 2kF, and dense
    layers need less work and less memory than both."""
    return ("structured", "jacobian", "products") if full else ("structured", "jacobian")


# -- blocks ---------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """A contraction, the points in a block (0: not even one fits) and the work for a pair."""

    contraction: Contraction
    block: int
    work: float
    least_memory: int  # bytes


def _plan(
    contraction: Contraction, x1: Tensor, x2: Tensor, k: int, max_memory: int
) -> _Plan | None:
    """Measure what a contraction needs; None where it does not apply."""
    parameters = contraction.parameters
    size = sum(p.numel() for p in parameters.values())
    pair, itemsize = x2[:2], next(iter(parameters.values())).element_size()
    entry_bytes = itemsize * (k * k if contraction.full else 1)
    available, probe = USABLE * max_memory, 0
    if isinstance(contraction, LayerContraction):
        probe, applies = allocated_bytes(
            lambda: bool(contraction.prepare_columns(pair)) and _matches_autograd(contraction, pair)
        )
        if not applies:
            return None
    elif 6 * k * size * itemsize > available:
        # The measurement alone would take this much.
        least = len(x1) * len(x2) * entry_bytes + 6 * k * size * itemsize
        return _Plan(contraction, 0, math.inf, math.ceil(least / USABLE))
    first, columns = allocated_bytes(lambda: contraction.prepare_columns(x2[:1]))
    second = 2 * first
    if len(pair) == 2:
        second = allocated_bytes(lambda: contraction.prepare_columns(pair))[0]
    each = max(second - first, first // 2 if len(pair) < 2 else 0)
    fixed = max(first - each, probe)
    try:
        tile, _ = allocated_bytes(
            lambda: contraction.tile(contraction.prepare_rows(x1[:1]), columns)
        )
    except RuntimeError:
        if contraction.symmetric:
            raise
        return None  # an operation without a forward derivative
    entry = tile - (0 if not contraction.symmetric else first) + entry_bytes
    n1, n2 = len(x1), len(x2)
    shared = contraction.symmetric and x1 is x2
    single_block = fixed + n2 * each + (0 if shared else n1 * each) + n1 * n2 * entry
    with FlopCounterMode(display=False) as counter:
        contraction.network(parameters, x1[:1])
    forward = counter.get_total_flops() // 2
    work = float(contraction.work(k, size, forward))
    result = n1 * n2 * entry_bytes
    if single_block <= available:
        return _Plan(contraction, max(n1, n2), work, single_block)
    available -= result + fixed
    # The largest b with 2·each·b + entry·b² ≤ available.
    block = 0
    if available > 0:
        block = int((math.sqrt(each**2 + entry * available) - each) / entry)
    repeated = 4 * k * max(forward, size) / max(block, 1)  # rows are prepared for every block
    least = math.ceil((result + fixed + 2 * each + entry) / USABLE)
    return _Plan(contraction, block, work + repeated, least)


def _matches_autograd(contraction: Contraction, x: Tensor) -> bool:
    """Return whether the layers give the same ‖∂(c·u)/∂θ‖² as automatic differentiation, at two
    points: a module may use its parameters, or mix its rows, out of sight of the recorder."""
    network, parameters = contraction.network, contraction.parameters
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    with torch.enable_grad():
        u = network(leaves, x)
        c = torch.cos(torch.arange(u.numel(), dtype=u.dtype, device=u.device)).reshape(u.shape)
        slopes = torch.autograd.grad((c * u).sum(), list(leaves.values()), materialize_grads=True)
    expected = float(sum(slope.square().sum() for slope in slopes))
    full = LayerContraction(network, parameters, full=True)
    columns = full.prepare_columns(x)
    tile = full.tile(columns, columns).flatten(2).flatten(0, 1)
    value = float(c.flatten() @ tile @ c.flatten())
    scale = max(expected, float(tile.trace()))
    return abs(value - expected) <= math.sqrt(torch.finfo(u.dtype).eps) * scale


def _assemble(plan: _Plan, x1: Tensor, x2: Tensor | None, k: int) -> Tensor:
    """Return the kernel from blocks, those below the diagonal mirrored where it is symmetric."""
    contraction, points = plan.contraction, x1 if x2 is None else x2
    full, single_block = contraction.full, plan.block >= max(len(x1), len(points))
    shape = (len(x1), k, len(points), k) if full else (len(x1), len(points))
    like = next(iter(contraction.parameters.values()))
    kernel = like.new_empty((0,) if single_block else shape)
    # Points first: (n1, n2) or (n1, n2, k, k).
    entries = kernel.movedim(-2, 1) if full and not single_block else kernel
    for right in spans(len(points), plan.block):
        columns = contraction.prepare_columns(points[right])
        for below in spans(len(x1), plan.block, right.start if x2 is None else 0):
            diagonal = x2 is None and below == right
            alike = diagonal and contraction.symmetric
            rows = columns if alike else contraction.prepare_rows(x1[below])
            tile = contraction.tile(rows, columns)
            del rows  # before the next ones are made
            if diagonal:
                tile = (tile + _transposed(tile)).mul_(0.5)
            if single_block:
                return tile
            entries[below, right] = tile.movedim(-2, 1) if full else tile
            if x2 is None and not diagonal:
                mirrored = _transposed(tile)
                entries[right, below] = mirrored.movedim(-2, 1) if full else mirrored
        del columns
    return kernel


def _transposed(tile: Tensor) -> Tensor:
    return tile.permute(2, 3, 0, 1) if tile.ndim == 4 else tile.mT
