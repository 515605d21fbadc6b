r"""The loss of a torch module as a function of its trainable parameters, L(θ).

Two routes, of which `gflow.flows.objective.construction` chooses where the flow is made:

* By substitution: the module and the criterion run with views of θ in the place of the module's
  parameters (``torch.func.functional_call``), for ensembles all at once. Of a plain stack of
  linear layers, value and gradient at one θ are computed without a graph
  (`gflow.flows.objective.layers`).
* By overwriting: θ is written into the parameters, the loss and its derivatives are those of plain
  autograd, and the parameters are restored. Slower for ensembles, and right for whatever an
  optimizer would be right for: a parameter that is reached by a list or a closure, checkpointing,
  scripted code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gflow.flows.jacobian import in_transform
from gflow.flows.objective.chunks import Chunk, Criterion, require_scalar
from gflow.flows.objective.differentiation import gradient_by_torch_func, is_differentiated, value
from gflow.flows.objective.known_derivatives import KnownDerivatives
from gflow.flows.objective.layers import LayeredLoss
from gflow.flows.pullback import pull_back
from gflow.linalg.elementary_norms import elementary_norms

#: A context in which the module runs, such as one with other kernels of attention.
Setting = Callable[[], AbstractContextManager[Any]]


@dataclass
class Route:
    """How a module is evaluated.

    Attributes
    ----------
    overwrites : bool
        Whether θ is written into the module's parameters.
    values_need_graph : bool
        Whether values are computed with gradients enabled (a module that differentiates inside).
    has_products : bool
        Whether the module can be differentiated twice.
    settings : tuple of Setting
        Contexts in which the module runs.
    layers : LayeredLoss or None
        Value and gradient of one vector without a graph, of a plain stack of linear layers.
    """

    overwrites: bool = False
    values_need_graph: bool = False
    has_products: bool = True
    settings: tuple[Setting, ...] = ()
    layers: LayeredLoss | None = None


class _WithCriterion(nn.Module):
    """criterion(module(inputs), targets), so that parameters are substituted in both."""

    def __init__(self, module: nn.Module, criterion: Criterion):
        super().__init__()
        self.module = module
        self._criterion = (criterion,)  # in a tuple: a criterion that is a module stays outside

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self._criterion[0](self.module(inputs), targets)


def _places(module: nn.Module) -> dict[int, list[str]]:
    """Return the names of all places of each parameter by its id; tied ones have several."""
    places: dict[int, list[str]] = {}
    for path, child in module.named_modules():
        for name, p in child.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(id(p), []).append(f"{path}.{name}" if path else name)
    return places


class NetworkLoss:
    """L(θ) of a module, a criterion and samples, evaluated on a chosen route.

    Parameters
    ----------
    module : nn.Module
    criterion : callable
        ``criterion(outputs, targets)`` → scalar tensor.
    start : dict of str to Tensor
        The trainable parameters by name.
    """

    def __init__(self, module: nn.Module, criterion: Criterion, start: dict[str, Tensor]):
        self.module, self.criterion = module, criterion
        self.route = Route()
        self._shapes = [p.shape for p in start.values()]
        self._sizes = [p.numel() for p in start.values()]
        self.pair = _WithCriterion(module, criterion)
        by_name = dict(module.named_parameters())
        self.own = [by_name[name] for name in start]
        places = _places(module)
        self._places = [places[id(p)] for p in self.own]

    def split(self, theta: Tensor) -> list[Tensor]:
        """Split θ (..., p) into parameters, as views."""
        parts = theta.split_with_sizes(self._sizes, -1)
        batch = theta.shape[:-1]
        shapes = self._shapes
        return [part.reshape(batch + s) for part, s in zip(parts, shapes, strict=True)]

    def substituted(self, theta: Tensor, prefix: str = "") -> dict[str, Tensor]:
        """Return the parameters in one vector θ (p,) by name, tied ones in all their places."""
        pairs = zip(self._places, self.split(theta), strict=True)
        return {prefix + place: part for places, part in pairs for place in places}

    def objective(self, chunk: Chunk) -> ChunkLoss:
        """Return the summand of a chunk in the loss, as a function of one vector θ (p,)."""
        return OverwrittenLoss(self, chunk) if self.route.overwrites else ChunkLoss(self, chunk)

    def layers_at(self, *vectors: Tensor) -> LayeredLoss | None:
        """Return the loss by its layers; None where there is none, or a vector is differentiated.

        Each vector of an ensemble (..., p) can be evaluated by its layers, but not all at once.
        """
        layers = self.route.layers
        if layers is None or any(map(is_differentiated, vectors)):
            return None
        return layers if layers.is_unchanged() else None

    def outputs(self, inputs: Tensor, theta: Tensor) -> Tensor:
        """Compute the module's outputs at one vector θ (p,)."""
        needs_graph = torch.is_grad_enabled() or self.route.values_need_graph
        with self.settings(), torch.set_grad_enabled(needs_graph):
            if not self.route.overwrites:
                named = self.substituted(theta)
                outputs: Tensor = functional_call(self.module, named, (inputs,), tie_weights=False)
                return outputs
            with self.overwritten(theta):
                return self.module(inputs).detach().clone()

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Enter the contexts in which the module runs.

        Yields
        ------
        None
        """
        with ExitStack() as stack:
            for setting in self.route.settings:
                stack.enter_context(setting())
            yield

    @contextmanager
    def overwritten(self, theta: Tensor) -> Iterator[None]:
        """Write θ (p,) into the module's parameters; restore them at the end.

        Yields
        ------
        None
        """
        stored = [p.detach().clone() for p in self.own]
        try:
            with torch.no_grad():
                for p, values in zip(self.own, self.split(theta.detach()), strict=True):
                    p.copy_(values)
            yield
        finally:
            with torch.no_grad():
                for p, values in zip(self.own, stored, strict=True):
                    p.copy_(values)


class ChunkLoss:
    """The summand of a chunk in the loss as a function of one vector θ (p,), by substitution.

    Parameters
    ----------
    loss : NetworkLoss
        The module and the criterion.
    chunk : Chunk
        The samples.
    """

    def __init__(self, loss: NetworkLoss, chunk: Chunk):
        self.loss, self.chunk = loss, chunk

    def __call__(self, theta: Tensor) -> Tensor:
        loss, chunk, route = self.loss, self.chunk, self.loss.route
        if route.values_need_graph and not theta.requires_grad and not in_transform():
            # A loss that differentiates by the parameters needs them to require gradients.
            with torch.enable_grad():
                return self(theta.detach().requires_grad_()).detach()
        call = partial(
            functional_call,
            loss.pair,
            loss.substituted(theta, "module."),
            (chunk.inputs, chunk.targets),
            tie_weights=False,  # they are in the names: to search for them in each call is slow
        )
        result: Tensor
        if route.settings or route.values_need_graph:
            needs_graph = torch.is_grad_enabled() or route.values_need_graph
            with loss.settings(), torch.set_grad_enabled(needs_graph):
                result = call()
            if not torch.is_grad_enabled():
                result = result.detach()
        else:
            result = call()
        require_scalar(result)
        return self._summand(result, theta)

    def _summand(self, loss: Tensor, theta: Tensor) -> Tensor:
        """Weight a chunk's loss, and add weight decay and penalty."""
        chunk = self.chunk
        loss = loss if chunk.weight == 1.0 else chunk.weight * loss
        return loss if chunk.regulariser is None else loss + chunk.regulariser(theta)

    def own_gradient(self, theta: Tensor) -> Tensor:
        """Compute the gradient at θ (..., p) by plain autograd on the module's parameters."""
        summand = OverwrittenLoss(self.loss, self.chunk)
        rows = [summand.compute_derivative(row) for row in theta.reshape(-1, theta.shape[-1])]
        return torch.stack(rows).reshape(theta.shape)


