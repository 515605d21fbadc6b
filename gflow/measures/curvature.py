"""Eigenvalues of the Hessian of the loss, in the metric of time scales where there are some."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gflow.checks import require_count, require_numbers
from gflow.errors import InputError
from gflow.linalg.eigen import Eigenpairs, largest_eigenvalues
from gflow.linalg.quadrature import lanczos_quadrature, random_probes
from gflow.measures.base import PRODUCTS, Measure, Snapshot

_TOLERANCE = 1e-5  # relative, of residuals; of eigenvalues that are apart its square
_MOST = 20  # eigenvalues above a threshold
_MAX_PRODUCTS = 1000
_PROBES, _STEPS = 10, 30  # random vectors of a spectral density, and products for each


class HessianEigenvalues(Measure):
    """The k largest eigenvalues of ∇²L, descending.

    Parameters
    ----------
    argument : str, optional
        k; 5 by default.
    """

    name = "hessian_eigenvalues"
    long_name = "largest eigenvalues of the Hessian"
    price = "some tens of Hessian products, fewer along a path; with :k for k of them"
    dims = ("eigenvalue",)

    def __init__(self, argument: str | None = None):
        self.k = (
            5 if argument is None else require_count("k of hessian_eigenvalues", _number(argument))
        )

    def __call__(self, state: Snapshot) -> Tensor:
        return _padded(_largest(state, self.k).values, self.k)


class EigenvaluesAbove(Measure):
    """The eigenvalues of ∇²L above a threshold, such as 2/η, descending; NaN where there are fewer.

    Parameters
    ----------
    argument : str
        The threshold.
    """

    name = "eigenvalues_above"
    long_name = "eigenvalues of the Hessian above a threshold"
    price = f"as hessian_eigenvalues with one more than there are; at most {_MOST}"
    dims = ("eigenvalue_above",)

    def __init__(self, argument: str | None = None):
        if argument is None:
            raise InputError(
                "measure eigenvalues_above needs a threshold; write eigenvalues_above:20"
            )
        (self.threshold,) = require_numbers(
            "the threshold of eigenvalues_above", [_number(argument)]
        )

    def __call__(self, state: Snapshot) -> Tensor:
        count, most = 1, min(_MOST, state.y.numel())
        values = _largest(state, count).values
        while bool(values[-1] > self.threshold) and count < most:
            count = min(2 * count, most)
            values = _largest(state, count).values
        return _padded(values[values > self.threshold], _MOST)


class SpectralDensity(Measure):
    """Nodes and weights of the spectral density of ∇²L, by stochastic Lanczos quadrature.

    Every state has the same random vectors. `gflow.spectra.SpectralDensity` makes means over the
    spectrum and the density of them.

    Parameters
    ----------
    argument : str, optional
        Products for each of the ten random vectors; 30 by default.
    """

    name = "spectral_density"
    long_name = "nodes and weights of the spectral density of the Hessian"
    price = f"{_PROBES} × {_STEPS} Hessian products; with :m for {_PROBES} × m"
    dims = ("node_and_weight", "probe", "ritz_value")
    needs = (PRODUCTS,)

    def __init__(self, argument: str | None = None):
        self.steps = (
            _STEPS
            if argument is None
            else require_count("steps of spectral_density", _number(argument))
        )

    def __call__(self, state: Snapshot) -> Tensor:
        steps, probes = min(self.steps, state.y.numel()), random_probes(_PROBES, state.y)
        nodes, weights = lanczos_quadrature(state.flow.hessian(state.y), probes, steps)
        missing = (0, steps - nodes.shape[1])  # where all Krylov spaces end before
        return torch.stack([F.pad(nodes, missing, value=math.nan), F.pad(weights, missing)])


def _largest(state: Snapshot, k: int) -> Eigenpairs:
    """Compute the k largest eigenpairs, from those of the state before."""
    n = state.y.numel()
    start = state.warm.get("eigenvectors", state.y.new_zeros(0, n))
    noise = torch.Generator().manual_seed(0)
    # An eigenvalue is found as often as there are first vectors that have a part along it, and
    # those of the state before may have lost the part of one that overtakes.
    fresh = torch.randn(k, n, generator=noise, dtype=torch.float64)
    start = torch.cat([start, fresh.to(start) / n**0.5])
    product = state.flow.hessian(state.y)
    pairs = largest_eigenvalues(product, start, k, tol=_TOLERANCE, max_products=_MAX_PRODUCTS)
    state.warm["eigenvectors"] = pairs.vectors
    return pairs


def _padded(values: Tensor, size: int) -> Tensor:
    return torch.cat([values, values.new_full((size - len(values),), math.nan)])


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text
