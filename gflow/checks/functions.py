"""Checks of functions that a user passes, and calls of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gflow.checks.numbers import shown
from gflow.errors import GflowError, InputError
from gflow.text import one_line


def require_callable(name: str, value: object, usage: str) -> None:
    """Raise InputError unless a value is a function.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.
    usage : str
        How it is called, for the message.

    Raises
    ------
    InputError
        If it cannot be called, is a class, or takes other arguments.

    Examples
    --------
    >>> require_callable("observe", 3, "observe(states)")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: observe must be a function, called as observe(states), got 3
    """
    if not callable(value) or isinstance(value, type):
        raise InputError(f"{name} must be a function, called as {usage}, got {shown(value)}")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # of compiled code it is not known
        return
    try:
        signature.bind(*range(usage.count(",") + 1))
    except TypeError as error:
        raise InputError(
            f"{name} must be a function, called as {usage}, but {error}; change its arguments"
        ) from None


def evaluated(what: str, call: Callable[[], Any], mend: str = "mend it") -> Any:
    """Return the result of a function of the user's; InputError in one line where it fails.

    Parameters
    ----------
    what : str
        What is called and on what, for the message.
    call : callable
        Calls it.
    mend : str
        What to do, for the message.

    Returns
    -------
    object

    Raises
    ------
    InputError
        With the error of the function as its cause.

    Examples
    --------
    >>> evaluated("loss(y)", lambda: 1 / 0)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: loss(y) fails: ZeroDivisionError: division by zero; mend it
    """
    try:
        return call()
    except GflowError:
        raise
    except Exception as error:
        if "does not require grad" in str(error):
            mend = "where it differentiates, do so within torch.enable_grad()"
        raise InputError(f"{what} fails: {one_line(error)}; {mend}") from error
