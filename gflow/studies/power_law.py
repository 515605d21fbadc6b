"""A power of the width fitted to medians over seeds: value ≈ C·width^slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

_RESAMPLES = 2000
_COVERAGE = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class PowerLaw:
    """value ≈ constant·width^slope.

    Attributes
    ----------
    slope, constant : float
    interval : (float, float) or None
        95 % of the slopes of seeds drawn anew (bootstrap); None with one seed. It says how
        far the slope depends on the seeds, not whether a power is the right form.
    """

    slope: float
    constant: float
    interval: tuple[float, float] | None


def fit_power(widths: Sequence[int], values: Tensor) -> PowerLaw | None:
    """Least squares of log median on log width.

    Parameters
    ----------
    widths : sequence of int
    values : Tensor, shape (width, seed)
        NaN where there is none (a descent that diverged).

    Returns
    -------
    PowerLaw or None
        None with fewer than two different widths, or where a median is not positive.

    Examples
    --------
    >>> import torch
    >>> law = fit_power([1, 4, 16], torch.tensor([[2.0, 2.0], [1.0, 1.0], [0.5, 0.5]]))
    >>> round(law.slope, 12), round(law.constant, 12)
    (-0.5, 2.0)
    """
    rows = [row[np.isfinite(row)] for row in values.double().cpu().numpy()]
    if len(set(widths)) < 2 or not all(len(row) and np.median(row) > 0 for row in rows):
        return None
    x = np.log(np.asarray(widths, float))
    slope, level = np.polyfit(x, np.log([np.median(row) for row in rows]), 1)
    interval = None
    if min(len(row) for row in rows) > 1:
        draw = np.random.default_rng(0)
        medians = [
            np.median(row[draw.integers(0, len(row), (_RESAMPLES, len(row)))], axis=1)
            for row in rows
        ]
        with np.errstate(divide="ignore"):  # a median of zero is possible in a resample
            logs = np.log(medians)
        slopes = np.polyfit(x, logs[:, np.isfinite(logs).all(axis=0)], 1)[0]
        low, high = np.percentile(slopes, _COVERAGE)
        interval = (float(low), float(high))
    return PowerLaw(float(slope), float(np.exp(level)), interval)
