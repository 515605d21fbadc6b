"""Networks by name, and a user's own by import path, as they start out from a seed.

===========  ======================================================================
``mlp``      depth hidden layers of a width, an activation after each; biases if wanted
``linear``   the same without activations and biases: a deep linear network
``cnn``      two convolutions of stride 2, width/4 and width/2 channels, then linear
===========  ======================================================================

Parameters are torch's own initialisation, drawn in the dtype asked for after
``torch.manual_seed(seed)``.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from gflow.errors import InputError
from gflow.text import one_line

if TYPE_CHECKING:  # torch loads on first use: the help of a command imports this file, too
    import torch
    from torch import Tensor, nn

#: Activations, each with its class in ``torch.nn``.
ACTIVATIONS = {
    "tanh": "Tanh",
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "elu": "ELU",
    "softplus": "Softplus",
}


def _activation(name: str) -> nn.Module:
    from torch import nn

    return getattr(nn, ACTIVATIONS[name])()


def mlp(
    inputs: int, outputs: int, width: int, depth: int, activation: str, bias: bool = True
) -> nn.Sequential:
    """inputs → width → … → width → outputs, an activation after every hidden layer.

    Examples
    --------
    >>> [p.shape[0] for p in mlp(3, 2, 5, 2, "tanh").parameters()]
    [5, 5, 5, 5, 2, 2]
    """
    from torch import nn

    sizes = [inputs, *[width] * depth, outputs]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b, bias=bias), _activation(activation)]
    return nn.Sequential(*layers[:-1])


def linear(inputs: int, outputs: int, width: int, depth: int) -> nn.Sequential:
    """A deep linear network inputs → width → … → outputs, without biases."""
    from torch import nn

    sizes = [inputs, *[width] * depth, outputs]
    return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)))


def cnn(image: tuple[int, int, int], outputs: int, width: int, activation: str) -> nn.Sequential:
    """Two 3×3 convolutions of stride 2 and a linear layer, on flattened images.

    Parameters
    ----------
    image : (int, int, int)
        Channels, height, width.

    Examples
    --------
    >>> import torch
    >>> cnn((1, 8, 8), 10, 16, "relu")(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    """
    from torch import nn

    channels, height, across = image
    first, second = max(1, width // 4), max(1, width // 2)
    left = -(-height // 4) * -(-across // 4)
    return nn.Sequential(
        nn.Unflatten(1, image),
        nn.Conv2d(channels, first, 3, stride=2, padding=1),
        _activation(activation),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        _activation(activation),
        nn.Flatten(),
        nn.Linear(second * left, outputs),
    )


def build(make: Callable[[], nn.Module], seed: int, dtype: torch.dtype) -> nn.Module:
    """What a factory makes after ``torch.manual_seed(seed)`` with dtype as the default one;
    torch's own generator and default are left as they were."""
    import torch

    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            return make().to(dtype)
        finally:
            torch.set_default_dtype(before)


def factory(path: str) -> Callable[[], nn.Module]:
    """The factory of a user's own module, by its import path ``package.module:name``.

    The current folder is searched first.

    Raises
    ------
    InputError
        If there is none, or what it makes is no ``torch.nn.Module``.

    Examples
    --------
    >>> factory("torch.nn:Identity")()
    Identity()
    """
    where, _, name = path.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(where)
    except Exception as error:  # whatever the user's file does on import
        raise InputError(
            f"model {path!r} must be importable, but {one_line(error)}; run from the folder "
            "that holds it, or install it"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    make = getattr(module, name, None)
    if not callable(make):
        found = "no such name" if make is None else f"a {type(make).__name__}"
        raise InputError(f"model {path!r} must name a function in {where}, got {found}")

    def checked() -> nn.Module:
        from torch import nn

        try:
            made = make()
        except Exception as error:
            raise InputError(
                f"model {path!r} must be callable without arguments, but {one_line(error)}"
            ) from error
        if not isinstance(made, nn.Module):
            raise InputError(
                f"model {path!r} must make a torch.nn.Module, got {type(made).__name__}"
            )
        return made

    return checked


def require_fit(module: nn.Module, inputs: Tensor, outputs: int) -> None:
    """Raise InputError unless a module takes rows of inputs to so many outputs."""
    import torch

    few = inputs[:2]
    try:
        with torch.no_grad():
            found = module(few)
    except Exception as error:  # of any kind, from inside the user's module
        raise InputError(
            f"the model must take inputs of shape {('n', *few.shape[1:])}, but {one_line(error)}"
        ) from error
    shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if shape != (len(few), outputs):
        raise InputError(
            f"the model must give outputs of shape {(len(few), outputs)} for {len(few)} samples, "
            f"got {shape}"
        )
