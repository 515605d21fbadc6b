"""Checks of samples, outputs and loss of a module; each raises InputError in one line."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gflow.checks import require_finite, require_nonempty
from gflow.errors import GflowError, InputError
from gflow.flows.objective.chunks import Criterion, require_scalar
from gflow.text import brief


def require_samples(inputs: Tensor, targets: Tensor, like: Tensor | None, which: str = "") -> None:
    """Raise InputError unless inputs and targets are tensors that a module can take.

    Parameters
    ----------
    inputs, targets : Tensor
        The full batch.
    like : Tensor or None
        A parameter of the module, for its device; None where any device is allowed.
    which : str
        What stands before ``inputs`` and ``targets`` in messages.

    Raises
    ------
    InputError
        If one of them is no dense tensor of real numbers on the module's device, is empty, or the
        inputs have an entry that is not finite.

    Examples
    --------
    >>> import torch
    >>> require_samples(torch.ones(2, 1), torch.ones(2, 1), torch.ones(1))
    """
    for name, x in ((f"{which}inputs", inputs), (f"{which}targets", targets)):
        if not isinstance(x, Tensor):
            how = "torch.from_numpy" if isinstance(x, np.ndarray) else "torch.as_tensor"
            if isinstance(x, list | tuple) and x and isinstance(x[0], Tensor):
                how = "torch.stack"
            mend = f"use {how}(...)"
            if not isinstance(x, np.ndarray | list | tuple):
                mend = "collect the full batch in one, which module or criterion may split"
            raise InputError(f"{name} must be a tensor, got {type(x).__name__}; {mend}")
        if x.is_nested:
            raise InputError(f"{name} must be a dense tensor, got a nested one; pad it")
        if x.layout != torch.strided or x.is_quantized or x.is_complex():
            kind = x.dtype if x.layout == torch.strided else x.layout
            raise InputError(f"{name} must be a dense tensor of real numbers, got {kind}")
        require_nonempty(name, x)
        if like is not None and x.device != like.device:
            raise InputError(
                f"{name} must be on the device of the module, {like.device}, got {x.device}; move "
                f"them with {name}.to({str(like.device)!r})"
            )
    if not inputs.ndim:
        raise InputError(
            f"{which}inputs must have one row a sample, got a single number; reshape them"
        )
    require_finite(f"{which}inputs", inputs)


def require_gradients(device: torch.device) -> None:
    """Raise InputError where the caller's context has no gradients, or rounds what is computed.

    Parameters
    ----------
    device : torch.device

    Examples
    --------
    >>> import torch
    >>> require_gradients(torch.device("cpu"))
    """
    if torch.is_inference_mode_enabled():
        raise InputError(
            "a flow needs gradients, which torch.inference_mode forbids; use torch.no_grad, or none"
        )
    if device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type):
        raise InputError("torch.autocast rounds to half precision; leave its context for a flow")


def plain_tensor(x: Tensor) -> Tensor:
    """Return samples as a tensor that a module may set attributes of, and save for backward.

    One that requires gradients is returned as it is, since module or criterion may differentiate
    with respect to it.
    """
    if x.is_inference():
        return x.clone()
    return x if x.requires_grad else x.detach()


def require_rows(inputs: Tensor, targets: Tensor) -> None:
    """Raise InputError unless inputs and targets have one row a sample.

    Parameters
    ----------
    inputs, targets : Tensor
        The full batch.

    Raises
    ------
    InputError
        If their numbers of rows differ.

    Examples
    --------
    >>> import torch
    >>> require_rows(torch.ones(2, 1), torch.ones(2))
    """
    rows = [x.shape[0] if x.ndim else 1 for x in (inputs, targets)]
    if rows[0] != rows[1]:
        raise InputError(
            f"inputs and targets must have one row a sample, got {rows[0]} and {rows[1]} rows; "
            "remove samples without a partner"
        )


def call_module(module: nn.Module, inputs: Tensor, like: Tensor) -> Tensor:
    """Compute a module's outputs; InputError unless they are one tensor of the parameters' dtype.

    Parameters
    ----------
    module : nn.Module
    inputs : Tensor
    like : Tensor
        A parameter of the module.

    Returns
    -------
    Tensor

    Raises
    ------
    InputError
        If the call fails, or returns something else.

    Examples
    --------
    >>> import torch
    >>> call_module(torch.nn.Identity(), torch.ones(2, 1), torch.ones(1)).shape
    torch.Size([2, 1])
    """
    try:
        outputs = module(inputs)
    except GflowError:
        raise
    except Exception as error:
        hint = "check the inputs"
        if not inputs.is_floating_point() and "dtype" in str(error):
            hint = f"inputs have {inputs.dtype}: convert them, inputs.to({like.dtype})"
        if inputs.is_floating_point() and inputs.dtype != like.dtype:
            hint = (
                f"inputs have {inputs.dtype}, the parameters {like.dtype}: convert one of them, "
                "for example with module.double() or inputs.float()"
            )
        raise InputError(
            f"module(inputs) fails for inputs of shape {tuple(inputs.shape)} with {cause(error)}; "
            f"{hint}"
        ) from None
    if not isinstance(outputs, Tensor):
        raise InputError(
            f"module(inputs) must return one tensor, got {type(outputs).__name__}; wrap the module "
            "in one whose forward returns the part that the criterion takes"
        )
    if outputs.dtype != like.dtype or outputs.layout != torch.strided:
        raise InputError(
            f"module(inputs) must return a dense tensor of the parameters' {like.dtype}, got "
            f"{outputs.dtype if outputs.layout == torch.strided else outputs.layout}; convert "
            "parameters and inputs to one dtype, and remove casts from forward"
        )
    return outputs


def call_criterion(
    criterion: Criterion, outputs: Tensor, targets: Tensor, inputs: Tensor
) -> Tensor:
    """Compute the loss; InputError unless it is one real number that depends on parameters.

    Parameters
    ----------
    criterion : callable
        ``criterion(outputs, targets)`` → scalar tensor.
    outputs, targets, inputs : Tensor

    Returns
    -------
    Tensor
        A scalar with its graph.

    Raises
    ------
    InputError
        If the call fails or returns something else, outputs and targets differ in number, or they
        are broadcast against each other.

    Examples
    --------
    >>> import torch
    >>> u = torch.ones(2, requires_grad=True)
    >>> float(call_criterion(torch.nn.functional.mse_loss, u, torch.zeros(2), u))
    1.0
    """
    shapes = f"outputs {describe(outputs)} and targets {describe(targets)}"
    if targets.ndim and len(targets) not in (len(inputs), outputs.shape[0] if outputs.ndim else 1):
        raise InputError(
            f"inputs and targets must have one row a sample, got {len(inputs)} and {len(targets)} "
            "rows; remove samples without a partner"
        )
    try:
        with warnings.catch_warnings():
            # torch's losses say so where they broadcast one against the other.
            warnings.filterwarnings("error", message="Using a (target|input) size")
            loss: Any = criterion(outputs, targets)
    except GflowError:
        raise
    except Exception as error:
        mend = "give targets of the shape and dtype that it takes"
        if isinstance(error, TypeError) and "argument" in str(error):
            mend = "it must be a function of outputs and targets"
        elif re.search(r"to be Long|multi-target|class prob|Target -?\d+ is out", str(error)):
            mend += " (class indices 0, 1, ... are of shape (n,) and torch.int64)"
        raise InputError(
            f"criterion(outputs, targets) fails for {shapes} with {cause(error)}; {mend}"
        ) from None
    if not isinstance(loss, Tensor):
        hint = "; write criterion() to make one" if isinstance(loss, nn.Module) else ""
        raise InputError(
            f"criterion must return one number as a tensor, got {type(loss).__name__}{hint}"
        )
    require_scalar(loss)
    if loss.dtype != outputs.dtype:
        raise InputError(
            f"criterion must return a number of the outputs' {outputs.dtype}, got {loss.dtype} for "
            f"{shapes}; convert the targets"
        )
    _require_same_shape(criterion, loss, outputs, targets)
    _warn_of_broadcasting(criterion, loss, outputs, targets)
    if not bool(torch.isfinite(loss)):
        raise InputError(
            f"the loss at the module's parameters must be finite, got {float(loss.detach()):g}; "
            f"{int((~torch.isfinite(targets)).sum())} of the {targets.numel()} entries of targets "
            "are NaN or infinite: check them, and the scale of the parameters"
        )
    return loss


def _require_same_shape(
    criterion: Criterion, loss: Tensor, outputs: Tensor, targets: Tensor
) -> None:
    """Raise InputError where (n, 1) and (n,) are broadcast to (n, n) by the criterion."""
    if outputs.shape == targets.shape or outputs.numel() != targets.numel() or loss.numel() != 1:
        return
    try:
        with torch.no_grad():
            reshaped = criterion(outputs.reshape(targets.shape), targets)
            same = bool(torch.isclose(reshaped, loss, rtol=1e-3, equal_nan=True))
    except Exception:  # the criterion needs the shapes as they are
        return
    if not same:
        raise InputError(
            f"criterion broadcasts outputs of shape {tuple(outputs.shape)} against targets of "
            f"shape {tuple(targets.shape)}; reshape the targets to that of the outputs"
        )


def _warn_of_broadcasting(
    criterion: Criterion, loss: Tensor, outputs: Tensor, targets: Tensor
) -> None:
    """Warn where targets of fewer entries are broadcast against the outputs."""
    if targets.numel() >= outputs.numel() or targets.is_complex():
        return
    try:
        with torch.no_grad():
            same = torch.equal(criterion(outputs, targets.expand_as(outputs).clone()), loss)
            uses = not torch.equal(criterion(outputs, targets + 1), loss)
    except Exception:  # the criterion needs the shapes as they are
        return
    if same and uses:
        warnings.warn(
            f"criterion broadcasts targets of shape {tuple(targets.shape)} against outputs of "
            f"shape {tuple(outputs.shape)}; check that this is meant, and write "
            "targets.expand_as(outputs)",
            stacklevel=6,
        )


def describe(x: Tensor) -> str:
    """Return a tensor's shape and dtype as text."""
    return f"{tuple(x.shape)} of {str(x.dtype).removeprefix('torch.')}"


def cause(error: Exception) -> str:
    """Return an error of torch or of the module as one short line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {brief(lines[0] if lines else '', str, 160)}"