class OverwrittenLoss(ChunkLoss, KnownDerivatives):
    """The same by plain autograd on the module's parameters, into which θ is written."""

    def __call__(self, theta: Tensor) -> Tensor:
        if in_transform():
            raise RuntimeError(
                "this module is evaluated by overwriting its parameters, which torch.func cannot "
                "do; differentiate with torch.autograd"
            )
        return self.value(theta)

    def compute_value(self, y: Tensor) -> Tensor:
        with self.loss.overwritten(y), torch.set_grad_enabled(self.loss.route.values_need_graph):
            return self.on_module().detach()

    def compute_value_and_gradient(self, y: Tensor) -> tuple[Tensor, Tensor]:
        with self.loss.overwritten(y), torch.enable_grad():
            loss = self.on_module()
            return loss.detach(), self._slopes(loss, ())

    def compute_derivative(self, y: Tensor, *vs: Tensor) -> Tensor:
        often = elementary_norms() if len(vs) > 1 else contextlib.nullcontext()
        with self.loss.overwritten(y), torch.enable_grad(), often:
            return self._slopes(self.on_module(), vs)

    def on_module(self) -> Tensor:
        """Compute the summand at the module's parameters as they are."""
        chunk = self.chunk
        with self.loss.settings():
            loss = self.loss.criterion(self.loss.module(chunk.inputs), chunk.targets)
        require_scalar(loss)
        return self._summand(loss, torch.cat([p.flatten() for p in self.loss.own]))

    def _slopes(self, loss: Tensor, vs: Sequence[Tensor]) -> Tensor:
        """Differentiate along vs, and once more by all parameters, as one vector."""
        results, own = [loss], self.loss.own
        along = [torch.ones_like(loss)]
        for i in range(len(vs) + 1):
            pairs = [(r, v) for r, v in zip(results, along, strict=True) if r.requires_grad]
            if not pairs:  # affine
                return torch.cat([torch.zeros_like(p).flatten() for p in own])
            outputs, directions = zip(*pairs, strict=True)
            results = list(pull_back(outputs, own, directions, create_graph=i < len(vs)))
            along = list(self.loss.split(vs[i].detach())) if i < len(vs) else []
        return torch.cat([r.detach().to_dense().flatten() for r in results])


