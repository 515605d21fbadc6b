"""Random inputs, the four losses, and an independent integrator."""

import functools
import itertools

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import gflow
from gflow.discovery import concrete_classes
from gflow.flows import Flow, SpectralFlow
from gflow.losses import LinearRegression, Loss, MatrixCompletion, MatrixSensing, SquaredDistance
from gflow.studies import StepSizeStudy

DEVICES = ["cpu", "cuda"]
LOSSES = ["distance", "regression", "sensing", "completion"]


def slow_except(values, *kept):
    """Return the values of a parametrised test; all but those kept are left to `make slow`."""
    values = list(values)
    assert all(value in values for value in kept), "one of those kept is none of the values"
    return [
        value if value in kept else pytest.param(value, marks=pytest.mark.slow) for value in values
    ]


def slow_pairs_except(pairs, *kept):
    """Return the pairs of two parameters; all but those kept are left to `make slow`."""
    pairs = list(pairs)
    assert all(pair in pairs for pair in kept), "one of those kept is none of the pairs"
    return [pytest.param(*pair, marks=() if pair in kept else pytest.mark.slow) for pair in pairs]


def alternate(first, second):
    """Return the pairs of two lists of parameters; every other one is left to `make slow`."""
    second = list(second)
    return [
        pytest.param(a, b, marks=() if (i + j) % 2 == 0 else pytest.mark.slow)
        for i, a in enumerate(first)
        for j, b in enumerate(second)
    ]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


_randn = randn


def of_rank(rank: int, d_out: int, d_in: int, seed: int = 0) -> Tensor:
    """Return a random matrix of the given rank with singular values between 0.3 and 1."""
    U = torch.linalg.qr(randn(d_out, min(d_out, d_in), seed=seed))[0][:, :rank]
    V = torch.linalg.qr(randn(d_in, min(d_out, d_in), seed=seed + 1))[0][:, :rank]
    return (U * torch.linspace(1.0, 0.3, rank, dtype=torch.float64)) @ V.mT


def gram(n: int, rank: int, seed: int = 0) -> Tensor:
    """Return a random positive semidefinite matrix (n, n) of the given rank."""
    J = randn(n, rank, seed=seed)
    return J @ J.mT / rank


def make_loss(
    kind: str, d_out: int, d_in: int, seed: int = 10, dtype: torch.dtype = torch.float64
) -> Loss:
    """Return one of the four losses, without any symmetry."""

    def randn(*shape: int, seed: int) -> Tensor:
        return _randn(*shape, seed=seed).to(dtype)

    if kind == "distance":
        return SquaredDistance(randn(d_out, d_in, seed=seed))
    if kind == "regression":
        n = 3 * d_in
        return LinearRegression(randn(n, d_in, seed=seed), randn(n, d_out, seed=seed + 1))
    if kind == "sensing":
        m = d_out * d_in + 2
        return MatrixSensing(randn(m, d_out, d_in, seed=seed), randn(m, seed=seed + 1))
    mask = randn(d_out, d_in, seed=seed + 1) > -0.6
    mask[0, -1] = True
    mask[-1, 0] = d_out == 1 or d_in == 1
    return MatrixCompletion(randn(d_out, d_in, seed=seed), mask)


def relative(value: Tensor, truth: Tensor) -> float:
    """Return ‖value − truth‖/‖truth‖ over all entries."""
    value, truth = torch.as_tensor(value), torch.as_tensor(truth)
    return float((value - truth).norm() / truth.norm().clamp_min(1e-300))


def worst_relative(values: Tensor, truth: Tensor) -> float:
    """Return the largest relative difference over the first dimension (times)."""
    return max(relative(v, w) for v, w in zip(values, truth, strict=True))


def dop853(fun, y0, ts, rtol=1e-12, atol=1e-14) -> Tensor:
    """Return the states at ts of ẏ = fun(y) on NumPy arrays by DOP853, restarted at each time."""
    y = torch.as_tensor(y0, dtype=torch.float64).numpy()
    shape, result = y.shape, [y]
    for a, b in itertools.pairwise(ts):
        solution = solve_ivp(
            lambda t, v: fun(v.reshape(shape)).ravel(),
            (float(a), float(b)),
            result[-1].ravel(),
            method="DOP853",
            rtol=rtol,
            atol=atol,
        )
        assert solution.success
        result.append(solution.y[:, -1].reshape(shape))
    return torch.tensor(np.stack(result))


def flow_classes() -> list[type[Flow]]:
    """Return every concrete flow in the package gflow.flows."""
    return sorted(concrete_classes("gflow.flows", Flow), key=lambda c: c.__name__)


def ensemble_of(y0: Tensor) -> Tensor:
    """Return a (2, 3) ensemble of starts around y0."""
    factors = torch.tensor([[1.0, 0.5, 0.9], [1.2, 0.7, 0.3]], dtype=y0.dtype)
    return factors.reshape(2, 3, *[1] * y0.ndim) * y0


def starts_of(flow: Flow, y0: Tensor) -> Tensor:
    """Return a (2, 3) ensemble of starts around y0, each a state of the flow."""
    if isinstance(flow, SpectralFlow):  # singular vectors stay of length 1
        return flow.start(ensemble_of(flow.end_to_end(y0)))
    return ensemble_of(y0)


@functools.cache
def modified_study() -> StepSizeStudy:
    """Return a study against both flows; its largest step size exceeds the stability limit."""
    flow, y0 = gflow.FactorFlow.example()
    sizes = [2.0, 0.04, 0.02, 0.01]
    options = {"modified": True, "points": 3, "rtol": 1e-9, "atol": 1e-12}
    return gflow.step_size_study(flow, y0, 2.0, sizes, **options)


def altered(flow: Flow, rhs) -> Flow:
    """Return a copy of a flow with the right-hand side rhs(flow, t, y)."""
    kind = type(f"Altered{type(flow).__name__}", (type(flow),), {})
    copied = _copied(flow, kind)
    # A solver may follow another flow that it makes of this one, in coordinates of its own.
    kind.__call__ = lambda self, t, y: rhs(
        flow if self is copied else _copied(self, type(flow)), t, y
    )
    return copied


def _copied(flow: Flow, kind: type[Flow]) -> Flow:
    """Return a flow of another class with the same contents."""
    copied = object.__new__(kind)
    copied.__dict__.update(flow.__dict__)
    return copied
