"""Token ids as columns of 0 and 1: as numbers they would claim an order and distances."""

from __future__ import annotations

import dataclasses

import numpy as np

from gflow.data.samples import Data
from gflow.data.tables import MAX_BYTES
from gflow.errors import InputError


def one_hot_tokens(data: Data) -> Data:
    """Return data whose tokens are one-hot, one column for each place and symbol.

    Parameters
    ----------
    data : Data
        Without tokens it is returned as it is.

    Returns
    -------
    Data
        Inputs (n, length · symbols), without ``shape`` and ``symbols``.

    Raises
    ------
    InputError
        If the result would exceed 2 GiB.

    Examples
    --------
    >>> from gflow.data.sequences import modular_addition
    >>> data = modular_addition(3)
    >>> data.inputs[0].tolist(), one_hot_tokens(data).inputs[0].tolist()
    ([1.0, 1.0], [0.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    """
    if data.symbols is None:
        return data
    count, length = data.inputs.shape
    if 8 * count * length * data.symbols > MAX_BYTES:
        raise InputError(
            f"one-hot tokens must take at most {MAX_BYTES} bytes, got {count} samples of {length} "
            f"tokens of {data.symbols} symbols; use fewer samples, or --model transformer"
        )
    inputs = np.zeros((count, length, data.symbols))
    np.put_along_axis(inputs, data.inputs.astype(np.int64)[..., None], 1.0, axis=2)
    names = tuple(f"{feature}={k}" for feature in data.features for k in range(data.symbols))
    flat = inputs.reshape(count, -1)
    return dataclasses.replace(data, inputs=flat, features=names, shape=None, symbols=None)