def criterion_value(objective: ChunkLoss, theta: Tensor) -> tuple[Tensor]:
    """Compute the summand of a chunk without weight decay and penalty.

    Parameters
    ----------
    objective : ChunkLoss
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.

    Returns
    -------
    tuple of Tensor, shape (...)
        The values. A difference of L and what is added to the criterion would lose digits.

    Examples
    --------
    >>> from gflow.flows.objective.chunks import Chunk
    >>> from gflow.flows.objective.penalty import Regulariser
    >>> module, x = nn.Linear(1, 1, bias=False), torch.ones(2, 1)
    >>> start = {name: p.detach() for name, p in module.named_parameters()}
    >>> loss = NetworkLoss(module, nn.functional.mse_loss, start)
    >>> chunk = Chunk(x, 3 * x, 1.0, Regulariser(torch.ones(1), None, dict))
    >>> criterion_value(loss.objective(chunk), torch.ones(1))
    (tensor(4.),)
    """
    chunk = replace(objective.chunk, regulariser=None)
    return value(objective.loss.objective(chunk), theta)


def reference_gradient(objective: ChunkLoss, theta: Tensor) -> tuple[Tensor]:
    """Compute ∇L by plain autograd on the module's parameters; of an ensemble by torch.func.

    Neither is how the flow computes it where parameters are substituted. torch.func is all members
    at once, but loads the compiler of torch, which takes seconds.

    Parameters
    ----------
    objective : ChunkLoss
        L, one vector (p,) → scalar.
    theta : Tensor, shape (..., p)
        One vector or an ensemble.

    Returns
    -------
    tuple of Tensor, shape (..., p)
        The gradients.

    Examples
    --------
    >>> from gflow.flows.objective.chunks import Chunk
    >>> module, x = nn.Linear(1, 1, bias=False), torch.ones(2, 1)
    >>> start = {name: p.detach() for name, p in module.named_parameters()}
    >>> loss = NetworkLoss(module, nn.functional.mse_loss, start)
    >>> reference_gradient(loss.objective(Chunk(x, 3 * x, 1.0)), torch.zeros(1))
    (tensor([-6.]),)
    """
    if theta.ndim > 1 and not objective.loss.route.overwrites:
        # Of any kind: an autograd.Function in the old form, hooks, NumPy inside of forward.
        with contextlib.suppress(Exception):
            return gradient_by_torch_func(objective, theta)
    return (objective.own_gradient(theta),)
