r"""How many conservation laws a network has, whatever the loss: the Lie algebra of its gradients.

Gradient flow of a loss of the outputs f(θ) moves θ along the fields χ_c(θ) = J(θ)ᵀc, with the
Jacobian J of the outputs on all samples. What all of them conserve is conserved by their Lie
brackets [χ, ξ] = (∂ξ)χ − (∂χ)ξ, too; near a generic point there are as many independent laws as
the parameters have dimensions beyond those that the fields and all their brackets span (Marcotte,
Gribonval & Peyré 2023, arXiv:2307.00144, Theorem 3.3; 2024, arXiv:2405.12888). A basis of fields is
grown bracket by bracket, by products with nested Jacobians, until a bracket of every one of them
with a random combination of the χ_c is in their span, and then all brackets are; or until its size
and the rank of the laws that are known make up the number of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from gflow.checks import require_count
from gflow.errors import InputError
from gflow.laws.tracing import laws_of_module
from gflow.linalg.elementary_norms import elementary_norms

Field = Callable[[Tensor], Tensor]

_NEW = 1e-7  # part of a field outside the span from which it adds a dimension
_ZERO = 1e-9  # of a bracket, relative to the two products that it is the difference of
_SPREADS = (0.3, 0.6, 1.0, 0.5, 0.8, 1.5)  # sizes of the random changes that make points generic
_FALSE = 1e-8  # part of a gradient along that of a law from which the law is false


@dataclass(frozen=True)
class Count:
    """Numbers of parameters, of dimensions that gradients reach, and of conservation laws.

    Attributes
    ----------
    parameters : int
        Number of trainable parameters.
    dimension : int
        Of the Lie algebra that the gradients' fields generate, at a generic point: the largest of
        several, because units that are inactive on all samples conserve more. A lower bound where
        torch has no right derivatives of high order: `complete` is false then.
    found : int
        Number of independent laws among those that `gflow.laws.find` returns: the rank of their
        Jacobian there.
    """

    parameters: int
    dimension: int
    found: int

    @property
    def laws(self) -> int:
        """Number of independent conservation laws."""
        return self.parameters - self.dimension

    @property
    def complete(self) -> bool:
        """Whether the laws found are all there are."""
        return self.found == self.laws


def count(module: nn.Module, inputs: Tensor, *, seed: int = 0, max_parameters: int = 400) -> Count:
    """Count the independent conservation laws of a module under gradient flow of any loss.

    Parameters
    ----------
    module : nn.Module
        With smooth or piecewise smooth outputs.
    inputs : Tensor, shape (n, ...)
        Samples. The laws hold on these: few samples may conserve more than many.
    seed : int
        Of the generic points, random changes of the module's parameters, and of the combinations.
    max_parameters : int
        Refuse larger modules: the work grows with the cube of their number.

    Returns
    -------
    Count

    Raises
    ------
    InputError
        If the module has more parameters, or cannot be evaluated on the inputs.

    Examples
    --------
    A 1-3-1 linear network conserves the six entries of a symmetric matrix, which depend on each
    other:

    >>> network = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 1, bias=False))
    >>> counted = count(network, torch.randn(4, 1))
    >>> counted.parameters, counted.dimension, counted.laws, counted.complete
    (6, 1, 5, True)
    """
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    total = sum(p.numel() for p in parameters.values())
    require_count("max_parameters", max_parameters)
    if not 0 < total <= max_parameters:
        raise InputError(
            f"a module must have 1 to {max_parameters} trainable parameters to be counted, got "
            f"{total}; use a narrower one of the same layers, or raise max_parameters"
        )
    noise = torch.Generator().manual_seed(seed)
    own = torch.cat([p.detach().flatten().double().cpu() for p in parameters.values()])
    outputs = _outputs(module, parameters, inputs)
    counts = []
    # Forms of attention and norms with nested derivatives.
    with sdpa_kernel(SDPBackend.MATH), elementary_norms():
        for spread in _SPREADS:
            theta = own + spread * torch.randn(total, generator=noise, dtype=torch.float64)
            known = _known_gradients(module, parameters, theta)
            known = _orthogonal_to_outputs(known, outputs, theta)
            rank = int(torch.linalg.matrix_rank(known, rtol=1e-9)) if known.numel() else 0
            counts.append(Count(total, _dimension(outputs, theta, known, rank, noise), rank))
            if counts[-1].complete:
                break
    return max(counts, key=lambda c: c.dimension)


def _outputs(module: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor) -> Field:
    """Return θ ↦ outputs on all samples, (m,), in float64 on the CPU."""
    shapes = {name: p.shape for name, p in parameters.items()}
    others = {
        name: tensor.detach().cpu().double() if tensor.is_floating_point() else tensor.cpu()
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if name not in parameters
    }
    x = inputs.detach().cpu()
    x = x.double() if x.is_floating_point() else x

    def outputs(theta: Tensor) -> Tensor:
        parts = theta.split([shape.numel() for shape in shapes.values()])
        named = {n: p.reshape(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        result: Tensor = functional_call(module, {**named, **others}, (x,))
        return result.flatten()

    try:
        outputs(torch.zeros(sum(s.numel() for s in shapes.values()), dtype=torch.float64))
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the module must return a tensor for its inputs, but it raises: {cause}; pass inputs "
            "of the shape and type that it takes"
        ) from None
    return outputs


def _dimension(
    outputs: Field, theta: Tensor, known: Tensor, rank: int, noise: torch.Generator
) -> int:
    """Return the dimension that the fields χ_c and their brackets span at θ.

    It is at most what the laws that are known leave, whose gradients, of that rank, are ``known``.
    """
    size, most = outputs(theta).numel(), len(theta) - rank
    conserved = torch.linalg.svd(known, full_matrices=False)[2][:rank] if rank else known

    def random_gradient() -> Field:
        c = torch.randn(size, generator=noise, dtype=torch.float64)
        return lambda point: vjp(outputs, point)[1](c)[0]

    basis = theta.new_zeros(0, theta.numel())
    fields: list[Field] = []
    while len(basis) < most:  # random combinations of χ_c, until one adds nothing
        field = random_gradient()
        grown = _extended(basis, field(theta))
        if grown is None:
            break
        basis, fields = grown, [*fields, field]
    new = fields
    while new and len(basis) < most:
        # One random combination a field: if its bracket with each is in the span, all are.
        added = []
        for field in fields:
            if len(basis) == most:
                break
            bracket, value = _bracket(random_gradient(), field, theta)
            if value is not None and (conserved @ value).norm() > _FALSE * value.norm():
                return len(basis)  # no field changes what is conserved: this one is wrong
            grown = None if value is None else _extended(basis, value)
            if grown is not None:
                basis = grown
                added.append(bracket)
        fields, new = [*fields, *added], added
    return len(basis)


def _bracket(first: Field, second: Field, theta: Tensor) -> tuple[Field, Tensor | None]:
    """Return [χ, ξ] and its value at θ, or None where that is zero to round-off."""

    def products(point: Tensor) -> tuple[Tensor, Tensor]:
        along_first = jvp(second, (point,), (first(point),))[1]
        along_second = jvp(first, (point,), (second(point),))[1]
        return along_first, along_second

    a, b = products(theta)
    value = a - b
    is_zero = value.norm() <= _ZERO * (a.norm() + b.norm())

    def bracket(point: Tensor) -> Tensor:
        a, b = products(point)
        return a - b

    return bracket, None if is_zero else value


def _extended(basis: Tensor, vector: Tensor) -> Tensor | None:
    """Return an orthonormal basis with one more vector; None where it is in the span."""
    size = vector.norm()
    if size == 0 or len(basis) == len(vector):
        return None
    rest = vector / size
    for _ in range(2):
        rest = rest - (basis @ rest) @ basis
    if rest.norm() <= _NEW:
        return None
    return torch.cat([basis, (rest / rest.norm())[None]])


def _known_gradients(module: nn.Module, parameters: Mapping[str, Tensor], theta: Tensor) -> Tensor:
    """Return the gradients of the entries of all laws that are found, (laws, p)."""
    try:
        laws = laws_of_module(module)
    except InputError:
        laws = []
    if not laws:
        return theta.new_zeros(0, len(theta))
    parts = theta.split([p.numel() for p in parameters.values()])
    named = {n: q.reshape(p.shape) for (n, p), q in zip(parameters.items(), parts, strict=True)}

    def entries(*tensors: Tensor) -> Tensor:
        at = dict(zip(named, tensors, strict=True))
        return torch.cat([law.entries(at) for law in laws])

    jacobian = torch.autograd.functional.jacobian(entries, tuple(named.values()))
    return torch.cat([j.reshape(len(j), -1) for j in jacobian], 1)


def _orthogonal_to_outputs(gradients: Tensor, outputs: Field, theta: Tensor) -> Tensor:
    """Return the gradients of those laws that hold: orthogonal to those of all outputs."""
    if not len(gradients):
        return gradients
    jacobian = torch.autograd.functional.jacobian(outputs, theta)
    along = (gradients @ jacobian.mT).norm(dim=1)
    size = gradients.norm(dim=1) * torch.linalg.matrix_norm(jacobian, 2)
    return gradients[along <= _FALSE * size]
