r"""The contract of a loss of the end-to-end matrix W, (d_N, d_0), and checks of its data."""

from __future__ import annotations

import abc
import copy
import functools
import math
from typing import Any, Self

from torch import Tensor

from gflow.checks import require_finite, require_float, require_nonempty
from gflow.errors import InputError
from gflow.linalg.entries import EntryPattern


def require_matrix(name: str, value: object, ndim: int = 2) -> Tensor:
    """Return data of a loss as a tensor; raise InputError unless it is finite and has a shape.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.
    ndim : int
        Its number of dimensions.

    Returns
    -------
    Tensor

    Raises
    ------
    InputError
        If it has another number of dimensions, no entries, or entries that are not finite.

    Examples
    --------
    >>> import torch
    >>> require_matrix("target", torch.ones(1, 2)).shape
    torch.Size([1, 2])
    """
    matrix = require_float(name, value)
    if matrix.ndim != ndim:
        column = f", one column by {name}[:, None]" if (matrix.ndim, ndim) == (1, 2) else ""
        raise InputError(
            f"{name} must have {ndim} dimensions, got shape {tuple(matrix.shape)}; reshape it"
            f"{column}"
        )
    require_nonempty(name, matrix)
    require_finite(name, matrix)
    return matrix


class Loss(abc.ABC):
    """A function of the end-to-end matrix W with its gradient ∇ℓ(W).

    Attributes
    ----------
    shape : (int, int)
        (d_N, d_0), the shape of one W.
    reference_tensor : Tensor
        A tensor of the data; W must share its dtype and device.
    members : tuple of int
        Shape of the ensemble whose members have data of their own; empty where all have the same.
        The data of members are tensors with these leading dimensions.
    """

    shape: tuple[int, int]
    reference_tensor: Tensor
    members: tuple[int, ...] = ()

    @abc.abstractmethod
    def __call__(self, W: Tensor) -> Tensor:
        """Compute ℓ(W), shape (...), for W of shape (..., d_N, d_0)."""

    @abc.abstractmethod
    def gradient(self, W: Tensor) -> Tensor:
        """Compute ∇ℓ(W), of the shape of W."""

    def __repr__(self) -> str:
        count = f", of {math.prod(self.members)} members" if self.members else ""
        return f"{type(self).__name__}({' × '.join(map(str, self.shape))}{count})"

    def for_members(self, index: Tensor) -> Self:
        """Return this loss for some members of the ensemble that it has data for.

        Parameters
        ----------
        index : Tensor of int64, shape (k,) or ()
            Into the members, in one row; a number makes the loss of one matrix.

        Returns
        -------
        Loss
            Itself where all members have the same data.
        """
        if not self.members:
            return self
        chosen = copy.copy(self)
        chosen.members = tuple(index.shape)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(chosen, name, value.flatten(0, len(self.members) - 1)[index])
            elif isinstance(getattr(type(self), name, None), functools.cached_property):
                delattr(chosen, name)
        return chosen

    def symmetric_descent(self, W: Tensor) -> Tensor:
        """Compute −(∇ℓ(W) + ∇ℓ(W)ᵀ), of the shape of W, at a symmetric W."""
        G = self.gradient(W)
        return -(G + G.swapaxes(-2, -1))

    @property
    def entries(self) -> EntryPattern | None:
        """The entries of W that the loss is a function of, if they are few: `of_entries`."""
        return None

    def of_entries(self, values: Tensor) -> Tensor:
        """Compute ℓ of the values (..., m) of W at ``entries``, shape (...)."""
        raise NotImplementedError(f"{type(self).__name__} is no loss of few entries")

    def entries_gradient(self, values: Tensor) -> Tensor:
        """Compute ∂ℓ/∂(W at ``entries``) of values (..., m), of their shape."""
        raise NotImplementedError(f"{type(self).__name__} is no loss of few entries")

    def on_arrays(self) -> Any | None:
        """Return this loss of one NumPy array W, with the methods of a loss; None, the default.

        Its gradients are new arrays. Data of other devices and dtypes than float32 and float64
        have none, nor have subclasses of gflow's losses, whose methods may differ.
        """
        return None

    def as_squared_distance(self) -> tuple[Tensor, float] | None:
        """Return (M, c) where ℓ(W) = c·½‖W − M‖²_F up to a constant, else None, the default.

        Flows have closed forms for the squared distance.
        """
        return None
