"""Whether a module's loss is a function of its parameters, checked where the flow is made.

The gradient by plain autograd on the module's own parameters is the measure: at the parameters as
they are, and at a point nearby. Substitution is chosen where it agrees at both, else overwriting
(`gflow.flows.objective.network_loss`), and so are the layers of a plain stack. Then two evaluations
at one point must agree, the loss must have the gradient as its slope, and nothing that belongs to
the caller may have changed. That takes about eight gradients and six values.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gflow.errors import GflowError, InputError
from gflow.flows.objective.chunks import Chunk
from gflow.flows.objective.differentiation import value, value_and_gradient
from gflow.flows.objective.guard import Guard, equal_states
from gflow.flows.objective.layers import find_layers
from gflow.flows.objective.network_loss import NetworkLoss, OverwrittenLoss
from gflow.flows.objective.samples import call_criterion, call_module, cause
from gflow.flows.objective.slope import has_products, require_slope
from gflow.flows.objective.strangers import strangers, warn_of_strangers
from gflow.linalg.elementary_norms import elementary_norms

_FAST_PATHS = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
_ATTENTION = ("scaled_dot_product_attention", "multi_head_attention_forward")


def choose_route(loss: NetworkLoss, chunk: Chunk) -> None:
    """Check a module on some samples, and choose the route of its evaluation.

    Parameters
    ----------
    loss : NetworkLoss
        Its ``route`` is set.
    chunk : Chunk
        The samples.

    Raises
    ------
    InputError
        If the module or the criterion cannot be evaluated on the samples, or the loss is not a
        function of the parameters whose gradient autograd computes.

    Examples
    --------
    >>> module, x = nn.Linear(1, 1), torch.ones(2, 1)
    >>> start = {name: p.detach() for name, p in module.named_parameters()}
    >>> loss = NetworkLoss(module, nn.functional.mse_loss, start)
    >>> choose_route(loss, Chunk(x, x, 1.0))
    >>> loss.route.overwrites
    False
    """
    guard = Guard(loss.module, loss.criterion, chunk)
    found: InputError | None = None
    try:
        _Probe(loss, chunk, guard).run()
    except InputError as error:
        found = error
    finally:
        changed = guard.restore()
    if changed:
        raise InputError(
            "an evaluation must leave everything as it was, but this one changes "
            f"{', '.join(changed)}; {_mend(changed)}"
        )
    if found is not None:
        raise found


def _mend(changed: Sequence[str]) -> str:
    if any("list of parameters" in what for what in changed):
        return "call module(inputs) once before, so that its parameters exist"
    if any(".grad" in what for what in changed):
        return "remove backward(), or use torch.autograd.grad"
    owner = "criterion" if "criterion" in changed[0] else "module"
    return f"call {owner}.eval() first, or remove the operation in place"


class _Point(NamedTuple):
    """The loss and its gradient at one point."""

    value: Tensor
    gradient: Tensor


class _Probe:
    """The evaluations of `choose_route`."""

    def __init__(self, loss: NetworkLoss, chunk: Chunk, guard: Guard):
        self._loss, self._chunk, self._guard = loss, chunk, guard
        self._theta = torch.cat([p.detach().flatten() for p in loss.own])

    def run(self) -> None:
        """Run all checks."""
        route, theta = self._loss.route, self._theta
        modules = list(self._loss.module.modules())
        attributes = [(m, k) for m in modules for k, v in vars(m).items() if isinstance(v, Tensor)]
        if attributes:  # weights that hooks compute, as of pruning: not to be left at other states
            route.settings += (functools.partial(_restored, attributes),)
        if any(isinstance(m, _FAST_PATHS) for m in modules):
            route.settings += (_without_fast_path,)
        if theta.is_cuda and any(isinstance(m, nn.RNNBase) for m in modules):
            route.settings += (_without_cudnn,)
        before = self._guard.random_states()
        own = self._first()
        after = self._guard.random_states()
        beside = nearby(theta, self._loss)
        own_nearby = self._plain(beside)
        self._scale = own.gradient.norm()
        if own_nearby is not None:
            self._scale = torch.maximum(self._scale, own_nearby.gradient.norm())
        again = self._plain(theta)
        afterwards = self._guard.random_states()
        # Who sets the seed in forward ends in the same state whatever it was before.
        draws = not equal_states(before, after) and not equal_states(after, afterwards)
        if draws or again is None or not self._agree(own, again):
            reason = "draws random numbers" if draws else "depends on earlier calls"
            raise InputError(
                "the loss must be a function of the parameters alone, but two evaluations at the "
                f"same parameters differ: module or criterion {reason}; remove that, or fix it"
            )
        if not (
            self._substitution_agrees(theta, own) and self._substitution_agrees(beside, own_nearby)
        ):
            route.overwrites = True
        self._choose_values(theta, own)
        self._choose_layers((theta, own), (beside, own_nearby))
        if own_nearby is not None:
            free = self._free(own.gradient, own_nearby.gradient)
            require_slope(self._value, beside, *own_nearby, free)
            settings = route.settings
            for further in ((), (elementary_norms,)):  # torch's weight norm has no right products
                route.settings = (*settings, *further)
                objective = self._loss.objective(self._chunk)
                route.has_products = has_products(objective, beside, own_nearby.gradient, free)
                if route.has_products:
                    return
            route.settings = settings

    def _first(self) -> _Point:
        """Evaluate at the module's own parameters, step by step, for clear errors."""
        loss, chunk = self._loss, self._chunk
        like = loss.own[0]
        calls = _AttentionCalls()
        with torch.enable_grad(), loss.settings(), calls:
            outputs = call_module(loss.module, chunk.inputs, like)
            result = call_criterion(loss.criterion, outputs, chunk.targets, chunk.inputs)
        if calls.seen:
            loss.route.settings += (_math_attention,)
        if not result.requires_grad:
            raise InputError(
                "the loss does not depend on the module's parameters by operations of torch that "
                "can be differentiated; remove detach(), item() and no_grad() from the way to it"
            )
        if found := strangers(result, loss.own, chunk):
            with torch.enable_grad(), loss.settings():
                again = loss.criterion(loss.module(chunk.inputs), chunk.targets)
            warn_of_strangers(found, strangers(again, loss.own, chunk))
        try:
            slopes = torch.autograd.grad(result, loss.own, materialize_grads=True)
        except Exception as error:
            raise InputError(
                f"the loss cannot be differentiated: {cause(error)}; use operations of torch that "
                "can"
            ) from None
        gradient = torch.cat([s.detach().to_dense().flatten() for s in slopes])
        if not bool(torch.isfinite(gradient).all()):
            raise InputError(
                "the gradient at the module's parameters must be finite, but "
                f"{int((~torch.isfinite(gradient)).sum())} of {gradient.numel()} entries are NaN "
                "or infinite; start elsewhere"
            )
        # Once more with the settings just chosen: other kernels differ in the last digits.
        point = self._plain(self._theta) if calls.seen else None
        return point or _Point(result.detach(), gradient)

    def _plain(self, theta: Tensor) -> _Point | None:
        """The loss and gradient by plain autograd; None where they are not finite."""
        try:
            found = OverwrittenLoss(self._loss, self._chunk).compute_value_and_gradient(theta)
        except GflowError:
            raise
        except Exception as error:
            raise InputError(
                f"a second evaluation of the loss fails with {cause(error)}; module and criterion "
                "must not store what they computed"
            ) from None
        point = _Point(*found)
        return point if bool(torch.isfinite(point.gradient).all()) else None

    def _substitution_agrees(self, theta: Tensor, expected: _Point | None) -> bool:
        """Whether substitution has the loss and gradient of plain autograd, and leaves θ alone."""
        if expected is None:
            return True
        given = theta.clone()
        try:
            found = value_and_gradient(self._loss.objective(self._chunk), given)
        except Exception:  # of any kind: torch.func does not know every module
            return False
        return torch.equal(given, theta) and self._agree(_Point(*found), expected)

    def _agree(self, a: _Point, b: _Point) -> bool:
        eps = torch.finfo(self._theta.dtype).eps
        tolerance = min(1e5 * eps, eps**0.5)
        values = (a.value - b.value).abs() <= tolerance * torch.maximum(
            a.value.abs(), b.value.abs()
        )
        slopes = (a.gradient - b.gradient).norm() <= tolerance * self._scale
        return bool(values & slopes)

    def _choose_values(self, theta: Tensor, own: _Point) -> None:
        """Choose whether values need gradients enabled: modules that differentiate inside do."""
        try:
            with torch.no_grad():
                (found,) = value(self._loss.objective(self._chunk), theta)
            same = self._agree(_Point(found, own.gradient), own)
        except Exception:
            same = False
        self._loss.route.values_need_graph = not same

    def _choose_layers(self, *points: tuple[Tensor, _Point | None]) -> None:
        """Choose to evaluate by layers where that has the same loss and gradient."""
        route, loss, chunk = self._loss.route, self._loss, self._chunk
        if route.overwrites or route.values_need_graph or route.settings:
            return
        try:
            layers = find_layers(loss.module, loss.criterion, loss.own, chunk)
            if layers is None:
                return
            pairs = [
                (_Point(*layers.value_and_gradient(chunk, loss.split(theta))), expected)
                for theta, expected in points
            ]
        except Exception:  # of any kind: a criterion that works in place, or differentiates inside
            return
        if all(expected is None or self._agree(found, expected) for found, expected in pairs):
            route.layers = layers

    def _free(self, *gradients: Tensor) -> Tensor:
        """1 for each entry of θ; 0 in rows of embeddings for padding, which torch keeps fixed."""
        free = [torch.ones_like(p) for p in self._loss.own]
        for child in self._loss.module.modules():
            if isinstance(child, nn.Embedding | nn.EmbeddingBag) and child.padding_idx is not None:
                for p, part in zip(self._loss.own, free, strict=True):
                    if p is child.weight:
                        part[child.padding_idx] = 0.0
        vector = torch.cat([part.flatten() for part in free])
        moves = torch.stack(gradients).abs().sum(0) > 0  # also a decoder's, which shares the rows
        return torch.where(moves, torch.ones_like(vector), vector)

    def _value(self, theta: Tensor) -> Tensor:
        with torch.set_grad_enabled(self._loss.route.values_need_graph):
            return value(self._loss.objective(self._chunk), theta)[0].detach()


