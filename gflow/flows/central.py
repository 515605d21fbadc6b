r"""The central flow: what the time average of gradient descent follows at the edge of stability.

Where the sharpness has grown to 2/η, descent with step size η oscillates along the eigenvectors
there, with a covariance Σ. Its average feels the mean gradient E ∇L(θ + δ) ≈ ∇L + ½∇⟨H, Σ⟩:

    θ̇ = −[∇L(θ) + ½∇_θ⟨H(θ), Σ⟩],   Σ ⪰ 0,   H ⪯ 2/η,   ⟨Σ, 2/η − H⟩ = 0

(Cohen, Damian, Talwalkar, Kolter & Lee 2024, arXiv:2410.24206; H = ∇²L, and Σ is held while
differentiating). Time unit: t = kη of descent on the same L, in which the paper's dw/dt = −η[…] in
steps has no factor η.

Σ = U X Uᵀ on the m eigenvectors U at the edge is the least force that keeps their eigenvalues
there. With G_ij = ∇_θ(u_iᵀHu_j), the block UᵀHU changes at the rate ⟨G_ij, θ̇⟩, so that X solves

    X ⪰ 0,   S = R − ⟨G, −∇L⟩ + ½⟨G, G⟩X ⪰ 0,   ⟨X, S⟩ = 0,

with R = 0 at the edge: the velocity is the projection of −∇L on the directions along which no
eigenvalue passes 2/η. One eigenvalue λ: X = σ² = max(0, −2⟨∇λ, ∇L⟩/‖∇λ‖²). The averaged loss is
L + ½⟨H, Σ⟩ = L + tr Σ/η.

So written the right-hand side jumps where an eigenvalue arrives, and nothing brings back one that
the solver's error has let through. Here R = rate·(2/η − UᵀHU): an eigenvalue may close its distance
to 2/η at that rate at most. The right-hand side is then continuous, the same as the above at the
edge, and its constraint attracts; Σ sets in about 1/rate before the edge is reached.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gflow.checks import require_positive
from gflow.errors import InputError
from gflow.flows.base import Flow, Observables, gradient_of, split_ensemble
from gflow.flows.factorization import FactorFlow
from gflow.flows.modified import second_derivative, second_derivative_agrees
from gflow.flows.sharpness import hessian_eigenpairs
from gflow.flows.wrapped import WrappedFlow
from gflow.linalg.complementarity import complementary

_NEAR = 0.03  # distance from the edge, relative to 2/η, from which an eigenvalue counts
_TOLERANCE = 1e-10  # relative, of the eigenvectors' residuals
_MAX_MODES = 20  # largest number of eigenvalues at the edge
_DENSE = 32  # largest number of parameters at which the whole Hessian costs less than iterating
_NEGLIGIBLE = 1e-6  # share of tr Σ below which an eigenvalue of Σ counts as zero


class Oscillation(NamedTuple):
    """The covariance of descent's oscillation at one state, and the force it exerts.

    Attributes
    ----------
    values : Tensor, shape (m,)
        Eigenvalues of the Hessian above 0.97·2/η, descending; m is 0 where all are below.
    covariance : Tensor, shape (m, m)
        Σ in the basis of their eigenvectors.
    modes : Tensor, shape (m, n)
        The columns of Σ's square root, Σ = Σ_j w_j w_jᵀ, over the flattened parameters.
    force : Tensor, shape (*state)
        −½∇⟨H, Σ⟩.
    sharpness : Tensor, shape ()
        The largest eigenvalue of the Hessian.
    vectors : Tensor, shape (≥ m, n)
        Eigenvectors, to start from at a nearby state.
    """

    values: Tensor
    covariance: Tensor
    modes: Tensor
    force: Tensor
    sharpness: Tensor
    vectors: Tensor

    @property
    def variance(self) -> Tensor:
        """The total variance tr Σ."""
        return self.covariance.trace()

    @property
    def rank(self) -> int:
        """The rank of Σ."""
        eigenvalues = torch.linalg.eigvalsh(self.covariance)
        return int((eigenvalues > _NEGLIGIBLE * self.variance).sum())


def oscillation(
    flow: Flow,
    y: Tensor,
    step_size: float,
    rate: float,
    *,
    start: Tensor | None = None,
    tol: float = _TOLERANCE,
) -> Oscillation:
    """Compute Σ at one state and the force it exerts on the average of descent.

    Parameters
    ----------
    flow : ParameterFlow
        The gradient flow of L.
    y : Tensor, shape (*state)
        One state.
    step_size : float
        Step size η of descent.
    rate : float
        Largest rate, per unit of time, at which an eigenvalue may close its distance to 2/η.
    start : Tensor, optional
        ``vectors`` of a nearby state.
    tol : float
        Relative tolerance of the eigenvectors' residuals.

    Returns
    -------
    Oscillation
        Σ, its force, and the eigenvalues at the edge.

    Examples
    --------
    >>> import torch, gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> float(oscillation(flow, U, 0.01, 50.0).variance)   # far below the edge
    0.0
    """
    edge = 2 / step_size
    values, vectors = _largest(flow, y, (1 - _NEAR) * edge, start, tol)
    m = int((values > (1 - _NEAR) * edge).sum())
    largest, values, U, start = values[0], values[:m], vectors[:m], vectors[: m + 2]
    if m == 0:
        empty = values.new_zeros(0, 0)
        return Oscillation(values, empty, U, torch.zeros_like(y), largest, start)
    velocity = flow(0.0, y)
    G = -torch.stack(  # f'' of f = −∇L
        [
            second_derivative(flow, y, U[i].reshape(y.shape), U[j].reshape(y.shape)).flatten()
            for i in range(m)
            for j in range(i + 1)
        ]
    )
    G = G[_triangle_index(m).to(y.device)]  # (m²,) rows of n
    free = (G @ velocity.flatten()).reshape(m, m) - torch.diag(rate * (edge - values))
    X = complementary(0.5 * G @ G.mT, free)
    force = -0.5 * (X.flatten() @ G).reshape(y.shape)
    size, basis = torch.linalg.eigh(X)
    modes = size.clamp_min(0).sqrt()[:, None] * (basis.mT @ U)
    return Oscillation(values, X, modes, force, largest, start)


def _largest(
    flow: Flow, y: Tensor, above: float, start: Tensor | None, tol: float
) -> tuple[Tensor, Tensor]:
    """Eigenpairs of the Hessian, descending: all above a bound, and one below it."""
    n = y.numel()
    if n <= _DENSE:
        identity = torch.eye(n, dtype=y.dtype, device=y.device).reshape(n, *y.shape)
        H = -flow.jvp(y.expand(n, *y.shape).contiguous(), identity).reshape(n, n)
        lam, V = torch.linalg.eigh((H + H.mT) / 2)
        return lam.flip(0), V.mT.flip(0)
    count = 1 if start is None else max(1, len(start) - 1)
    pairs = hessian_eigenpairs(flow, y, count, start, tol=tol)
    while bool(pairs.values[-1] > above) and count < min(_MAX_MODES, n):
        count += 1
        pairs = hessian_eigenpairs(flow, y, count, pairs.vectors, tol=tol)
    return pairs.values, pairs.vectors


def _triangle_index(m: int) -> Tensor:
    """Index of entry (i, j) of a symmetric matrix in its lower triangle, row by row, (m²,)."""
    i, j = torch.arange(m)[:, None], torch.arange(m)[None]
    high, low = torch.maximum(i, j), torch.minimum(i, j)
    return (high * (high + 1) // 2 + low).flatten()


def _require_smooth_hessian(flow: Flow, y: Tensor) -> None:
    """Raise InputError where the third derivative of the loss is not that of its differences.

    At kinks, of ReLU and the like, the Hessian jumps: its eigenvalues pass 2/η in jumps that no
    force of the central flow holds back. Autograd does not see them.
    """
    if not second_derivative_agrees(flow, y):
        raise InputError(
            "the central flow needs a loss with continuous second derivatives, got one whose "
            "Hessian jumps or cannot be differentiated; take a smooth activation (GELU, Softplus, "
            "tanh), or run descent itself"
        )


class CentralFlow(WrappedFlow):
    """Flow of the time average of descent with step size η, also at the edge of stability.

    Parameters
    ----------
    flow : ParameterFlow
        The gradient flow of L.
    step_size : float
        η > 0 of descent.
    rate : float, optional
        Largest rate, per unit of time, at which an eigenvalue may close its distance to 2/η; by
        default 1/(2η), that is within two steps of descent.

    Raises
    ------
    InputError
        If the flow is not one of parameters, has time scales, or a number is out of range; with the
        first start,
        if the Hessian of the loss jumps, as with ReLU.

    Notes
    -----
    Descent acts on ``parameter_flow``, the flow of L. ``loss`` is L, which falls; the observable
    ``averaged_loss`` is the average of descent's losses, and ``variance`` is tr Σ. Starts must be
    below the edge. Each call computes the eigenvectors from scratch; `gflow.studies.central_path`
    carries them along. Where no eigenvalue is near 2/η it is the gradient flow.

    Examples
    --------
    Far below the edge the central flow is the gradient flow:

    >>> import torch, gflow
    >>> flow, U = gflow.FactorFlow.example()
    >>> central = CentralFlow(flow, 0.01)
    >>> torch.equal(central(0.0, U), flow(0.0, U))
    True
    """

    title = "the central flow"

    def __init__(self, flow: Flow, step_size: float, *, rate: float | None = None):
        super().__init__(flow)
        if self.parameter_rates is not None:
            raise InputError(
                "the central flow needs a flow whose parameters have one time scale, got one with "
                "rates; leave rates out, or scale the step size"
            )
        self.step_size = require_positive("step_size", step_size)
        self.rate = 0.5 / self.step_size if rate is None else require_positive("rate", rate)

    @property
    def parameter_flow(self) -> Flow:
        return self.flow

    def check_state(self, y: Tensor) -> None:
        super().check_state(y)
        states, _ = split_ensemble(y, self.state_ndim)
        _require_smooth_hessian(self.flow, states[0])

    def oscillation(self, y: Tensor) -> Oscillation:
        """Compute Σ and its force at one state, (*state)."""
        return oscillation(self.flow, y, self.step_size, self.rate)

    def averaged_loss(self, loss: Tensor, variance: Tensor) -> Tensor:
        """Compute L + ½⟨H, Σ⟩, the average of the losses of descent.

        Parameters
        ----------
        loss : Tensor, shape (...)
            L.
        variance : Tensor, shape (...)
            tr Σ.

        Returns
        -------
        Tensor, shape (...)
            The averaged loss.
        """
        return loss + variance / self.step_size

    def __call__(self, t: Tensor | float, y: Tensor) -> Tensor:
        states, batch = split_ensemble(y, self.state_ndim)
        forces = [self.oscillation(state).force for state in states]
        return self.flow(t, y) + torch.stack(forces).reshape(*batch, *y.shape[len(batch) :])

    def dissipation(self, y: Tensor, velocity: Tensor) -> Tensor:
        return self.inner(self.flow(0.0, y), velocity)

    def reference(self, y: Tensor) -> Tensor:
        states, _ = split_ensemble(y, self.state_ndim)
        rows = [-gradient_of(self.loss, state) - self._spread_gradient(state) for state in states]
        return torch.stack(rows).reshape(y.shape)

    def _spread_gradient(self, y: Tensor) -> Tensor:
        """∇½⟨H, Σ⟩ at fixed Σ, from the loss alone."""
        total = torch.zeros_like(y)
        for mode in self.oscillation(y).modes:
            along = mode.reshape(y.shape)
            with torch.enable_grad():
                leaf = y.detach().requires_grad_()
                (g,) = torch.autograd.grad(self.flow.loss(leaf), leaf, create_graph=True)
                (Hw,) = torch.autograd.grad((g * along).sum(), leaf, create_graph=True)
                (third,) = torch.autograd.grad(0.5 * (Hw * along).sum(), leaf)
            total = total + third
        return total

    def jvp(self, y: Tensor, v: Tensor) -> Tensor:
        # A difference of order 4: the velocity has third derivatives of L already.
        size = self.norm(v).clamp_min(torch.finfo(v.dtype).tiny)
        step = torch.finfo(v.dtype).eps ** 0.2 * (1 + self.norm(y)) / size
        h = step.reshape(*step.shape, *[1] * self.state_ndim)
        f = lambda s: self(0.0, y + s * h * v)  # noqa: E731
        return (8 * (f(1) - f(-1)) - (f(2) - f(-2))) / (12 * h)

    def observables(self, y: Tensor) -> Observables:
        states, batch = split_ensemble(y, self.state_ndim)
        variance = torch.stack([self.oscillation(s).variance for s in states]).reshape(batch)
        seen = self.flow.observables(y)
        loss = seen["loss"] if "loss" in seen else self.loss(y)
        spread = {"variance": variance, "averaged_loss": self.averaged_loss(loss, variance)}
        return {"loss": loss, **seen, **spread}

    def _wrap(self, flow: Flow, index: Tensor) -> Flow:
        return CentralFlow(flow, self.step_size, rate=self.rate)

    @classmethod
    def example(cls) -> tuple[CentralFlow, Tensor]:
        flow, start = FactorFlow.example()
        return cls(flow, 0.01), start
