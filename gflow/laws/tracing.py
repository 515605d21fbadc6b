"""The conservation laws of a module, from the graph of its operations (`torch.fx`)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from gflow.errors import InputError
from gflow.laws.features import Features, Names, alone, fixed
from gflow.laws.functions import FUNCTIONS, PASSING, Weight
from gflow.laws.law import Law
from gflow.laws.layers import LAYERS, is_plain, layer_of
from gflow.laws.symmetries import Symmetries
from gflow.text import brief


def laws_of_module(module: nn.Module) -> list[Law]:
    """Return what gradient flow of every loss of a module's outputs conserves.

    Parameters
    ----------
    module : nn.Module
        Operations that are not known make no law. Parameters that do not require gradients are
        constants.

    Returns
    -------
    list of Law

    Raises
    ------
    InputError
        If the operations depend on the values of the inputs, so that there is no graph.

    Examples
    --------
    >>> tied = nn.Linear(2, 2, bias=False)
    >>> network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), tied, nn.ReLU(), tied)
    >>> laws_of_module(network)
    []
    """
    if not isinstance(module, nn.Module):
        raise InputError(
            f"laws are those of a torch.nn.Module or of a flow, got {brief(module)}; pass one"
        )
    if type(module) in LAYERS and is_plain(module):
        with contextlib.suppress(TypeError):  # a layer of several inputs
            return _Interpreter(module).of_layer().laws()
    try:
        graph = _Tracer().trace(module)
    except Exception as error:  # whatever a forward may raise on symbols
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the operations of {type(module).__name__} must not depend on values or shapes, so "
            f"that its laws can be read off them, but {brief(cause, str)}; pass the parts of it "
            "that are plain layers"
        ) from None
    return _Interpreter(module).run(graph).laws()


class _Tracer(fx.Tracer):
    """Records operations; layers of torch are one operation each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or not is_plain(m)


class _Interpreter:
    """Walks through a graph, and collects streams and constraints."""

    def __init__(self, module: nn.Module):
        self._module, self._found = module, Symmetries()
        trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._names: Names = {id(p): name for name, p in trainable.items()}

    def of_layer(self) -> Symmetries:
        """Collect from a module that is one known layer, of one input."""
        self._fix(layer_of(self._found, self._names, self._module, Features()))
        return self._found

    def run(self, graph: fx.Graph) -> Symmetries:
        values: dict[fx.Node, object] = {}

        def known(argument: Any) -> Any:
            return values[argument] if isinstance(argument, fx.Node) else argument

        for node in graph.nodes:
            arguments = fx.node.map_aggregate(node.args, known)
            options = fx.node.map_aggregate(node.kwargs, known)
            if node.op == "output":
                self._fix(arguments)
            else:
                values[node] = self._value(node, arguments, dict(options))
        return self._found

    def _value(self, node: fx.Node, arguments: Sequence[Any], options: dict) -> object:
        if node.op == "placeholder":
            return Features()
        if node.op == "get_attr":
            return self._attribute(str(node.target))
        target: object = node.target
        if target is getattr:
            target, arguments = arguments[1], arguments[:1]
        function = FUNCTIONS.get(target) if node.op != "call_module" else None
        if function not in PASSING:
            arguments = [fx.node.map_aggregate(argument, self._alone) for argument in arguments]
            options = {k: fx.node.map_aggregate(v, self._alone) for k, v in options.items()}
        if node.op == "call_module":
            layer = self._module.get_submodule(str(node.target))
            return self._try(
                functools.partial(layer_of, self._found, self._names, layer), arguments, options
            )
        if function is None:
            return self._fix([arguments, options])
        return self._try(functools.partial(function, self._found), arguments, options)

    def _attribute(self, name: str) -> object:
        tensor = functools.reduce(getattr, name.split("."), self._module)
        if not isinstance(tensor, torch.Tensor):
            return tensor
        return Weight(self._names.get(id(tensor)), tuple(tensor.shape))

    def _try(
        self, function: Callable[..., object], arguments: Sequence[object], options: dict
    ) -> object:
        """Call what records an operation; with arguments that it does not know, fix them."""
        try:
            return function(*arguments, **options)
        except TypeError:
            return self._fix([arguments, options])

    def _alone(self, argument: Any) -> Any:
        return alone(self._found, argument) if isinstance(argument, Features) else argument

    def _fix(self, arguments: Any) -> Features:
        """Fix all streams in nested arguments, and those that an unknown use of a weight spans."""
        fx.node.map_aggregate(arguments, self._fix_one)
        return Features()

    def _fix_one(self, argument: Any) -> Any:
        if isinstance(argument, Weight) and argument.name is not None:
            self._found.spoil(argument.name)
        fixed(self._found, argument)
        return argument
