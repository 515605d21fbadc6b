r"""The layers of a network that are affine in their parameters, found by watching it run.

    z = sWa + s'b   ⇒   ∂u/∂W = s δaᵀ,  ∂u/∂b = s'δ,  δ = ∂u/∂z,

for weights used on one vector a of each sample. A Jacobian of p columns is then known by the
numbers a and δ of every layer, and a kernel by their inner products (Novak et al. 2022,
arXiv:2206.08720, section 3.4 and table 4). What is recognised: ``linear`` (so ``nn.Linear``), a
product ``a @ W`` or ``a @ W.T``, ``z + b``, and scalars times W or b.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gflow.kernels.functional import Network

#: Names of the weight and the bias of a layer; one of them may be missing.
Layer = tuple[str | None, str | None]

_LINEAR = {torch.nn.functional.linear}
_MATMUL = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}
_ADD = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
_SCALE = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}
_DIVIDE = {torch.div, Tensor.div, Tensor.__truediv__}
_TRANSPOSE = {torch.t, Tensor.t, *(getattr(p, "__get__") for p in (Tensor.T, Tensor.mT))}  # noqa: B009


class Factors(NamedTuple):
    """a with s and a column s' for a bias, (n, d), and δ, (n, k, m), of one use of a layer."""

    inputs: Tensor
    slopes: Tensor


class _Use(NamedTuple):
    layer: Layer
    inputs: Tensor | None
    outputs: Tensor
    scales: tuple[Any, Any]
    version: int


class _ParameterUseRecorder(TorchFunctionMode):
    """Notes every use of parameters; ``affine`` turns False at one that has another form."""

    def __init__(self, parameters: Mapping[str, Tensor]):
        self.known: dict[int, tuple[str, Any]] = {}
        self.kept: list[Tensor] = []  # so that no id is given twice
        self.uses: list[_Use] = []
        self.affine = True
        for name, value in parameters.items():
            self._remember(value, name, 1.0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        seen = any(self._of(value) for value in tree_leaves((args, kwargs)))
        if seen and any(isinstance(o, Tensor) and o.requires_grad for o in tree_leaves(out)):
            uses = len(self.uses)
            self.affine = self.affine and self._note(func, args, kwargs, out)
            if len(self.uses) > uses:
                return out.clone()  # for an activation in place to write over
        return out

    def _of(self, value: Any) -> tuple[str, Any] | None:
        return self.known.get(id(value)) if isinstance(value, Tensor) else None

    def _remember(self, value: Tensor, name: str, scale: Any) -> None:
        self.known[id(value)] = name, scale
        self.kept.append(value)

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any) -> bool:
        """Whether this use of a parameter is one that is understood."""
        if func in _LINEAR:
            values = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            return self._use(values["input"], values["weight"], values.get("bias"), out)
        if kwargs or len(args) > 2:
            return False
        if func in _TRANSPOSE:
            self._remember(out, *self.known[id(args[0])])
            return True
        if len(args) != 2:
            return False
        first, second = args
        if func in _MATMUL:
            return self._use(first, second, None, out)
        if self._of(first) is None and func not in _DIVIDE:
            first, second = second, first  # sums and products with scalars commute
        known = self._of(first)
        if known is None:
            return False
        if func in _ADD and isinstance(second, Tensor):
            return second.shape == out.shape and self._use(None, None, first, out)
        if func in _SCALE | _DIVIDE and _is_scalar(second):
            name, scale = known
            self._remember(out, name, scale * second if func in _SCALE else scale / second)
            return True
        return False

    def _use(self, inputs: Any, weight: Any, bias: Any, out: Tensor) -> bool:
        known = self._of(weight), self._of(bias)
        if self._of(inputs) or out.ndim > 2 or (known[0] and inputs.ndim != 2):
            return False
        if known[1] and bias.shape != out.shape[1:]:
            return False
        names = tuple(k and k[0] for k in known)
        a = inputs.detach() if known[0] else None
        version = 0 if a is None else a._version
        scales = tuple(k[1] if k else None for k in known)
        self.uses.append(_Use(names, a, out, scales, version))  # type: ignore[arg-type]
        return True


def _is_scalar(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and not value.requires_grad
    return isinstance(value, int | float)


def layer_factors(
    network: Network, parameters: Mapping[str, Tensor], x: Tensor
) -> dict[Layer, list[Factors]] | None:
    """The factors of every layer, one for each of its uses; None where a parameter is used
    in another way than the module's head says."""
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    with torch.enable_grad():
        watch = _ParameterUseRecorder(leaves)
        with watch:
            u = network(leaves, x)
        if not watch.affine or not all(_is_intact(use, len(x)) for use in watch.uses):
            return None
        found: dict[Layer, list[Factors]] = {}
        if not watch.uses or not u.requires_grad:
            return found
        ends = [use.outputs for use in watch.uses]
        slopes = [
            torch.autograd.grad(column.sum(), ends, retain_graph=True, materialize_grads=True)
            for column in u.unbind(1)
        ]
    for i, use in enumerate(watch.uses):
        delta = torch.stack([each[i].reshape(len(x), -1) for each in slopes], dim=1)
        found.setdefault(use.layer, []).append(Factors(_with_bias(use, delta), delta))
    layers_of = [name for layer in found for name in layer if name is not None]
    return found if len(set(layers_of)) == len(layers_of) else None


def _is_intact(use: _Use, n: int) -> bool:
    """Whether rows are samples, and the inputs have not been written over since."""
    a = use.inputs
    return len(use.outputs) == n and (a is None or (len(a) == n and a._version == use.version))


def _with_bias(use: _Use, like: Tensor) -> Tensor:
    columns = []
    weight, bias = use.scales
    if use.inputs is not None:
        columns.append(use.inputs if _is_one(weight) else weight * use.inputs)
    if bias is not None:
        columns.append(like.new_ones(len(like), 1) * bias)
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def _is_one(scale: Any) -> bool:
    return isinstance(scale, float) and scale == 1.0
