"""The positive end of the Jacobian's spectrum: how fast the path leaves a saddle.

Near a saddle a mode grows as e^{μt}, μ the largest real part of an eigenvalue of the Jacobian. It
may be so small that neither the state nor the velocity shows it, so its rate is estimated from
products J·v: the locally optimal gradient ascent of the Rayleigh quotient (Knyazev 2001,
doi:10.1137/S1064827500366124), in the span of the last mode, its last change, the velocity and the
products of the residual, with a little of a random vector: so a mode is found that is orthogonal to
the last.

A product is a difference of the right-hand side, one evaluation. Round-off in a difference is about
√eps of the largest rate, so rates below that are no evidence; in float32 that hides most saddles of
a stiff flow. Where so slow a mode could still grow along the path, exact products are taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vector_norm

from gflow.flows.base import Chart, Flow
from gflow.linalg.arrays import (
    Array,
    empty,
    numbers,
    on_accelerator,
    replace_where,
    row_norms,
    to_numpy_at_once,
    unit_round_off,
    where,
)
from gflow.linalg.large import is_large
from gflow.linalg.orthogonalisation import orthogonalise
from gflow.linalg.ritz_window import RitzWindow, unit
from gflow.solvers.elementwise import known_or_zero
from gflow.trajectory import attempt

FOLLOWED = 2  # vectors from one estimate to the next: the mode, and its last change
PRODUCTS = 4  # of an estimate that starts from those of the last one
FIRST_PRODUCTS = 12  # of the first
_SMALL = 4096  # numbers in a state, up to which random vectors are kept
_FRESH = 0.1  # of a random vector beside a unit residual
_NOISE = 8.0  # times the round-off of a product: smaller rates are no evidence
_BLIND = 1.0  # log of a growth along the path that must not be hidden by round-off of differences


class Growth(NamedTuple):
    """The fastest growth of a perturbation of each member's state."""

    rate: np.ndarray  #: μ, (members,); 0 where nothing grows or moves, NaN if unknown
    followed: np.ndarray  #: v·Jv of the fastest mode of the last estimate, (members,)
    kept: np.ndarray  #: |v_old·v_new| of the fastest mode, (members,)
    vectors: Any  #: for the next estimate; the mode comes first, (members, FOLLOWED, size)
    blind: np.ndarray  #: rate below which differences find nothing, (members,)


def random_vectors(like: Array, seed: int | np.ndarray) -> Array:
    """Return pseudo-random unit vectors, the same for members of the same seed.

    Parameters
    ----------
    like : Tensor or ndarray, shape (members, size)
        Gives the shape, the dtype and the device.
    seed : int, or ndarray of int, shape (members,)

    Returns
    -------
    Tensor or ndarray, shape (members, FOLLOWED, size)

    Examples
    --------
    >>> import torch
    >>> random_vectors(torch.zeros(3, 5), seed=0).shape
    torch.Size([3, 2, 5])
    """
    if len(like) == 1:
        return numbers(_drawn(int(np.ravel(seed)[0]), like.shape[1])[None], like)
    seeds, member = np.unique(np.broadcast_to(seed, len(like)), return_inverse=True)
    vectors = torch.stack([_drawn(s, like.shape[1]) for s in seeds.tolist()])
    return numbers(vectors, like)[member]


def _drawn(seed: int, size: int) -> Tensor:
    """Return pseudo-random unit vectors, (FOLLOWED, size); a caller must not write to them."""
    return _drawn_small(seed, size) if size <= _SMALL else _draw(seed, size)


