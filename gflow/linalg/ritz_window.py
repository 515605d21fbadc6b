"""Extreme eigenvalues from a few vectors at a time: Rayleigh-Ritz on four of them.

The locally optimal ascent of the Rayleigh quotient (Knyazev 2001, doi:10.1137/S1064827500366124):
the span of the last mode, its last change and two new directions, the residual of the mode and its
image, has a better mode. It takes as many products as Lanczos, and hardly more; its memory is four
vectors and their images, whatever the number of products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gflow.linalg.arrays import (
    Array,
    empty,
    norm,
    numbers,
    on_accelerator,
    row_norms,
    to_numpy_at_once,
    where,
)
from gflow.linalg.orthogonalisation import orthogonalise

ROWS = 4  # vectors, and as many images
_ROUND_OFF = 1e-7  # norm of the part of a unit vector outside a span that holds it


def unit(vectors: Array) -> Array:
    """Return vectors, (members, n), over their norms; 0 for those that are round-off.

    Examples
    --------
    >>> unit(np.array([[0.0, 4.0], [0.0, 1e-9]])).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    if isinstance(vectors, np.ndarray) and len(vectors) == 1:
        length = norm(vectors[0])
        return vectors * (1 / length if length > _ROUND_OFF else 0.0)
    size = row_norms(vectors)[:, None]
    is_large = size > _ROUND_OFF
    return vectors * where(is_large, 1 / where(is_large, size, 1.0), 0.0)


