"""Tensors as NumPy arrays."""

from __future__ import annotations

import numpy as np
import torch
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


def shared_array(values: Tensor) -> np.ndarray | None:
    """Return a float32 or float64 tensor of the CPU as an array on the same memory, else None.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(2)
    >>> shared_array(x)[0] = 1.0
    >>> x, shared_array(x.bfloat16())
    (tensor([1., 0.]), None)
    """
    if values.device.type != "cpu" or values.dtype not in (torch.float64, torch.float32):
        return None
    array: np.ndarray = values.detach().numpy()
    return array
