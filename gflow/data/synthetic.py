"""Synthetic data in float64, drawn from ``numpy.random.default_rng(seed)``."""

from __future__ import annotations

import math

import numpy as np

from gflow.checks import require_count, require_number
from gflow.data.named import Data
from gflow.data.tables import MAX_BYTES
from gflow.errors import InputError


def synthetic_regression(
    samples: int, inputs: int, outputs: int, noise: float = 0.0, seed: int = 0
) -> Data:
    """Draw Gaussian inputs and targets Y = X Aᵀ/√d + noise·E, with Gaussian A and E.

    Parameters
    ----------
    samples, inputs, outputs : int
        n, d and k, each at least 1.
    noise : float
        The standard deviation of the noise in the targets, which have about 1 themselves.
    seed : int

    Returns
    -------
    Data
        Inputs (n, d), targets (n, k).

    Raises
    ------
    InputError
        If a number is out of range or the result would exceed 2 GiB.

    Examples
    --------
    >>> data = synthetic_regression(20, 3, 2, noise=0.1, seed=0)
    >>> data.inputs.shape, data.targets.shape
    ((20, 3), (20, 2))
    """
    rng = _generator(seed, samples=samples, inputs=inputs, outputs=outputs)
    _require_memory((samples, inputs + outputs), (outputs, inputs))
    noise = require_number("noise", noise)
    if not (math.isfinite(noise) and noise >= 0):
        raise InputError(f"noise must be a finite number of at least 0, got {noise}")
    X = rng.standard_normal((samples, inputs))
    A = rng.standard_normal((outputs, inputs))
    Y = X @ A.T / math.sqrt(inputs) + noise * rng.standard_normal((samples, outputs))
    return Data("synthetic", X, Y, None, tuple(f"x{i}" for i in range(inputs)))


def synthetic_low_rank(size: int, rank: int, seed: int = 0) -> np.ndarray:
    """Draw a symmetric positive semidefinite matrix ZZᵀ of unit diagonal and given rank.

    The rows of Z, (size, rank), are uniform on the unit sphere.

    Parameters
    ----------
    size, rank : int
        1 ≤ rank ≤ size.
    seed : int

    Returns
    -------
    ndarray, shape (size, size)

    Raises
    ------
    InputError
        If a number is out of range or the result would exceed 2 GiB.

    Examples
    --------
    >>> M = synthetic_low_rank(10, 3, seed=0)
    >>> M.shape, int(np.linalg.matrix_rank(M)), bool(np.allclose(M.diagonal(), 1))
    ((10, 10), 3, True)
    """
    rng = _generator(seed, size=size, rank=rank)
    if rank > size:
        raise InputError(
            f"rank must be at most the size, {size}, got {rank}; choose a smaller rank"
        )
    _require_memory((size, size))
    Z = _unit_rows(rng.standard_normal((size, rank)))
    M = Z @ Z.T
    return (M + M.T) / 2


def synthetic_sphere(samples: int, inputs: int, seed: int = 0) -> Data:
    """Draw unit vectors in two classes, the sides of a random hyperplane through 0.

    Parameters
    ----------
    samples, inputs : int
        n and d, each at least 1.
    seed : int

    Returns
    -------
    Data
        Inputs (n, d) uniform on the unit sphere, targets (n, 1) in {0, 1}.

    Raises
    ------
    InputError
        If a number is out of range or the result would exceed 2 GiB.

    Examples
    --------
    >>> from gflow.preparation import signs
    >>> data = synthetic_sphere(50, 4, seed=0)
    >>> data.inputs.shape, data.classes, sorted(set(signs(data)[:, 0].tolist()))
    ((50, 4), ('0', '1'), [-1.0, 1.0])
    """
    rng = _generator(seed, samples=samples, inputs=inputs)
    _require_memory((samples, inputs))
    X = _unit_rows(rng.standard_normal((samples, inputs)))
    y = (X @ rng.standard_normal(inputs) > 0).astype(np.float64)
    return Data("synthetic", X, y[:, None], ("0", "1"), tuple(f"x{i}" for i in range(inputs)))


def _unit_rows(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _generator(seed: int, **counts: int) -> np.random.Generator:
    for name, value in counts.items():
        require_count(name, value)
    return np.random.default_rng(require_count("seed", seed, least=0))


def _require_memory(*shapes: tuple[int, int]) -> None:
    needed = sum(8 * rows * columns for rows, columns in shapes)
    if needed > MAX_BYTES:
        raise InputError(
            f"synthetic data must take at most {MAX_BYTES} bytes, got sizes that need {needed}; "
            "choose fewer"
        )
