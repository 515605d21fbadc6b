"""Which laws of a module hold for a loss: a penalty on the parameters, for one, breaks them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from gflow.errors import InputError
from gflow.laws.law import Law
from gflow.laws.tracing import laws_of_module

_NEARBY = 0.1  # size of the random change of the parameters, relative to them
_SIZES = (0.01, 0.1, 0.5, 1.0, 10.0, 100.0)  # of random points, relative to the parameters
_ROUND_OFF = 1e6  # times eps: part of the gradient along a law's from which the law does not hold


def laws_that_hold(
    module: nn.Module,
    parameters: Mapping[str, Tensor],
    gradient: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
) -> tuple[Law, ...]:
    """Return the laws of a module that gradient flow of a loss conserves.

    Parameters
    ----------
    module : nn.Module
    parameters : mapping of str to Tensor
        Where to look: at a random point nearby, and at these.
    gradient : callable
        Parameters ↦ gradient of the loss, both by name.

    Returns
    -------
    tuple of Law
        None where the module's operations have no graph.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    >>> start = dict(module.named_parameters())
    >>> outputs = lambda q: (q["1.weight"] @ q["0.weight"]).sum()
    >>> conserved = torch.func.grad(lambda q: outputs(q) ** 2)
    >>> [law.name for law in laws_that_hold(module, start, conserved)]
    ['balance_0_1']
    >>> decaying = torch.func.grad(lambda q: outputs(q) ** 2 + q["0.weight"].square().sum())
    >>> laws_that_hold(module, start, decaying)
    ()
    """
    try:
        laws = [law for law in laws_of_module(module) if _is_known(law, parameters)]
    except InputError:
        laws = []
    if not laws:
        return ()
    noise = torch.Generator().manual_seed(0)
    start = {name: p.detach() for name, p in parameters.items()}
    nearby = {name: p + _NEARBY * _like(p, noise) for name, p in start.items()}
    for point in (nearby, start):
        slope = {name: g.detach() for name, g in gradient(point).items()}
        laws = [law for law in laws if _holds(law, point, slope, noise)]
    return tuple(laws)


def unbroken_laws(
    laws: Iterable[Law],
    parameters: Mapping[str, Tensor],
    gradient: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
) -> tuple[Law, ...]:
    """Return the laws that a further term of the loss does not break.

    Parameters
    ----------
    laws : iterable of Law
        Of the loss without it.
    parameters : mapping of str to Tensor
        It is compared at random points of these sizes, and from a hundredth to a hundred times
        these: a penalty may begin far from the start.
    gradient : callable
        Parameters ↦ gradient of the term, both by name; points where it fails are left out.

    Returns
    -------
    tuple of Law

    Examples
    --------
    >>> from gflow.laws import find
    >>> laws = find(nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)))
    >>> start = {"0.weight": torch.ones(2, 1).double(), "1.weight": torch.ones(1, 2).double()}
    >>> far = torch.func.grad(lambda q: torch.relu(q["0.weight"].norm() - 30))
    >>> product = torch.func.grad(lambda q: (q["1.weight"] @ q["0.weight"]).sum() ** 4)
    >>> [len(unbroken_laws(laws, start, term)) for term in (far, product)]
    [0, 1]
    """
    noise = torch.Generator().manual_seed(0)
    start = {name: p.detach() for name, p in parameters.items()}
    points = [start] + [
        {name: size * (p + _like(p, noise)) for name, p in start.items()} for size in _SIZES
    ]
    left = tuple(laws)
    for point in points:
        try:
            slope = {name: g.detach() for name, g in gradient(point).items()}
        except Exception:  # of any kind: the term has no value there
            continue
        if all(bool(torch.isfinite(g).all()) for g in slope.values()):
            left = tuple(law for law in left if _holds(law, point, slope, noise))
    return left


def _is_known(law: Law, parameters: Mapping[str, Tensor]) -> bool:
    return all(term.parameter in parameters for term in law.terms)


def _like(p: Tensor, noise: torch.Generator) -> Tensor:
    """Draw a tensor of the shape and the typical size of another."""
    size = p.norm() / max(p.numel(), 1) ** 0.5
    drawn = torch.randn(p.shape, generator=noise, dtype=torch.float64).to(p)
    return drawn * torch.where(size > 0, size, torch.ones_like(size))


def _holds(
    law: Law, point: Mapping[str, Tensor], slope: Mapping[str, Tensor], noise: torch.Generator
) -> bool:
    """Return whether the gradient of the loss is orthogonal to that of the law."""
    names = list(dict.fromkeys(term.parameter for term in law.terms))
    leaves = [point[name].clone().requires_grad_() for name in names]
    with torch.enable_grad():
        value = law({**point, **dict(zip(names, leaves, strict=True))})
        weights = torch.randn(value.shape, generator=noise, dtype=torch.float64).to(value)
        along = torch.autograd.grad((weights * value).sum(), leaves)
    product = sum((a * slope[name]).sum() for a, name in zip(along, names, strict=True))
    # Of the whole gradient: that of a parameter which no output depends on is round-off alone.
    size = sum(a.norm() for a in along) * sum(g.norm() for g in slope.values())
    return bool(abs(product) <= _ROUND_OFF * torch.finfo(value.dtype).eps * size)
