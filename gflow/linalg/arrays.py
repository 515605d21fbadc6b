"""Conversion of tensors to NumPy arrays."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def to_numpy(values: Tensor) -> np.ndarray:
    """Return the values of a tensor as a float64 array on the host.

    Examples
    --------
    >>> import torch
    >>> to_numpy(torch.ones(2, requires_grad=True))
    array([1., 1.])
    """
    array: np.ndarray = values.detach().double().cpu().numpy()
    return array
