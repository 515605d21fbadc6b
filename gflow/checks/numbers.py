"""Checks of numbers, of several numbers, and of switches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError
from gflow.text import brief

_HUGE = 2**1000  # integers from here on do not fit a float


def shown(value: object) -> str:
    """Return a value as error messages show it: a number, a short text, or what it is.

    Examples
    --------
    >>> import torch
    >>> shown(0.5), shown("1e-6"), shown(torch.ones(3, 2)), shown(print)
    ('0.5', "'1e-6'", 'a tensor of shape (3, 2)', 'builtin_function_or_method')
    """
    if isinstance(value, Tensor | np.ndarray) and (value.ndim or getattr(value, "is_meta", False)):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of shape {tuple(value.shape)}"
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return brief(value.item(), str)
    if isinstance(value, float | int):
        return brief(value, str)
    if value is None or isinstance(value, str | list | tuple | dict | set | range):
        return brief(value)
    return value.__name__ if isinstance(value, type) else type(value).__name__


def _number(value: object) -> float | None:
    """Return a real number of Python or NumPy, or a tensor of one, as a plain number; else None."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        if value.ndim or getattr(value, "is_meta", False):
            return None
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int) and abs(value) >= _HUGE:
        return math.inf if value > 0 else -math.inf
    return value


def is_number(value: object) -> bool:
    """Return whether a value is one real number, as `require_number` takes it."""
    return _number(value) is not None


def require_number(name: str, value: object, what: str = "a number") -> float:
    """Return a value as a plain number; raise InputError unless it is one.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.
    what : str
        What it must be, for the message.

    Returns
    -------
    float
        The number; a whole one stays an int.

    Raises
    ------
    InputError
        If the value is a boolean, a string, None, or not a single real number.

    Examples
    --------
    >>> import numpy as np
    >>> require_number("rtol", np.float32(0.5))
    0.5
    >>> require_number("rtol", "1e-6")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: rtol must be a number, got '1e-6'
    """
    number = _number(value)
    if number is None:
        raise InputError(f"{name} must be {what}, got {shown(value)}")
    return number


def require_numbers(name: str, values: object, example: str = "[{}]") -> list[float]:
    """Return values as a list; raise InputError unless they are a sequence of finite numbers.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    values : object
        Value of the argument: a list, tuple, range, tensor or array of one dimension, ...
    example : str
        What to write instead of a single number, for the message; it stands at the braces.

    Returns
    -------
    list of float

    Raises
    ------
    InputError
        If the values are a single number, no sequence, of more than one dimension, none at all,
        or not all finite numbers.

    Examples
    --------
    >>> import torch
    >>> require_numbers("ts", torch.arange(3))
    [0.0, 1.0, 2.0]
    >>> require_numbers("ts", 5.0)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: ts must be a sequence of numbers, got 5.0; write [5.0]
    """
    one = _number(values)
    if one is not None:
        write = example.format(one)
        raise InputError(f"{name} must be a sequence of numbers, got {one}; write {write}")
    if isinstance(values, Tensor) and (values.is_meta or values.layout != torch.strided):
        kind = "one on the device meta, without values" if values.is_meta else "a sparse one"
        raise InputError(f"{name} must be a tensor of numbers, got {kind}; convert it")
    if isinstance(values, Tensor | np.ndarray):
        if values.ndim != 1:
            raise InputError(f"{name} must have one dimension, got {shown(values)}; flatten it")
        if isinstance(values, Tensor) and values.is_floating_point():
            return _finite(name, values.tolist())
        items: Iterable[object] = values.tolist()
    elif isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InputError(f"{name} must be a sequence of numbers, got {shown(values)}")
    else:
        items = values
    return _finite(name, [float(require_number(f"each of {name}", item)) for item in items])


def _finite(name: str, numbers: list[float]) -> list[float]:
    """Return numbers; raise InputError where there are none, or one is NaN or infinite."""
    if not numbers:
        raise InputError(f"{name} must hold at least one number, got none")
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"{name} must be finite, got NaN or infinity; remove such entries")
    return numbers


def require_count(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """Return a value as an int; raise InputError unless it is a whole number in a range.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.
    least : int
        Smallest allowed value.
    most : int, optional
        Largest allowed value.

    Returns
    -------
    int
        The number, also of one written as a float, such as 1e3.

    Raises
    ------
    InputError
        If the value is out of range, a boolean, or not a whole number.

    Examples
    --------
    >>> require_count("steps", 1e3)
    1000
    >>> require_count("depth", 0)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: depth must be a whole number of at least 1, got 0
    """
    number = _number(value)
    if number is None or not math.isfinite(number) or number != int(number) or number < least:
        got = shown(value)
        raise InputError(f"{name} must be a whole number of at least {least}, got {got}")
    if most is not None and number > most:
        raise InputError(f"{name} must be at most {most}, got {shown(value)}; take a smaller one")
    return int(number)


#: Layers of a network or kernel: each costs time at every evaluation, one after another.
MAX_DEPTH = 10_000


def require_depth(value: object) -> int:
    """Return a number of layers as an int; raise InputError unless it can be computed with.

    Examples
    --------
    >>> require_depth(10**6)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: depth must be at most 10000, got 1000000; take a smaller one
    """
    return require_count("depth", value, most=MAX_DEPTH)


def require_positive(name: str, value: object) -> float:
    """Return a value as a float; raise InputError unless it is a positive, finite number.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the value is zero, negative, infinite or NaN, or not a number.

    Examples
    --------
    >>> require_positive("step_size", -0.1)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: step_size must be a positive number, got -0.1
    """
    return _in_range(name, value, lambda number: number > 0, "a positive number")


def require_not_negative(name: str, value: object) -> float:
    """Return a value as a float; raise InputError unless it is a finite number of at least 0.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the value is negative, infinite or NaN, or not a number.

    Examples
    --------
    >>> require_not_negative("weight_decay", -0.1)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: weight_decay must be a number of at least 0, got -0.1
    """
    return _in_range(name, value, lambda number: number >= 0, "a number of at least 0")


def require_fraction(name: str, value: object) -> float:
    """Return a value as a float; raise InputError unless it is a number with 0 ≤ value < 1.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the value is negative, at least 1, or NaN, or not a number.

    Examples
    --------
    >>> require_fraction("momentum", 1.0)
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: momentum must be at least 0 and below 1, got 1.0
    """
    return _in_range(name, value, lambda number: 0 <= number < 1, "at least 0 and below 1")


def _in_range(name: str, value: object, inside: Callable[[float], bool], range_: str) -> float:
    number = _number(value)
    if number is None or not (math.isfinite(number) and inside(number)):
        raise InputError(f"{name} must be {range_}, got {shown(value)}")
    return float(number)


def require_bool(name: str, value: object) -> bool:
    """Return a value as a bool; raise InputError unless it is True or False.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        Value of the argument.

    Returns
    -------
    bool

    Raises
    ------
    InputError
        If it is neither.

    Examples
    --------
    >>> require_bool("dense", "no")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: dense must be True or False, got 'no'
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise InputError(f"{name} must be True or False, got {shown(value)}")