def _draw(seed: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn((FOLLOWED, size), generator=generator, dtype=torch.float64)
    return vectors / vector_norm(vectors, dim=1, keepdim=True)


_drawn_small = functools.lru_cache(maxsize=64)(_draw)  # the same are drawn in every solve


def growth_rate(
    rhs: Callable[[Array], Array],
    y: Array,
    f: Array,
    vectors: Array,
    products: int = PRODUCTS,
    seed: int | np.ndarray = 0,
    *,
    product: Callable[[Array], Array] | None = None,
    chart: Chart | None = None,
) -> Growth:
    """Estimate max(Re λ) of every member's Jacobian from below.

    Parameters
    ----------
    rhs : callable
        States (members, size) to their velocities.
    y, f : Tensor or ndarray, shape (members, size)
        The states, and rhs(y).
    vectors : Tensor or ndarray, shape (members, FOLLOWED, size)
        Of the last estimate, or `random_vectors`.
    products : int
        Evaluations of the right-hand side; at most size are needed.
    seed : int, or ndarray of int, shape (members,)
        Of the random vector that is mixed in.
    product : callable, optional
        ``product(v)``, (members, size): exact products with the Jacobian at y; differences of
        ``rhs`` by default.
    chart : Chart, optional
        `Flow.perturbations` of the states; vectors and products are in its coordinates.

    Returns
    -------
    Growth

    Examples
    --------
    >>> import torch
    >>> rates = torch.tensor([[-100.0, -50.0, 3.0]], dtype=torch.float64)
    >>> y = torch.ones(1, 3, dtype=torch.float64)
    >>> growth = growth_rate(lambda s: rates * s, y, rates * y, random_vectors(y, 0))
    >>> round(float(growth.rate[0]), 4)
    3.0
    """
    eps = unit_round_off(y)
    if chart is None or chart.size is None:
        size = row_norms(y)[:, None]
        delta = eps**0.5 * where(size > 0, size, 1.0)
    else:
        delta = eps**0.5 * chart.size

    def image(q: Array) -> Array:
        v = q if chart is None else chart.to_state(q)
        Jv = (rhs(y + delta * v) - f) / delta if product is None else product(v)
        return Jv if chart is None else chart.from_state(Jv)

    count = min(products, y.shape[1])
    ahead = f if chart is None else chart.from_state(f)
    search = _in_window if is_large(y) else _in_block
    found = search(image, ahead, row_norms(f), vectors, count, seed)
    length = row_norms(found.vectors[:, 0])
    unusable = ~((length > 0) & (length < np.inf))
    replace_where(unusable[:, None, None], found.vectors, vectors)
    moves = found.speed > 0  # exactly at rest nothing leaves
    blind = least = _NOISE * eps**0.5 * found.scale
    if product is not None:  # round-off is that of the products of which the mode consists
        least = _NOISE * eps * found.sizes
    rate = np.where(moves & (found.rate > least), found.rate, 0.0)
    rate = np.where(found.finite, rate, np.nan)
    return Growth(rate, found.followed, found.kept, found.vectors, blind)


class _Modes(NamedTuple):
    """The fastest mode of each member in a span, before what is round-off is told from it."""

    rate: np.ndarray  #: largest real part of the Ritz values, (members,)
    followed: np.ndarray  #: v·Jv of the first vector
    kept: np.ndarray  #: |v_old·v_new|; 1 where there is no new one
    vectors: Any  #: (members, FOLLOWED, size)
    speed: np.ndarray  #: ‖f‖
    scale: np.ndarray  #: the largest |q_i·J q_j|
    sizes: np.ndarray  #: Σ|weight|·‖Jq‖ of the mode
    finite: np.ndarray


def _in_block(
    image: Callable[[Array], Array],
    ahead: Array,
    speed: Array,
    vectors: Array,
    count: int,
    seed: int | np.ndarray,
) -> _Modes:
    """Search the span of all directions at once, in 2·count vectors."""
    B, n = ahead.shape
    fresh = _FRESH * random_vectors(ahead, seed)[:, 0]
    Q, JQ = empty((B, count, n), ahead), empty((B, count, n), ahead)
    for k in range(count):
        if k < FOLLOWED:
            rest = unit(vectors[:, k])
        elif k == FOLLOWED:  # the velocity is amplified as every perturbation is
            size = row_norms(ahead)[:, None]
            rest = ahead / where(size > 0, size, 1.0)
        else:  # the residual of the first, then the products of what it has added
            rest = JQ[:, 0 if k == FOLLOWED + 1 else k - 1]
            rest = unit(_outside(unit(rest), Q[:, :k]))
            rest = rest + fresh if k == FOLLOWED + 1 else rest
        q = unit(_outside(rest, Q[:, :k]))
        # In place of what lies in the span, as J·v of an eigenvector does, something new: else
        # a mode orthogonal to everything would not be found.
        lost = (q == 0).all(1)[:, None]
        if on_accelerator(lost) or bool(lost.any()):  # the host does not wait for the answer
            q = where(lost, unit(_outside(random_vectors(ahead, seed + k)[:, 1], Q[:, :k])), q)
        Q[:, k] = q
        JQ[:, k] = image(q)
    old = vectors[:, 0]
    # All that the host needs, by one copy: it waits for a device once.
    products, squares, lengths, overlaps, speeds = to_numpy_at_once(
        JQ @ Q.swapaxes(1, 2),
        (Q * Q).sum(2),
        (JQ * JQ).sum(2),
        (Q @ old[:, :, None])[:, :, 0],
        speed,
    )
    H = products.swapaxes(1, 2).copy()  # H[i, j] = q_i·J q_j
    used = squares > 0.25
    finite = np.isfinite(H).all(axis=(1, 2))
    H[~finite] = 0.0
    followed = H[:, 0, 0].copy()
    scale = np.abs(H).max(axis=(1, 2))
    # Directions left out come last.
    H[:, np.arange(count), np.arange(count)] -= np.where(used, 0.0, 4 * count * scale[:, None] + 1)
    values, ritz = np.linalg.eig(H)
    best = values.real.argmax(axis=1)
    chosen = ritz[np.arange(B), :, best]
    weights = numbers(chosen.real, ahead)
    found = empty((B, FOLLOWED, n), ahead)
    found[:, 0] = unit((weights[:, None] @ Q)[:, 0])
    length = np.sqrt((chosen.real**2 * squares).sum(axis=1))
    kept = np.abs((chosen.real * overlaps).sum(axis=1)) / length
    kept = np.where(finite & (length > 0), kept, 1.0)
    weights[:, 0] = 0.0  # what the mode takes from the others: where it goes on to
    found[:, 1] = unit((weights[:, None] @ Q)[:, 0])
    sizes = (np.abs(chosen) * known_or_zero(np.sqrt(lengths))).sum(axis=1)
    rate = values.real[np.arange(B), best]
    return _Modes(rate, followed, kept, found, speeds, scale, sizes, finite)


def _in_window(
    image: Callable[[Array], Array],
    ahead: Array,
    speed: Array,
    vectors: Array,
    count: int,
    seed: int | np.ndarray,
) -> _Modes:
    """Search the same directions first, and then from the best mode so far, in eight vectors."""
    window = RitzWindow(image, ahead)
    for k in range(count):
        another = functools.partial(_another, ahead, seed + k)
        if k <= FOLLOWED:
            window.add(vectors[:, k] if k < FOLLOWED else ahead, another)
        elif k == FOLLOWED + 1:
            window.add_residual(lambda: _FRESH * random_vectors(ahead, seed)[:, 0], another)
        else:
            window.add_next(another)
    rate, weights = window.ritz()
    sizes = window.error(weights)
    finite = window.finite
    scale = np.where(finite, window.scale, 0.0)
    followed = np.where(finite, window.first, 0.0)
    found = window.vectors()
    overlaps, speeds = to_numpy_at_once((found[:, 0] * vectors[:, 0]).sum(1), speed)
    kept = np.where(np.isfinite(overlaps) & finite, np.abs(overlaps), 1.0)
    return _Modes(rate, followed, kept, found, speeds, scale, sizes, finite)


def _another(like: Array, seed: int | np.ndarray) -> Array:
    """Return a random vector for each member."""
    return random_vectors(like, seed)[:, 1]


def by_products(
    estimate: Callable[[Callable[[Tensor], Tensor] | None], Growth],
    product: Callable[[Tensor], Tensor],
) -> tuple[Growth, bool]:
    """Estimate by exact products, or by differences where the flow has no products.

    Parameters
    ----------
    estimate : callable
        ``estimate(product)`` is `growth_rate` with that product.
    product : callable
        As in `growth_rate`.

    Returns
    -------
    growth : Growth
    usable : bool
        Whether the products could be computed.

    Examples
    --------
    >>> def refuse(vectors):
    ...     raise NotImplementedError
    >>> by_products(lambda product: None if product is None else product(1), refuse)
    (None, False)
    """
    growth, _ = attempt("products", lambda: estimate(product))
    return (estimate(None), False) if growth is None else (growth, True)


def needs_exact(flow: Flow, blind: np.ndarray, span: np.ndarray | float) -> np.ndarray:
    """Return whether differences hide modes that could grow in a time.

    Parameters
    ----------
    flow : Flow
        Of parameters: exact products of a reduced one may be undefined where singular values meet.
    blind : ndarray, shape (members,)
        Rate below which differences find nothing; NaN if unknown.
    span : ndarray, shape (members,), or float
        The time.

    Returns
    -------
    ndarray of bool, shape (members,)

    Examples
    --------
    >>> import numpy as np
    >>> import gflow
    >>> flow, _ = gflow.FactorFlow.example()
    >>> needs_exact(flow, np.array([1e-6, 15.0]), 40.0).tolist()
    [False, True]
    """
    return (blind * span > _BLIND) & flow.is_of_parameters


def _outside(vectors: Array, Q: Array) -> Array:
    """Return the parts of vectors, (members, size), orthogonal to rows of Q."""
    return orthogonalise(vectors[:, None], Q)[0][:, 0] if Q.shape[1] else vectors