class _AttentionCalls(TorchFunctionMode):
    """Notices calls of scaled_dot_product_attention, whose fast kernels differentiate once."""

    seen = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen |= getattr(func, "__name__", "") in _ATTENTION
        return func(*args, **(kwargs or {}))


def _math_attention() -> contextlib.AbstractContextManager[Any]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


@contextlib.contextmanager
def _without_fast_path() -> Any:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def _restored(attributes: Sequence[tuple[nn.Module, str]]) -> Any:
    before = [vars(module).get(name) for module, name in attributes]
    try:
        yield
    finally:
        for (module, name), tensor in zip(attributes, before, strict=True):
            vars(module)[name] = tensor


def _without_cudnn() -> contextlib.AbstractContextManager[Any]:
    return torch.backends.cudnn.flags(enabled=False)


def nearby(theta: Tensor, loss: NetworkLoss) -> Tensor:
    """Return a point that is no special one, such as a kink at zero; the sign of entries is kept.

    Parameters
    ----------
    theta : Tensor, shape (p,)
    loss : NetworkLoss
        Which knows the parts of θ.

    Returns
    -------
    Tensor, shape (p,)

    Examples
    --------
    >>> module = nn.Linear(1, 1, bias=False)
    >>> start = {name: p.detach() for name, p in module.named_parameters()}
    >>> nearby(torch.ones(1), NetworkLoss(module, nn.functional.mse_loss, start))
    tensor([1.0008])
    """
    parts = []
    for part in loss.split(theta):
        i = torch.arange(part.numel(), dtype=theta.dtype, device=theta.device)
        size = part.abs().mean() if part.numel() else theta.new_zeros(())
        scale = torch.where(size > 0, size, torch.ones_like(size))
        flat = part.flatten()
        step = torch.where(flat == 0, scale, flat.abs())
        parts.append(flat + 1e-3 * step * torch.cos(1.7 * i + 0.6))
    return torch.cat(parts)
