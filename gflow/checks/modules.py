"""The trainable parameters of a torch module, and kinds of modules that cannot be a flow."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gflow.errors import InputError

_WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")


def uncompiled(module: nn.Module) -> nn.Module:
    """Return the module inside of ``torch.compile(module)``, with the same parameters.

    Compiled code has no second derivatives.

    Parameters
    ----------
    module : nn.Module
        A module, compiled or not.

    Returns
    -------
    nn.Module

    Raises
    ------
    InputError
        If this is no module, or one that only wraps another for several devices.

    Examples
    --------
    >>> import torch
    >>> uncompiled(torch.nn.Linear(1, 1))
    Linear(in_features=1, out_features=1, bias=True)
    """
    if not isinstance(module, nn.Module):
        got = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        raise InputError(f"module must be a torch.nn.Module, got {got}; pass an instance of one")
    kind = type(module).__name__
    if kind in _WRAPPERS:
        raise InputError(f"module must not be wrapped in {kind}; pass module.module")
    if kind == "OptimizedModule":
        original: nn.Module = module.__dict__["_modules"]["_orig_mod"]
        return original
    for name, child in module.named_modules():
        if getattr(child, "_compiled_call_impl", None) is not None:
            raise InputError(
                f"compiled code has no second derivatives, but {type(child).__name__} '{name}' "
                "was compiled in place; pass a module that is not compiled"
            )
    return module


def trainable_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters with ``requires_grad``, detached, by name; tied ones once.

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    InputError
        If there are none, they are not of one dtype, float32 or float64, on one device and
        initialised, or a layer makes the outputs random or dependent on the order of calls (dropout
        or running statistics in training mode).

    Examples
    --------
    >>> import torch
    >>> list(trainable_parameters(torch.nn.Linear(2, 1)))
    ['weight', 'bias']
    """
    found = {k: p for k, p in module.named_parameters() if p.requires_grad}
    if not found:
        raise InputError(
            "the module has no trainable parameter; set requires_grad of one, or call "
            "module(inputs) once if it makes its layers then"
        )
    for name, p in module.named_parameters():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise InputError(
                f"parameter {name!r} of a lazy module has no shape yet; call module(inputs) once "
                "before"
            )
        if p.is_meta:
            raise InputError(
                f"parameter {name!r} is on the device meta, without values; load the weights first"
            )
    devices = sorted({str(p.device) for p in found.values()})
    if len(devices) > 1:
        raise InputError(
            f"the module's parameters must be on one device, got {', '.join(devices)}; move it, "
            "for example with module.to('cpu')"
        )
    dtypes = sorted({str(p.dtype) for p in found.values()})
    if len(dtypes) > 1:
        raise InputError(
            f"the module's parameters must share one dtype, got {', '.join(dtypes)}; "
            "convert it, for example with module.double()"
        )
    if next(iter(found.values())).dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"the module's parameters must be float32 or float64, got {dtypes[0]}; convert it, for "
            "example with module.double()"
        )
    _require_own_memory(found)
    for name, p in found.items():
        if p.layout != torch.strided or p.is_inference():
            kind = "made in inference mode" if p.is_inference() else f"of layout {p.layout}"
            raise InputError(f"parameter {name!r} is {kind}; make it a plain, dense nn.Parameter")
        if not bool(torch.isfinite(p).all()):
            raise InputError(
                f"parameter {name!r} has entries that are NaN or infinite; initialise the module"
            )
    require_deterministic(module)
    return {k: p.detach() for k, p in found.items()}


def _require_own_memory(parameters: Mapping[str, Tensor]) -> None:
    """Raise InputError where entries of parameters share memory, as of expand() or slices."""
    by_storage: dict[int, list[str]] = {}
    for name, p in parameters.items():
        if p.layout == torch.strided and p.numel():
            by_storage.setdefault(p.untyped_storage().data_ptr(), []).append(name)
    for names in by_storage.values():
        own = [parameters[name] for name in names]
        steps = [step for n, step in zip(own[0].shape, own[0].stride(), strict=True) if n > 1]
        if len(own) == 1 and all(steps):
            continue
        size = own[0].untyped_storage().nbytes() // own[0].itemsize
        used = torch.zeros(size, dtype=torch.uint8, device=own[0].device)
        for name, p in zip(names, own, strict=True):
            before = int(used.sum())
            used.as_strided(p.shape, p.stride(), p.storage_offset()).fill_(1)
            if int(used.sum()) - before < p.numel():
                raise InputError(
                    f"each entry of a parameter must have its own memory, but entries of {name!r} "
                    "share it (expand(), overlapping slices); use clone() where it is made"
                )


def require_criterion(criterion: object, module: nn.Module) -> None:
    """Raise InputError unless a criterion is a function without parameters of its own.

    Parameters
    ----------
    criterion : callable
        ``criterion(outputs, targets)`` → scalar tensor.
    module : nn.Module
        The module of the flow.

    Raises
    ------
    InputError
        If it cannot be called, is a class, or has trainable parameters, which the flow would not
        move.

    Examples
    --------
    >>> import torch
    >>> require_criterion(torch.nn.MSELoss(), torch.nn.Linear(1, 1))
    """
    requirement = "criterion must be a function of outputs and targets"
    if isinstance(criterion, type):
        name = criterion.__name__
        raise InputError(f"{requirement}, got the class {name}; write {name}()")
    if not callable(criterion):
        raise InputError(f"{requirement}, got {type(criterion).__name__}; give a function")
    if isinstance(criterion, nn.Module):
        own = {id(p) for p in module.parameters()}
        names = [k for k, p in criterion.named_parameters() if p.requires_grad and id(p) not in own]
        if names:
            raise InputError(
                f"criterion has trainable parameters ({', '.join(names)}), which the flow would "
                "not move; make them parameters of the module, or set requires_grad=False"
            )


def require_deterministic(module: nn.Module) -> None:
    """Raise InputError where a layer is random or depends on the order of calls.

    Raises
    ------
    InputError
        With the name of the layer.

    Examples
    --------
    >>> require_deterministic(nn.Dropout(0.5).eval())
    """
    for name, child in module.named_modules():
        if child.training and _varies(child):
            remedy = "call module.eval() first"
            if isinstance(child, nn.modules.batchnorm._NormBase):
                remedy += (
                    ", or make the layer with track_running_stats=False, which takes the "
                    "statistics of the batch"
                )
            raise InputError(
                "the loss must be a function of the parameters alone, but "
                f"{type(child).__name__} '{name}' in training mode is random or depends on the "
                f"order of calls; {remedy}"
            )


def _varies(layer: nn.Module) -> bool:
    """Whether a layer in training mode draws random numbers or updates statistics."""
    if isinstance(layer, nn.modules.batchnorm._NormBase):
        return layer.track_running_stats
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return layer.p > 0
    if isinstance(layer, nn.RNNBase):
        return layer.dropout > 0 and layer.num_layers > 1
    if isinstance(layer, nn.MultiheadAttention):
        return layer.dropout > 0
    return isinstance(layer, nn.RReLU) and layer.lower < layer.upper
