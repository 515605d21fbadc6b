"""What is passed as a flow and as its start: checked once, before any work.

gflow's own flows have tests of their contract. Of a flow that somebody else wrote, its right-hand
side and its loss are evaluated at the start and on two copies of it: shapes, dtype, ensembles,
and that a call changes neither the state nor its own result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gflow.checks import evaluated, require_float, require_single_start, shown
from gflow.errors import InputError
from gflow.flows.arguments import require_flow
from gflow.flows.base import Flow
from gflow.flows.wrapped import WrappedFlow


def checked_start(flow: Flow, y0: Tensor, usage: str) -> tuple[Flow, Tensor]:
    """Return a flow for its start, and the start as a tensor without a gradient.

    Parameters
    ----------
    flow : Flow
        What was passed as a flow.
    y0 : Tensor, shape (..., *state)
        What was passed as a start; a NumPy array is converted.
    usage : str
        The call as it should be written, for messages.

    Returns
    -------
    (Flow, Tensor)

    Raises
    ------
    InputError
        If either cannot be used.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> checked_start(flow, y0.numpy(), "gflow.integrate(flow, y0, ts)")[1].shape
    torch.Size([4, 3])
    """
    require_flow(flow, usage)
    if isinstance(y0, Flow):
        raise InputError(f"the start must be a tensor, got {shown(y0)}; write {usage}")
    y0 = require_float("a state", y0).detach()
    _require_state_shape(flow)
    flow.check_state(y0)
    flow = flow.for_start(y0)
    _require_contract(flow, y0)
    return flow, y0


def single_start(study: str, flow: Flow, y0: Tensor, usage: str) -> tuple[Flow, Tensor]:
    """Return `checked_start`; raise InputError where the start is an ensemble.

    Parameters
    ----------
    study : str
        What takes the start, for the message.
    flow : Flow
        What was passed as a flow.
    y0 : Tensor, shape (*state)
        What was passed as a start.
    usage : str
        The call as it should be written, for messages.

    Returns
    -------
    (Flow, Tensor)

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> single_start("a study", flow, y0, "study(flow, y0)")[0] is flow
    True
    """
    flow, y0 = checked_start(flow, y0, usage)
    require_single_start(study, y0, flow.state_ndim)
    return flow, y0


def _require_state_shape(flow: Flow) -> None:
    """Raise InputError unless the shape of a state is a sequence of whole numbers."""
    shape: object = flow.state_shape
    if isinstance(shape, tuple | list | torch.Size) and all(isinstance(n, int) for n in shape):
        return
    mend = "make it a property" if callable(shape) else "such as (3,) for vectors of 3"
    raise InputError(
        f"{type(flow).__name__}.state_shape must be a tuple of whole numbers, got {shown(shape)}; "
        f"{mend}"
    )


@torch.no_grad()
def _require_contract(flow: Flow, y0: Tensor) -> None:
    """Raise InputError where a flow that is not gflow's own breaks the contract of a flow."""
    while isinstance(flow, WrappedFlow):
        flow = flow.flow
    if type(flow).__module__.startswith("gflow."):
        return
    batch = tuple(flow.batch_shape(y0))
    alone, noise = _checked_results(flow, y0, batch, "one state")
    if noise == 0:
        _require_product(flow, y0, alone)
    together, _ = _checked_results(flow, torch.stack([y0, y0]), (2, *batch), "two states")
    gap = (together - alone).nan_to_num().abs().max()
    if noise == 0 and gap > 1e-3 * alone.nan_to_num().abs().max():
        raise InputError(
            f"{type(flow).__name__}.__call__(t, y) must treat each state of an ensemble alone, but "
            "the velocity of two equal states differs from that of one; sum over the state's "
            "dimensions only"
        )


