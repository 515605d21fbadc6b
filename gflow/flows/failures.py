"""Methods of a flow that fail at what is no state: one line says what is wrong with it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from gflow.checks import shown
from gflow.errors import GflowError, InputError

_OF_A_STATE = (
    "__call__",
    "loss",
    "observables",
    "invariants",
    "invariant_scales",
    "end_to_end",
    "unpack",
    "norm",
    "reference",
    "jvp",
)
_KINDS = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)


def explain_failures(flow_class: type[Any]) -> None:
    """Wrap the methods of a state that a class of flows defines.

    Where one fails, `Flow.check_state` looks at the state and raises InputError if that is wrong;
    else the error is raised as it is. A call that does not fail costs nothing more.

    Parameters
    ----------
    flow_class : type
        A subclass of `Flow`.

    Examples
    --------
    >>> import gflow
    >>> gflow.FactorFlow.example()[0].loss([1.0, 2.0])
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: a state must be a floating-point tensor, got list; use torch.tensor
    """
    for name in _OF_A_STATE:
        method = vars(flow_class).get(name)
        if inspect.isfunction(method):
            setattr(flow_class, name, _explained(method, 1 if name == "__call__" else 0))


def _explained(method: Callable[..., Any], place: int) -> Callable[..., Any]:
    """Return a method whose positional argument at a place is a state."""

    @functools.wraps(method)
    def explained(self: Any, *args: Any, **keywords: Any) -> Any:
        try:
            return method(self, *args, **keywords)
        except _KINDS as error:
            # A decomposition that fails is for the solver; the state may be infinite.
            if place < len(args) and not isinstance(error, GflowError | torch.linalg.LinAlgError):
                if isinstance(args[place], np.ndarray):
                    raise InputError(
                        f"a state must be a tensor, got {shown(args[place])}; use torch.from_numpy"
                    ) from error
                self.check_state(args[place])
            raise

    return explained
