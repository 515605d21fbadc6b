"""The spectral density of the Hessian of a flow's objective, by stochastic Lanczos quadrature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gflow.checks import require_count, require_float, require_positive
from gflow.flows.base import Flow
from gflow.flows.sharpness import hessian_product
from gflow.flows.starts import single_start
from gflow.linalg.quadrature import lanczos_quadrature, random_probes


@dataclass(frozen=True)
class SpectralDensity:
    """The density of the eigenvalues of a Hessian, (1/n) Σ_i δ(λ − λ_i), as weighted points.

    Attributes
    ----------
    nodes, weights : Tensor, shape (probes, steps)
        Points and their weights, which sum to 1 for each random vector; NaN and 0 beyond the end
        of a Krylov space.
    products : int
        Hessian products that it took.
    """

    nodes: Tensor
    weights: Tensor
    products: int

    def mean(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Compute (1/n) tr f(H) from f at the nodes, and its standard error.

        Parameters
        ----------
        values : Tensor, shape (probes, steps)
            f(nodes).

        Returns
        -------
        mean, error : Tensor, shape ()
            The error is NaN of a single random vector.
        """
        parts = torch.where(self.weights > 0, self.weights * values, 0.0).sum(1)
        count = len(parts)
        error = parts.std() / math.sqrt(count) if count > 1 else parts.new_full((), math.nan)
        return parts.mean(), error

    def density(self, at: Tensor, width: float) -> Tensor:
        """Compute the density, each point spread to a Gaussian of a standard deviation.

        Parameters
        ----------
        at : Tensor, shape (m,)
            Eigenvalues.
        width : float
            The standard deviation.

        Returns
        -------
        Tensor, shape (m,)
            It integrates to 1.
        """
        width = require_positive("width", width)
        at = require_float("at", at).to(self.nodes)
        used = self.weights > 0
        nodes, weights = self.nodes[used], self.weights[used] / len(self.nodes)
        bumps = torch.exp(-0.5 * ((at[:, None] - nodes) / width).square())
        return (bumps * weights).sum(1) / (width * math.sqrt(2 * math.pi))


def spectral_density(
    flow: Flow, y: Tensor, *, probes: int = 10, steps: int = 60, seed: int = 0
) -> SpectralDensity:
    """Compute the spectral density of the Hessian of the objective of the parameters.

    Parameters
    ----------
    flow : Flow
        A flow of parameters; for a reduced flow the objective of its parameters is taken, at
        ``flow.lift(y)``. With time scales the Hessian is that of their metric, as of `sharpness`.
    y : Tensor, shape (*state)
        One state.
    probes : int
        Number of random vectors: the error of a mean over the spectrum falls as their root.
    steps : int
        Products for each, and vectors in memory: extreme eigenvalues are resolved first.
    seed : int
        Of the random vectors.

    Returns
    -------
    SpectralDensity

    Raises
    ------
    InputError
        If the state is an ensemble or no state of the flow, or an argument is out of range.

    Examples
    --------
    >>> import torch, gflow
    >>> H = torch.diag(torch.tensor([4.0, 1.0, 1.0, 0.0], dtype=torch.float64))
    >>> flow = gflow.KernelFlow(H, torch.ones(4, dtype=torch.float64))
    >>> found = spectral_density(flow, torch.zeros(4, dtype=torch.float64), probes=500)
    >>> mean, error = found.mean(found.nodes)    # tr H/4 = 1.5
    >>> bool(abs(mean - 1.5) < 3 * error)
    True
    """
    usage = "gflow.spectra.spectral_density(flow, y)"
    flow, y = single_start("the spectral density", flow, y, usage)
    probes, steps = require_count("probes", probes), require_count("steps", steps)
    theta = flow.lift(y)
    vectors = random_probes(probes, theta, require_count("seed", seed, 0))
    product, count = hessian_product(flow.parameter_flow, theta), 0

    def counted(v: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return product(v)

    nodes, weights = lanczos_quadrature(counted, vectors, steps)
    return SpectralDensity(nodes, weights, count)
