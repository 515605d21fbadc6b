"""Checks of arguments that several modules share; each raises InputError in one line."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gflow.errors import InputError


def require_finite(name: str, value: Tensor) -> None:
    """Raise InputError where a tensor holds NaN or infinity."""
    bad = (~torch.isfinite(value)).sum().item()
    if bad:
        raise InputError(
            f"{name} must be finite, but {bad} of {value.numel()} entries are NaN or infinite; "
            "remove or fill them first"
        )


def require_table(what: str, x: np.ndarray) -> None:
    """Raise InputError unless x is a matrix of finite numbers with at least one row."""
    if x.ndim != 2:
        raise InputError(
            f"{what} must be a matrix with one sample a row, got shape {x.shape}; "
            "reshape to (samples, -1) first"
        )
    if x.shape[0] == 0:
        raise InputError(f"{what} must not be empty, got shape {x.shape}; add samples")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{what} must be finite, got {x[row, column]} at row {row}, column {column} "
            f"(counted from 0; {len(bad)} such entries); remove or fill them first"
        )


def require_count(name: str, value: int, least: int = 1) -> None:
    """Raise InputError unless a value is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
