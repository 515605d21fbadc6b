"""The sharpness along a solve, shared with the solver's estimate of the spectral radius."""

import functools
import json

import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import EndToEndFlow, NetworkFlow
from gflow.flows.sharpness import sharpness_along
from gflow.losses import SquaredDistance
from gflow.solvers.resumable import Checkpoint
from tests.helpers import randn, relative, slow_except, times

TIMES = np.linspace(0.0, 20.0, 41)
OWN = ["auto", "tsit5", "dop853", "rkc2", "rock4", "bdf"]
# A method, and whether its path can be evaluated between its times.
CASES = [*((method, False) for method in OWN), ("auto", True), ("rkc2", True)]


@functools.cache
def network(dtype=torch.float64, width=6):
    """A tanh network of 51 parameters on 40 samples, whose sharpness grows."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(4, width), torch.nn.Tanh(), torch.nn.Linear(width, 3)
    )
    X, Y = randn(40, 4, seed=1).to(dtype), randn(40, 3, seed=2).to(dtype)
    criterion = lambda u, y: 2.0 * (u - y).square().sum(1).mean()  # noqa: E731
    flow = NetworkFlow(module.to(dtype), criterion, X, Y)
    return flow, flow.pack()


def hessian_eigenvalues(flow, y):
    H = torch.autograd.functional.hessian(flow.loss, y)
    return torch.linalg.eigvalsh((H + H.mT) / 2).flip(0)


def check(path, k):
    """Each value is within its residual, 2 % of λ_max, of an eigenvalue; λ_max to 0.3 %.

    The last time is compared, and every fourth before it.
    """
    flow = path.flow
    assert path.sharpness.shape == (len(path.ts), k)
    for i in range(len(path.ts) - 1, -1, -4):
        sharpness = path.sharpness[i]
        truth = hessian_eigenvalues(flow.parameter_flow, flow.lift(path.ys[i]))
        assert bool((sharpness <= truth[:k] + 1e-10 * truth[0]).all())  # Rayleigh-Ritz
        assert float((truth[:, None] - sharpness).abs().amin(0).max()) <= 0.02 * float(truth[0])
        assert float(sharpness[0]) == pytest.approx(float(truth[0]), rel=3e-3)


@pytest.mark.parametrize("case", slow_except(CASES, ("auto", False)), ids=str)
def test_sharpness_is_that_of_the_dense_hessian(case):
    method, dense = case
    flow, y0 = network()
    path = gflow.integrate(flow, y0, TIMES, method, 1e-5, 1e-8, dense=dense, sharpness=2)
    check(path, 2)
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize("method", slow_except(["dopri5", "scipy:LSODA"], "dopri5"))
def test_sharpness_of_library_methods_is_measured_afterwards(method):
    flow, y0 = network()
    path = gflow.integrate(flow, y0, TIMES, method, 1e-5, 1e-8, sharpness=2)
    values, products = sharpness_along(flow, path.ys, 2)
    assert torch.equal(path.sharpness, values)
    assert path.stats.jvp_evals == products
    check(path, 2)


def test_sharpness_of_closed_forms_krylov_and_a_single_time():
    H = torch.diag(times(4.0, 3.0, 0.5, 0.0))
    flow, u0 = gflow.KernelFlow(H, torch.ones(4, dtype=torch.float64)), randn(4)
    for method in ("exact", "krylov", "rkc2"):
        path = gflow.integrate(flow, u0, [0.0, 1.0, 2.0], method, sharpness=2)
        truth = torch.tensor([4.0, 3.0], dtype=torch.float64).expand(3, 2)
        assert relative(path.sharpness, truth) <= 1e-5
        assert path.stats.method == method
    path = gflow.integrate(flow, u0, [0.0], sharpness=1)
    assert float(path.sharpness) == pytest.approx(4.0, rel=1e-5)


def test_sharpness_of_a_reduced_flow_is_that_of_its_parameters():
    flow = EndToEndFlow(SquaredDistance(torch.diag(times(3.0, 1.0))), 3)
    path = gflow.integrate(flow, randn(2, 2), [0.0, 0.1, 0.5], sharpness=3)
    check(path, 3)


@pytest.mark.slow
def test_the_finer_solve_does_not_measure_the_sharpness():
    flow, y0 = network()
    products = []

    class Counted(NetworkFlow):
        def linearised(self, y):
            product = super().linearised(y)
            return lambda v: products.append(1) or product(v)

    counted = object.__new__(Counted)
    counted.__dict__.update(flow.__dict__)
    path = gflow.integrate(counted, y0, TIMES, sharpness=2, estimate_error=True)
    assert path.certificate.error_estimate > 0
    assert path.stats.jvp_evals == len(products) > 2 * len(TIMES)


@pytest.mark.slow
@pytest.mark.parametrize("dense", slow_except([False, True], True))
@pytest.mark.parametrize("method", slow_except(["auto", "rkc2"], "rkc2"))
def test_a_resumed_solve_has_the_same_sharpness_bit_for_bit(method, dense):
    flow, y0 = network()
    options = {"rtol": 1e-5, "atol": 1e-8, "dense": dense, "sharpness": 2}
    seen: list[Checkpoint] = []
    uninterrupted = gflow.integrate(
        flow, y0, TIMES, method, **options, checkpoint=seen.append, checkpoint_every=0.0
    )
    for stored in (seen[len(seen) // 3], seen[-2]):
        tensors = {name: value.clone() for name, value in stored.tensors.items()}
        restored = Checkpoint(tensors, json.loads(json.dumps(dict(stored.meta))))
        resumed = gflow.integrate(flow, y0, TIMES, method, **options, resume=restored)
        assert torch.equal(resumed.ys, uninterrupted.ys)
        assert torch.equal(resumed.sharpness, uninterrupted.sharpness)
        assert resumed.stats.jvp_evals == uninterrupted.stats.jvp_evals
        assert resumed.stats.rhs_evals == uninterrupted.stats.rhs_evals
    with pytest.raises(InputError, match=r"the same flow.*and sharpness; got another"):
        gflow.integrate(flow, y0, TIMES, method, 1e-5, 1e-8, dense=dense, resume=seen[0])


@pytest.mark.slow
def test_a_solve_that_stops_early_is_measured_at_its_end():
    flow, y0 = network()
    goal = float(flow.loss(y0)) / 2
    path = gflow.integrate(flow, y0, TIMES, until=loss_reaches(flow, goal), sharpness=2)
    assert 0 in path.event_times
    check(path, 2)
    with pytest.raises(gflow.IntegrationError) as caught:
        gflow.integrate(flow, y0, TIMES, "rkc2", max_evals=150, sharpness=2)
    check(caught.value.trajectory, 2)


def test_float32():
    flow, y0 = network(torch.float32)
    path = gflow.integrate(flow, y0, [0.0, 5.0, 10.0], rtol=1e-3, atol=1e-6, sharpness=2)
    assert path.sharpness.dtype == torch.float32
    exact, start = network()
    truth = gflow.integrate(exact, start, [0.0, 5.0, 10.0], sharpness=2)
    assert relative(path.sharpness, truth.sharpness.float()) <= 0.02


def test_nothing_is_measured_unless_requested():
    flow, y0 = network()
    path = gflow.integrate(flow, y0, [0.0, 1.0])
    assert path.sharpness.shape == (2, 0)
    assert path.stats.jvp_evals == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sharpness": -1},
            "sharpness must be a whole number of at least 0, got -1",
        ),
        (
            {"sharpness": 1.5},
            "sharpness must be a whole number of at least 0, got 1.5",
        ),
        (
            {"y0": torch.zeros(3, 51, dtype=torch.float64)},
            r"one start, got an ensemble of shape \(3,\); integrate its members one by one",
        ),
    ],
)
def test_input_errors(change, message):
    flow, y0 = network()
    with pytest.raises(InputError, match=message):
        gflow.integrate(flow, **({"y0": y0, "ts": [0.0, 1.0], "sharpness": 1} | change))
