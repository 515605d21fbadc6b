"""Networks by name, and the user's own by import path, initialised from a seed.

===========  ======================================================================
``mlp``      depth hidden layers of a width, each with an activation; biases are optional
``linear``   the same without activations and biases: a deep linear network
``cnn``      two convolutions of stride 2, width/4 and width/2 channels, then linear
===========  ======================================================================

``transformer`` (one block) and ``linear-attention`` take sequences: `gflow.networks.attention`.

Parameters have torch's own initialisation, drawn in the requested dtype after
``torch.manual_seed(seed)``.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from collections.abc import Callable, Sequence
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
    "square": "",  # z², which torch.nn does not have
}


def activation_layer(name: str) -> nn.Module:
    """Return a new layer of an activation, by its key of `ACTIVATIONS`."""
    from torch import nn

    from gflow.networks.square import Square

    return Square() if name == "square" else getattr(nn, ACTIVATIONS[name])()


def mlp(
    inputs: int, outputs: int, width: int, depth: int, activation: str, bias: bool = True
) -> nn.Sequential:
    """Build a multilayer perceptron, inputs → width → … → width → outputs.

    Parameters
    ----------
    inputs, outputs, width : int
        Sizes of the input, of the output and of every hidden layer.
    depth : int
        Number of hidden layers, each followed by an activation.
    activation : str
        A key of `ACTIVATIONS`.
    bias : bool

    Returns
    -------
    torch.nn.Sequential

    Examples
    --------
    >>> [p.shape[0] for p in mlp(3, 2, 5, 2, "tanh").parameters()]
    [5, 5, 5, 5, 2, 2]
    """
    from torch import nn

    sizes = [inputs, *[width] * depth, outputs]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b, bias=bias), activation_layer(activation)]
    return nn.Sequential(*layers[:-1])


def linear(inputs: int, outputs: int, width: int, depth: int) -> nn.Sequential:
    """Build a deep linear network, inputs → width → … → width → outputs, without biases.

    Parameters
    ----------
    inputs, outputs, width : int
        Sizes of the input, of the output and of every hidden layer.
    depth : int
        Number of hidden layers.

    Returns
    -------
    torch.nn.Sequential

    Examples
    --------
    >>> [tuple(p.shape) for p in linear(3, 2, 5, 1).parameters()]
    [(5, 3), (2, 5)]
    """
    from torch import nn

    sizes = [inputs, *[width] * depth, outputs]
    return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)))


def cnn(image: tuple[int, int, int], outputs: int, width: int, activation: str) -> nn.Sequential:
    """Build two 3×3 convolutions of stride 2 and a linear layer, for flattened images.

    Parameters
    ----------
    image : (int, int, int)
        Channels, height, width.
    outputs : int
    width : int
        The convolutions have width/4 and width/2 channels.
    activation : str
        A key of `ACTIVATIONS`.

    Returns
    -------
    torch.nn.Sequential

    Examples
    --------
    >>> import torch
    >>> cnn((1, 8, 8), 10, 16, "relu")(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    """
    from torch import nn

    channels, image_height, image_width = image
    first, second = max(1, width // 4), max(1, width // 2)
    pixels = -(-image_height // 4) * -(-image_width // 4)  # after both strides
    return nn.Sequential(
        nn.Unflatten(1, image),
        nn.Conv2d(channels, first, 3, stride=2, padding=1),
        activation_layer(activation),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        activation_layer(activation),
        nn.Flatten(),
        nn.Linear(second * pixels, outputs),
    )


def scale_layers(module: nn.Module, scales: float | Sequence[float]) -> None:
    """Multiply the parameters of a module, by one number or by one for each layer.

    Parameters
    ----------
    module : torch.nn.Module
        It is changed.
    scales : float or sequence of float
        Of the layers in the order of the parameters; a layer has parameters of its own.

    Raises
    ------
    InputError
        If there are not as many numbers as layers, or one is not positive.

    Examples
    --------
    >>> module = linear(2, 1, 3, 1)
    >>> before = float(module[1].weight[0, 0])
    >>> scale_layers(module, [1.0, 2.0])
    >>> float(module[1].weight[0, 0]) == 2 * before
    True
    """
    import torch

    from gflow.checks import require_positive
    from gflow.flows.objective.groups import by_layer

    named = dict(module.named_parameters())
    numbers = by_layer("init_scale", scales, named, require_positive)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.mul_(numbers[name])


def build(make: Callable[[], nn.Module], seed: int, dtype: torch.dtype) -> nn.Module:
    """Call a factory of modules with a seed and a default dtype.

    torch's own generator and default dtype are restored afterwards.

    Parameters
    ----------
    make : callable
        Takes no arguments and returns a module.
    seed : int
    dtype : torch.dtype

    Returns
    -------
    torch.nn.Module

    Examples
    --------
    >>> import torch
    >>> build(lambda: torch.nn.Linear(2, 1), 0, torch.float64).weight.dtype
    torch.float64
    """
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
    """Import the factory of the user's own module, ``package.module:name``.

    The current folder is searched first.

    Raises
    ------
    InputError
        If it cannot be imported. The factory itself raises it where it fails or does not return
        a ``torch.nn.Module``.

    Examples
    --------
    >>> factory("torch.nn:Identity")()
    Identity()
    """
    module_name, _, name = path.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's file does on import
        raise InputError(
            f"model {path!r} must be importable, but {one_line(error)}; run from the folder "
            "that holds it, or install it"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    make = getattr(module, name, None)
    if not callable(make):
        kind = "no such name" if make is None else f"a {type(make).__name__}"
        raise InputError(
            f"model {path!r} must name a function in {module_name}, got {kind}; check the name"
        )

    def checked() -> nn.Module:
        from torch import nn

        try:
            made = make()
        except Exception as error:
            raise InputError(
                f"model {path!r} must be callable without arguments, but "
                f"{one_line(error)}; correct the function"
            ) from error
        if not isinstance(made, nn.Module):
            raise InputError(
                f"model {path!r} must return a torch.nn.Module, got "
                f"{type(made).__name__}; correct its return"
            )
        return made

    return checked


def require_fit(module: nn.Module, inputs: Tensor, outputs: int) -> None:
    """Raise InputError unless a module maps rows of inputs to rows of outputs.

    Parameters
    ----------
    module : torch.nn.Module
    inputs : Tensor, shape (n, d)
    outputs : int
        Their number for each sample.

    Raises
    ------
    InputError
        If the module fails on these inputs, or gives outputs of another shape.

    Examples
    --------
    >>> import torch
    >>> require_fit(torch.nn.Linear(3, 2), torch.zeros(5, 3), 2)
    """
    import torch

    batch = inputs[:2]
    try:
        with torch.no_grad():
            result = module(batch)
    except Exception as error:  # of any kind, from inside the user's module
        raise InputError(
            f"the model must take inputs of shape {('n', *batch.shape[1:])}, but "
            f"{one_line(error)}; change its first layer"
        ) from error
    shape = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
    if shape != (len(batch), outputs):
        raise InputError(
            f"the model must return outputs of shape {(len(batch), outputs)} for {len(batch)} "
            f"samples, got {shape}; change its last layer"
        )
