r"""The layers of a network that are affine in their parameters, found by watching it run.

    z = sWa + s'b   ⇒   ∂u/∂W = s δaᵀ,  ∂u/∂b = s'δ,  δ = ∂u/∂z,

for weights used on one vector a of each sample. A Jacobian of p columns is then known by the
numbers a and δ of every layer, and a kernel by their inner products (Novak et al. 2022,
arXiv:2206.08720, section 3.4 and table 4). Recognised are ``linear`` (so ``nn.Linear``), a
product ``a @ W`` or ``a @ W.T``, ``z + b``, and scalars times W or b.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gflow.kernels.functional import Network, Parameters

#: Names of the weight and the bias of a layer; one of them may be missing.
Layer = tuple[str | None, str | None]

_LINEAR = {torch.nn.functional.linear}
_MATMUL = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm}
_ADD = {torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__}
_SCALE = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}
_DIVIDE = {torch.div, Tensor.div, Tensor.__truediv__}
_TRANSPOSE = {torch.t, Tensor.t, *(getattr(p, "__get__") for p in (Tensor.T, Tensor.mT))}  # noqa: B009


class Factors(NamedTuple):
    """Factors of the Jacobian of one use of a layer.

    Attributes
    ----------
    inputs : Tensor, shape (n, d)
        sa, and a column s' for a bias.
    slopes : Tensor, shape (n, k, m)
        δ.
    """

    inputs: Tensor
    slopes: Tensor


class _Use(NamedTuple):
    """One use of a layer: its names, inputs and outputs, s and s', the version of the inputs."""

    layer: Layer
    inputs: Tensor | None
    outputs: Tensor
    scales: tuple[Any, Any]
    version: int


class _ParameterUseRecorder(TorchFunctionMode):
    """Record every use of parameters; ``affine`` becomes False at one of another form."""

    def __init__(self, parameters: Parameters):
        self.known: dict[int, tuple[str, Any]] = {}  # id ↦ name of the parameter, scale
        self.references: list[Tensor] = []  # so that no id is reused
        self.uses: list[_Use] = []
        self.affine = True
        for name, value in parameters.items():
            self._register(value, name, 1.0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        uses_parameters = any(self._known(value) for value in tree_leaves((args, kwargs)))
        if uses_parameters and any(
            isinstance(o, Tensor) and o.requires_grad for o in tree_leaves(out)
        ):
            count = len(self.uses)
            self.affine = self.affine and self._record(func, args, kwargs, out)
            if len(self.uses) > count:
                return out.clone()  # an activation in place may overwrite it
        return out

    def _known(self, value: Any) -> tuple[str, Any] | None:
        return self.known.get(id(value)) if isinstance(value, Tensor) else None

    def _register(self, value: Tensor, name: str, scale: Any) -> None:
        self.known[id(value)] = name, scale
        self.references.append(value)

    def _record(self, func: Any, args: Any, kwargs: Any, out: Any) -> bool:
        """Record a use of parameters; return whether it is of a known form."""
        if func in _LINEAR:
            values = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            return self._record_use(values["input"], values["weight"], values.get("bias"), out)
        if kwargs or len(args) > 2:
            return False
        if func in _TRANSPOSE:
            self._register(out, *self.known[id(args[0])])
            return True
        if len(args) != 2:
            return False
        first, second = args
        if func in _MATMUL:
            return self._record_use(first, second, None, out)
        if self._known(first) is None and func not in _DIVIDE:
            first, second = second, first  # sums and products with scalars commute
        known = self._known(first)
        if known is None:
            return False
        if func in _ADD and isinstance(second, Tensor):
            return second.shape == out.shape and self._record_use(None, None, first, out)
        if func in _SCALE | _DIVIDE and _is_scalar(second):
            name, scale = known
            self._register(out, name, scale * second if func in _SCALE else scale / second)
            return True
        return False

    def _record_use(self, inputs: Any, weight: Any, bias: Any, out: Tensor) -> bool:
        known = self._known(weight), self._known(bias)
        if self._known(inputs) or out.ndim > 2 or (known[0] and inputs.ndim != 2):
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
    network: Network, parameters: Parameters, x: Tensor
) -> dict[Layer, list[Factors]] | None:
    """Find the factors of every layer of a network.

    Parameters
    ----------
    network : callable
        (parameters, x) ↦ outputs (n, k).
    parameters : mapping of str to Tensor
        θ.
    x : Tensor, shape (n, ...)
        Points.

    Returns
    -------
    dict of (weight, bias) to list of Factors, or None
        One for each use of the layer; None where a parameter is used in another way than the
        module's head says.

    Examples
    --------
    >>> import torch
    >>> network = lambda p, x: torch.tanh(x @ p["w"])
    >>> layers = layer_factors(network, {"w": torch.zeros(2, 1)}, torch.tensor([[3.0, 4.0]]))
    >>> (factors,) = layers["w", None]
    >>> factors.inputs.tolist(), factors.slopes.tolist()
    ([[3.0, 4.0]], [[[1.0]]])
    """
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    with torch.enable_grad():
        recorder = _ParameterUseRecorder(leaves)
        with recorder:
            u = network(leaves, x)
        if not recorder.affine or not all(_is_intact(use, len(x)) for use in recorder.uses):
            return None
        factors: dict[Layer, list[Factors]] = {}
        if not recorder.uses or not u.requires_grad:
            return factors
        ends = [use.outputs for use in recorder.uses]
        slopes = [
            torch.autograd.grad(column.sum(), ends, retain_graph=True, materialize_grads=True)
            for column in u.unbind(1)
        ]
    for i, use in enumerate(recorder.uses):
        delta = torch.stack([each[i].reshape(len(x), -1) for each in slopes], dim=1)
        factors.setdefault(use.layer, []).append(Factors(_with_bias(use, delta), delta))
    names = [name for layer in factors for name in layer if name is not None]
    return factors if len(set(names)) == len(names) else None


def _is_intact(use: _Use, n: int) -> bool:
    """Return whether rows are samples, and the inputs have not been overwritten since."""
    a = use.inputs
    return len(use.outputs) == n and (a is None or (len(a) == n and a._version == use.version))


def _with_bias(use: _Use, like: Tensor) -> Tensor:
    """Return sa, and a column s' where the layer has a bias."""
    columns = []
    weight, bias = use.scales
    if use.inputs is not None:
        columns.append(use.inputs if _is_one(weight) else weight * use.inputs)
    if bias is not None:
        columns.append(like.new_ones(len(like), 1) * bias)
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def _is_one(scale: Any) -> bool:
    return isinstance(scale, float) and scale == 1.0
