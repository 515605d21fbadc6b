"""Sequences that are drawn: sums modulo a number, and regression problems in context.

``modular:P``: all pairs (x, y) of 0, …, P − 1, each two tokens, with the class x + y mod P
(Power et al. 2022, arXiv:2201.02177), in a random order, so that the first rows are a random part.

``in-context-regression``: a sample is N examples (x_n, y_n) and a query (x_q, 0) of one linear
function y = w·x, with w ~ N(0, I) of its own and x ~ N(0, Λ); the target is w·x_q (Garg et al.
2022, arXiv:2208.01066; with covariance as in Zhang, Singh, Latham & Saxe 2025, arXiv:2501.16265).
"""

from __future__ import annotations

import numpy as np

from gflow.checks import require_count
from gflow.data.samples import Data
from gflow.data.tables import MAX_BYTES
from gflow.errors import InputError


def modular_addition(modulus: int, seed: int = 0) -> Data:
    """Return all pairs of numbers with their sum modulo a number.

    Parameters
    ----------
    modulus : int
        P, at least 2.
    seed : int
        Of the order of the P² rows.

    Returns
    -------
    Data
        Inputs (P², 2) of token ids, and P classes.

    Raises
    ------
    InputError
        If the modulus is out of range.

    Examples
    --------
    >>> data = modular_addition(5)
    >>> data.inputs.shape, data.symbols, data.classes
    ((25, 2), 5, ('0', '1', '2', '3', '4'))
    >>> bool((data.inputs.sum(axis=1) % 5 == data.targets[:, 0]).all())
    True
    """
    modulus = require_count("the modulus", modulus, 2, 1000)
    order = np.random.default_rng(seed).permutation(modulus**2)
    pairs = np.stack(np.divmod(order, modulus), axis=1).astype(np.float64)
    sums = pairs.sum(axis=1, keepdims=True) % modulus
    names = tuple(map(str, range(modulus)))
    return Data(f"modular:{modulus}", pairs, sums, names, ("x", "y"), shape=(2,), symbols=modulus)


def in_context_regression(
    samples: int, length: int, inputs: int, decay: float = 1.0, seed: int = 0
) -> Data:
    """Draw regression problems in context.

    Parameters
    ----------
    samples, length, inputs : int
        The number of problems, of the examples N in each, and the dimension D of x.
    decay : float
        Eigenvalues of Λ are D, D·decay, …, scaled to the trace D; those of the identity at 1.
    seed : int

    Returns
    -------
    Data
        Inputs (samples, (N + 1)(D + 1)), samples of shape (N + 1, D + 1): rows (x_n, y_n), and
        (x_q, 0) last. Targets (samples, 1).

    Raises
    ------
    InputError
        If a number is out of range or the result would exceed 2 GiB.

    Examples
    --------
    >>> data = in_context_regression(10, 6, 2)
    >>> data.inputs.shape, data.shape, data.targets.shape
    ((10, 21), (7, 3), (10, 1))
    """
    samples, length = require_count("samples", samples), require_count("length", length)
    inputs = require_count("inputs", inputs)
    if not 0 < decay <= 1:
        raise InputError(f"decay must be above 0 and at most 1, got {decay}")
    if 8 * samples * (length + 1) * (inputs + 1) > MAX_BYTES:
        raise InputError(
            f"in-context-regression must take at most {MAX_BYTES} bytes, got {samples} samples of "
            f"{length} examples in {inputs} dimensions; use fewer"
        )
    rng = np.random.default_rng(seed)
    spectrum = decay ** np.arange(inputs)
    deviations = np.sqrt(inputs * spectrum / spectrum.sum())
    x = deviations * rng.standard_normal((samples, length + 1, inputs))
    y = (x @ rng.standard_normal((samples, inputs, 1)))[..., 0]
    targets = y[:, -1:].copy()
    y[:, -1] = 0.0
    rows = np.concatenate([x, y[..., None]], axis=2).reshape(samples, -1)
    names = tuple(f"{c}{n}" for n in range(length + 1) for c in [*_letters(inputs), "y"])
    shape = (length + 1, inputs + 1)
    return Data("in-context-regression", rows, targets, None, names, shape=shape)


def _letters(inputs: int) -> list[str]:
    return [f"x{i}_" for i in range(inputs)]
