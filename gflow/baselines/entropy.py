r"""Vectors w with A w = b that are functions of Aᵀν: the minimisers of an entropy.

With w_j = f(z_j), z = Aᵀν, ν minimises the convex D(ν) = Σ_j F(z_j) − bᵀν, F' = f. Two such f:
e^{s + z}, of the relative entropy to e^s, and 2e^s sinh z, of the potential of diagonal networks.
Only the logarithm s of the scale is used, and from −1 or 1 it is moved to its value in steps, ν in
proportion: at 1e-1000 the exponents are large, but those of the entries that matter are not.

Neither the unit of a constraint nor that of w matters: constraints are divided by their largest
entries, b by its largest, and each is met relative to its own terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gflow.baselines.constraints import unit_rows
from gflow.errors import InputError

_CONVERGED = 1e-13  # of each residual, relative to b_i and the terms of (A w)_i
_SOLVED = 1e-9  # the same, for a solution
_ROUND_OFF = 1e-15  # of exponents, relative to their terms
_NEARLY_DEPENDENT = 1e-3  # distance of a row from the span of those before it
_STEPS = 200  # of Newton's method at one scale
_FACTOR = 1.25  # between scales
_DAMPING = 1e-14  # of the Hessian, scaled to a diagonal of 1
_LARGEST = 700.0  # exponent


class Terms(NamedTuple):
    """f(z), f'(z) and F(z) up to a constant, each of shape (d,)."""

    values: Tensor
    slopes: Tensor
    integrals: Tensor


def exponential(s: float, z: Tensor) -> Terms:
    """Return the terms of f = e^{s + z}.

    Parameters
    ----------
    s : float
        The logarithm of the scale.
    z : Tensor, shape (d,)

    Returns
    -------
    Terms

    Examples
    --------
    >>> exponential(0.0, torch.zeros(1)).values
    tensor([1.])
    """
    w = (s + z).clamp_max(_LARGEST).exp()
    return Terms(w, w, w)


def hyperbolic_sine(s: float, z: Tensor) -> Terms:
    """Return the terms of f = 2e^s sinh z.

    Parameters
    ----------
    s : float
        The logarithm of the scale.
    z : Tensor, shape (d,)

    Returns
    -------
    Terms

    Examples
    --------
    >>> hyperbolic_sine(0.0, torch.zeros(1)).slopes
    tensor([2.])
    """
    size = (s + z.abs()).clamp_max(_LARGEST).exp()
    w = -z.sign() * size * torch.expm1(-2 * z.abs())
    # The square of a small z underflows before its product with the size does.
    integrals = (size.sqrt() * torch.expm1(-z.abs())).square()
    return Terms(w, size * (1 + (-2 * z.abs()).exp()), integrals)


def entropy_minimiser(
    A: Tensor, b: Tensor, s: float, terms: Callable[[float, Tensor], Terms]
) -> Tensor:
    """Solve A w = b with w = f(Aᵀν) by Newton's method on ν.

    Parameters
    ----------
    A : Tensor, shape (n, d)
        The constraints: independent rows.
    b : Tensor, shape (n,)
        Their values.
    s : float
        The logarithm of the scale.
    terms : callable
        ``terms(s, z)``: `exponential` or `hyperbolic_sine`.

    Returns
    -------
    Tensor, shape (d,)
        w.

    Raises
    ------
    InputError
        If it does not converge, as where no w of that form has A w = b.

    Examples
    --------
    >>> A, b = torch.ones(1, 2).double(), torch.ones(1).double()
    >>> [round(x, 12) for x in entropy_minimiser(A, b, -1000.0, exponential).tolist()]
    [0.5, 0.5]
    """
    A, b = unit_rows(A, b)
    size = max(b.abs().tolist(), default=0.0) or 1.0
    b, s = b / size, s - math.log(size)
    rows, values = A, b
    Q, R = torch.linalg.qr(A.mT)
    if bool((R.diagonal().abs() < _NEARLY_DEPENDENT).any()):  # else ν is large, and its sums cancel
        rows = Q.mT
        values = torch.linalg.solve_triangular(R.mT, b[:, None], upper=False)[:, 0]
    scale = min(max(s, -1.0), 1.0)
    nu = _newton(rows, values, scale, torch.zeros_like(b), terms)
    while scale != s:
        new = max(s, _FACTOR * scale) if s < 0 else min(s, _FACTOR * scale)
        nu = _newton(rows, values, new, nu * (new / scale), terms)
        scale = new
    w = terms(s, nu @ rows).values
    residuals, sums = (A @ w - b).abs(), A.abs() @ w.abs()
    # Values of 0 may be met in the limit only, where the weights of their constraints vanish.
    solved = (residuals <= _SOLVED * (b.abs() + sums)) | (
        (b == 0) & (sums <= _CONVERGED * w.abs().max())
    )
    if not bool(solved.all()):
        row = int((~solved).nonzero()[0])
        raise InputError(
            f"constraints must have a solution of the form that the limit has, but row {row} "
            f"(counted from 0) leaves A w − b at {float(residuals[row]):.2g} of the largest value; "
            "remove contradictory samples"
        )
    return w * size


def _newton(
    A: Tensor, b: Tensor, s: float, nu: Tensor, terms: Callable[[float, Tensor], Terms]
) -> Tensor:
    """Minimise D from a start, by damped Newton steps."""
    for _ in range(_STEPS):
        w, slopes, integrals = terms(s, nu @ A)
        gradient = A @ w - b
        relative = max(_CONVERGED, _ROUND_OFF * float((nu.abs() @ A.abs()).max()))
        if bool((gradient.abs() <= relative * (b.abs() + A.abs() @ w.abs())).all()):
            break
        hessian = (A * slopes) @ A.mT
        # Scaled to a diagonal of 1, the step does not depend on the units of the rows.
        roots = hessian.diagonal().sqrt()
        roots = torch.where(roots > 0, roots, 1.0)
        hessian = hessian / roots / roots[:, None]
        hessian.diagonal().add_(_DAMPING)
        scaled = torch.linalg.lstsq(hessian, (-gradient / roots)[:, None], driver="gelsd")
        step = scaled.solution[:, 0] / roots
        longest = float((step @ A).abs().max())
        if not math.isfinite(longest) or longest == 0:
            break
        value, slope = float(integrals.sum() - b @ nu), float(gradient @ step)
        # In the exponents Newton's method overshoots beyond a unit or two.
        factor = min(1.0, 2.0 / longest)
        while factor > 1e-12:
            trial = nu + factor * step
            if float(terms(s, trial @ A).integrals.sum() - b @ trial) <= (
                value + 1e-4 * factor * slope + 1e-15 * abs(value)
            ):
                break
            factor /= 2
        else:
            break
        nu = trial
    return nu