def _require_product(flow: Flow, y0: Tensor, velocity: Tensor) -> None:
    """Raise InputError where somebody's jvp is not the derivative of the velocity."""
    owner = next(cls for cls in type(flow).__mro__ if "jvp" in vars(cls))
    if owner.__module__.startswith("gflow."):
        return
    i = torch.arange(y0.numel(), dtype=y0.dtype, device=y0.device)
    v = torch.cos(1.3 * i + 0.4).reshape(y0.shape)
    length = torch.finfo(y0.dtype).eps ** (1 / 3) * (1 + y0.norm()) / v.norm()
    name = f"{type(flow).__name__}.jvp(y, v)"
    product = evaluated(name, partial(flow.jvp, y0.clone(), v))
    _require_tensor(name, product, tuple(y0.shape), y0)
    up, down = flow(0.0, y0 + length * v), flow(0.0, y0 - length * v)
    difference = (up - down) / (2 * length)
    allowed = 2 * (up + down - 2 * velocity).norm() / length
    allowed = allowed + 1e3 * torch.finfo(y0.dtype).eps * velocity.norm() / length
    allowed = allowed + 0.01 * torch.maximum(difference.norm(), product.norm())
    if bool((product - difference).norm() > allowed):
        raise InputError(
            f"{name} must be the derivative of the velocity along v, for parameters minus the "
            f"Hessian product, but differs from differences of the velocity by "
            f"{float((product - difference).norm() / difference.norm()):.2g} of them; correct it, "
            "or leave it out"
        )


def _checked_results(
    flow: Flow, y: Tensor, batch: tuple[int, ...], states: str
) -> tuple[Tensor, float]:
    """Return the velocity at y, and how far two calls differ, which is for the solver to judge.

    Raise InputError where the flow's methods break the contract.
    """
    name = type(flow).__name__
    call = f"{name}.__call__(t, y)"
    before, y = y, y.clone()  # the caller's stays as it is
    velocity = _result(call, states, lambda: flow(0.0, y))
    _require_tensor(call, velocity, tuple(y.shape), y)
    if not torch.equal(y, before):
        raise InputError(f"{call} must not change y, but does; work on a copy, y.clone()")
    again, memory = flow(0.0, y), velocity.untyped_storage().data_ptr()
    if memory in (x.untyped_storage().data_ptr() for x in (again, y)):
        raise InputError(
            f"{call} must return a new tensor at every call, but returns the same memory, or that "
            "of y; return a copy, .clone()"
        )
    noise = float((velocity - again).nan_to_num().abs().max())
    loss = _result(f"{name}.loss(y)", states, lambda: flow.loss(y))
    _require_tensor(f"{name}.loss(y)", loss, batch, y)
    methods = (
        ("invariants", flow.invariants, True),
        ("invariant_scales", flow.invariant_scales, False),
    )
    for what, method, more in methods:
        values = _result(f"{name}.{what}(y)", states, partial(method, y))
        if not isinstance(values, dict):
            raise InputError(
                f"{name}.{what}(y) must return a dict of tensors by name, got {shown(values)}"
            )
        for key, value in values.items():
            _require_tensor(f"{name}.{what}(y)[{key!r}]", value, batch, y, more)
    if not torch.equal(y, before):
        raise InputError(
            f"{name}.loss(y) and what else measures a state must not change y, but one does; work "
            "on a copy, y.clone()"
        )
    return velocity, noise


def _result(what: str, states: str, call: Callable[[], Any]) -> Any:
    """Return the result of a method; InputError in one line where it fails."""
    if states == "one state":
        return evaluated(what, call)
    return evaluated(
        f"{what} for two states",
        call,
        "leading dimensions of y are an ensemble: work on the last ones (dim=-1)",
    )


def _require_tensor(
    what: str, value: object, shape: tuple[int, ...], like: Tensor, more: bool = False
) -> None:
    """Raise InputError unless a result is a tensor of a shape (or of more dimensions), as y is."""
    if not isinstance(value, Tensor):
        raise InputError(f"{what} must return a tensor, got {shown(value)}; use torch, not NumPy")
    if value.shape[: len(shape)] != shape or (value.ndim > len(shape) and not more):
        raise InputError(
            f"{what} must return shape {_listed(shape, more)} here, got {tuple(value.shape)}; "
            "leading dimensions of y are an ensemble: reduce over the last ones only (dim=-1)"
        )
    if (value.dtype, value.device) != (like.dtype, like.device):
        raise InputError(
            f"{what} must return the dtype and device of y, {like.dtype} on {like.device}, got "
            f"{value.dtype} on {value.device}; convert its data with .to(y)"
        )


def _listed(shape: tuple[int, ...], more: bool) -> str:
    return f"({', '.join([*map(str, shape), '...'])})" if more else str(shape)