class RitzWindow:
    """Orthonormal vectors and their images under a linear map, for each member of an ensemble.

    Where they are too many, they are replaced by the best mode in their span and the direction in
    which it changed, without a product.

    Parameters
    ----------
    product : callable
        (members, n) → (members, n), the map of each member.
    like : Tensor or ndarray, shape (members, n)
        Gives the shape, the dtype and the device.

    Examples
    --------
    >>> A = np.diag([1.0, 5.0, 3.0])
    >>> window = RitzWindow(lambda v: v @ A, np.ones((1, 3)))
    >>> window.add(np.ones((1, 3)))
    >>> for _ in range(10):
    ...     window.add_next()
    >>> window.ritz()[0].round(6).tolist()
    [5.0]
    """

    def __init__(self, product: Callable[[Array], Array], like: Array):
        B, n = like.shape
        self._product: Callable[[Any], Any] = product
        self._like: Any = like
        self._vectors: Any = empty((B, ROWS, n), like)
        self._images: Any = empty((B, ROWS, n), like)
        self._square = np.zeros((B, ROWS, ROWS))  # q_i·A q_j
        self._used = np.zeros((B, ROWS), bool)
        self._sizes = np.zeros((B, ROWS))  # of the products in each image
        self._lost = np.zeros(B, bool)
        self._scale, self._first = np.zeros(B), np.zeros(B)
        self._count = 0
        self._unread: list[tuple[Any, ...]] = []  # of the last vectors, on their device

    @property
    def square(self) -> np.ndarray:
        """The products q_i·A q_j, shape (members, k, k)."""
        self._read()
        return self._square[:, : self._count, : self._count]

    @property
    def scale(self) -> np.ndarray:
        """The largest |q_i·A q_j| of all windows so far, shape (members,)."""
        self._read()
        return self._scale

    @property
    def first(self) -> np.ndarray:
        """The product q·A q of the very first vector, shape (members,)."""
        self._read()
        return self._first

    @property
    def lost(self) -> np.ndarray:
        """Whether the last direction lay in the span of those before, shape (members,)."""
        self._read()
        return self._lost

    @property
    def finite(self) -> np.ndarray:
        """Whether all products were finite, shape (members,)."""
        return np.isfinite(self.square).all(axis=(1, 2))

    def add(self, direction: Array, instead: Callable[[], Array] | None = None) -> None:
        """Add the part of a direction outside the span, at one product.

        Parameters
        ----------
        direction : Tensor or ndarray, shape (members, n)
        instead : callable, optional
            Returns directions, (members, n), for those members whose direction lies in the span.
        """
        if self._count == ROWS:
            self.collapse()
        self._add(lambda: direction, None, instead)

    def add_residual(
        self, beside: Callable[[], Array] | None = None, instead: Callable[[], Array] | None = None
    ) -> None:
        """Add the residual of the first vector, plus ``beside()``; see `add`.

        Where the window is full, it is collapsed: the first vector is then the best mode.
        """
        if self._count == ROWS:
            self.collapse()
        self._add(lambda: self._images[:, 0], beside, instead)

    def add_next(self, instead: Callable[[], Array] | None = None) -> None:
        """Add the image of the last vector, or the residual where the window is full."""
        if self._count == ROWS:
            self.add_residual(None, instead)
        else:
            self._add(lambda: self._images[:, self._count - 1], None, instead)

    def _add(
        self,
        direction: Callable[[], Array],
        beside: Callable[[], Array] | None,
        instead: Callable[[], Array] | None,
    ) -> None:
        # No name is left that would keep a vector alive while the product is computed.
        k = self._count
        q = self._outside(direction())
        if beside is not None:
            q = self._outside(q + beside())
        length = row_norms(q)
        lost = length == 0
        # The host does not wait for a device to say whether any is lost.
        if instead is not None and (on_accelerator(lost) or bool(lost.any())):
            q = where(lost[:, None], self._outside(instead()), q)
        self._vectors[:, k] = q
        used = row_norms(q)
        del q
        self._images[:, k] = self._product(self._vectors[:, k])
        self._count = k + 1
        column = _dots(self._vectors[:, : k + 1], self._images[:, k])
        row = _dots(self._images[:, :k], self._vectors[:, k])
        self._unread.append((length, used, column, row, row_norms(self._images[:, k])))

    def _read(self) -> None:
        """Read what is known of the last vectors, by one copy from their device."""
        if not self._unread:
            return
        values = iter(to_numpy_at_once(*(v for new in self._unread for v in new)))
        for k in range(self._count - len(self._unread), self._count):
            length, used, column, row, size = (next(values) for _ in range(5))
            self._lost = length == 0
            self._used[:, k] = used > 0.5
            self._square[:, : k + 1, k], self._square[:, k, :k] = column, row
            self._sizes[:, k] = np.nan_to_num(size)
            if k == 0:
                self._first = column[:, 0].copy()
        self._unread = []
        self._note_scale()

    def _note_scale(self) -> None:
        square = self._square[:, : self._count, : self._count]
        self._scale = np.maximum(self._scale, np.abs(square).max(axis=(1, 2)))

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the largest real part of the Ritz values, (members,), and its vector.

        Members whose products are not finite get 0.
        """
        H = np.where(self.finite[:, None, None], self.square, 0.0)
        top = 4 * ROWS * np.abs(H).max(axis=(1, 2))[:, None] + 1
        i = np.arange(self._count)
        H[:, i, i] -= np.where(self._used[:, : self._count], 0.0, top)  # left out: they come last
        values, vectors = np.linalg.eig(H)
        best = values.real.argmax(axis=1)
        members = np.arange(len(H))
        return values.real[members, best], vectors[members, :, best].real

    def error(self, weights: np.ndarray) -> np.ndarray:
        """Return Σ|weights|·‖products‖, (members,): round-off of the image is in units of it."""
        size: np.ndarray = (np.abs(weights) * self._sizes[:, : self._count]).sum(axis=1)
        return size

    def collapse(self) -> None:
        """Replace the vectors by the best mode, and by what it takes from all but the first."""
        weights = self.ritz()[1]
        turned = weights.copy()
        turned[:, 0] = 0.0
        mode = _scaled(weights)
        turned = turned - (turned * mode).sum(1, keepdims=True) * mode
        C = np.stack([mode, _scaled(turned)], axis=1)  # (members, 2, k)
        k = C.shape[2]
        for rows in (self._vectors, self._images):
            rows[:, :2] = numbers(C, self._like) @ rows[:, :k]
        H, sizes = self.square.copy(), self._sizes[:, :k].copy()
        self._square[:, :2, :2] = C @ H @ C.swapaxes(1, 2)
        self._sizes[:, :2] = (np.abs(C) * sizes[:, None]).sum(axis=2)
        self._used[:, :2] = np.abs(C).max(axis=2) > 0
        self._count = 2
        self._note_scale()

    def vectors(self) -> Any:
        """Return the best mode and the direction in which it changed, (members, 2, n)."""
        if self._count > 1:
            self.collapse()
        else:
            self._vectors[:, 1] = 0.0
        return 1 * self._vectors[:, :2]

    def _outside(self, vectors: Array) -> Array:
        """Return the normalised parts of vectors, (members, n), outside the span."""
        size = row_norms(vectors)[:, None]
        vectors = vectors / where(size > 0, size, 1.0)
        if self._count:
            vectors = orthogonalise(vectors[:, None], self._vectors[:, : self._count])[0][:, 0]
        return unit(vectors)


def _dots(rows: Array, vector: Array) -> Array:
    """Return the products of rows, (members, k, n), with a vector, (members, n): (members, k)."""
    return (rows @ vector[:, :, None])[:, :, 0]


def _scaled(weights: np.ndarray) -> np.ndarray:
    """Return weights, (members, k), over their norms; 0 where they vanish."""
    size = np.linalg.norm(weights, axis=1, keepdims=True)
    scaled: np.ndarray = weights * np.where(size > 1e-12, 1 / np.where(size > 0, size, 1.0), 0.0)
    return scaled
