"""The gain of a path: the log of the growth of a perturbation, from rates at some of its states."""

from __future__ import annotations

import numpy as np

_LOST = 1e-3  # |cos| of the angle between two modes that have nothing in common


def next_gain(
    gain: np.ndarray,
    kept: np.ndarray,
    before: np.ndarray,
    rate: np.ndarray,
    elapsed: np.ndarray | float,
) -> np.ndarray:
    """Return the log of the growth of a perturbation along the fastest mode.

    Parameters
    ----------
    gain : ndarray, shape (members,)
        At the last estimate of the growth rate.
    kept : ndarray, shape (members,)
        |v_old·v_new| of the mode: what it loses where it turns.
    before, rate : ndarray, shape (members,)
        The rates of the last estimate and of this one.
    elapsed : ndarray, shape (members,), or float
        The time between them.

    Returns
    -------
    ndarray, shape (members,)

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> next_gain(2 * one, one, one, one, 3.0).tolist()
    [5.0]
    """
    turned = np.maximum(gain + np.log(np.maximum(kept, _LOST)), 0.0)
    return turned + elapsed * _mean(before, rate)


def next_total(
    total: np.ndarray,
    gain: np.ndarray,
    before: np.ndarray,
    followed: np.ndarray,
    elapsed: np.ndarray | float,
) -> np.ndarray:
    """Return the log of the largest growth of a perturbation since the start of the path.

    The mode that was the fastest one goes on to grow while another one becomes the fastest.

    Parameters
    ----------
    total : ndarray, shape (members,)
        At the last estimate of the growth rate.
    gain : ndarray, shape (members,)
        From `next_gain`.
    before, followed : ndarray, shape (members,)
        The rate of the last estimate, and that of the same mode now.
    elapsed : ndarray, shape (members,), or float
        The time between them.

    Returns
    -------
    ndarray, shape (members,)

    Examples
    --------
    >>> import numpy as np
    >>> one = np.ones(1)
    >>> next_total(2 * one, 0 * one, one, one, 3.0).tolist()
    [5.0]
    """
    return np.maximum(total + elapsed * _mean(before, np.maximum(followed, 0.0)), gain)


def _mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the mean of a rate between two values; that of an exponential if both are positive.

    A rate falls fast at first: between distant estimates the straight line is far above it.
    """
    both = (a > 0) & (b > 0)
    quotient = np.where(both, b / np.where(both, a, 1.0), 1.0)
    log = np.log(quotient)
    near = np.abs(log) < 1e-3
    exponential = np.where(near, a, (b - a) / np.where(near, 1.0, log))
    return np.where(both & ~near, exponential, 0.5 * (a + b))
