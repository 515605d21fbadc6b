"""Constraints ⟨A_i, w⟩ = b_i in units of their own, and without those that follow from others.

A row divided by a number with its value leaves w as it is. Whether rows depend on one another is
decided by a pivoted QR factorisation of rows of norm 1, relative to the data's round-off.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gflow.errors import InputError

_DEPENDENT = 32.0  # distance from the span of other rows, in round-offs times √(entries)
_AGREE = 10.0  # of a value with the one that follows from others, in units of that distance


def unit_rows(A: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Divide each constraint ⟨A_i, w⟩ = b_i by the largest entry of A_i, which keeps the w.

    Parameters
    ----------
    A : Tensor, shape (m, ...)
        The constraints.
    b : Tensor, shape (m,)
        Their values.

    Returns
    -------
    tuple of Tensor
        Both in float64. Rows of zeros stay.

    Raises
    ------
    InputError
        If a value divided by its row's largest entry overflows, as w would.

    Examples
    --------
    >>> A, b = unit_rows(torch.tensor([[0.0, 1e-30]]), torch.tensor([2e-30]))
    >>> A.tolist(), [round(x, 12) for x in b.tolist()]
    ([[0.0, 1.0]], [2.0])
    """
    A, b = A.double(), b.to(A.device, torch.float64)
    sizes = A.abs().flatten(1).amax(1)
    sizes = torch.where(sizes > 0, sizes, 1.0)
    b = b / sizes
    if not bool(b.isfinite().all()):
        raise InputError(
            "values must not exceed their constraints' entries by more than a float64 holds, got "
            f"entries of at most {float(sizes.min()):.2g}; change the units of one"
        )
    return A / sizes.reshape(-1, *[1] * (A.ndim - 1)), b


def independent_rows(name: str, A: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Leave out constraints that follow from others; raise InputError where they contradict.

    Parameters
    ----------
    name : str
        What the values are, for the message.
    A : Tensor, shape (m, ...)
        The constraints.
    b : Tensor, shape (m,)
        Their values.
    eps : float
        The round-off of the data.

    Returns
    -------
    tuple of Tensor
        Those left, of shapes (k, ...) and (k,), in float64 and with entries of at most 1.

    Raises
    ------
    InputError
        If rows depend on one another and their values do not.

    Examples
    --------
    >>> A, b = torch.tensor([[1.0, 1.0], [2.0, 2.0], [0.0, 3.0]]), torch.tensor([1.0, 2.0, 3.0])
    >>> len(independent_rows("values", A, b, 1e-7)[0])
    2
    """
    from scipy.linalg import qr, solve_triangular

    unit, scaled = unit_rows(A, b)
    rows = unit.flatten(1).cpu().numpy()
    norms = (rows**2).sum(1) ** 0.5
    norms[norms == 0] = 1.0
    size = max(scaled.abs().tolist(), default=0.0) or 1.0
    values = scaled.cpu().numpy() / size / norms
    R, order = qr((rows / norms[:, None]).T, mode="r", pivoting=True)
    least = _DEPENDENT * math.sqrt(max(rows.shape)) * eps
    rank = int((abs(R.diagonal()) > least).sum())
    kept, rest = order[:rank], order[rank:]
    if len(rest) == 0:
        return unit, scaled
    R, known = R[:rank], values[kept]
    coordinates = solve_triangular(R[:, :rank], known, trans="T")  # of the least w
    expected = R[:, rank:].T @ coordinates
    off = abs(values[rest] - expected)
    allowed = _AGREE * least * (abs(values[rest]) + (coordinates**2).sum() ** 0.5)
    worst = int((off - allowed).argmax())
    if off[worst] > allowed[worst]:
        row = int(rest[worst])
        unit_of_row = size * norms[row] * (float(A[row].abs().max()) or 1.0)
        raise InputError(
            f"{name} must not contradict one another, but number {row} (counted from 0) follows "
            f"from others as {expected[worst] * unit_of_row:.6g}, got {float(b[row]):.6g}; correct "
            "or remove it"
        )
    index = torch.as_tensor(sorted(kept.tolist()), dtype=torch.int64, device=unit.device)
    return unit[index], scaled[index]
