"""The stepping loop as a whole: ensembles, long times, dense output, a loss that does not rise."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow, LayerwiseFlow
from gflow.losses import SquaredDistance
from gflow.solvers.loop.growth_monitor import GrowthMonitor
from tests.helpers import randn, relative, slow_except, times, worst_relative
from tests.solvers.loop.cases import (
    ENSEMBLE_METHODS,
    FLOW,
    GFLOW_METHODS,
    STARTS,
    M,
    tolerance,
    truth,
)

LAYERS = LayerwiseFlow(SquaredDistance(M), [3, 3, 3, 3])


def test_methods_of_the_loop_are_registered():
    assert set(GFLOW_METHODS) == {"tsit5", "dop853", "rkc2", "rock4", "bdf"}


# -- ensembles --------------------------------------------------------------------------


@pytest.mark.parametrize("method", slow_except(["auto", *ENSEMBLE_METHODS], "tsit5"))
def test_members_have_separate_steps_and_errors(method):
    ts = [0.0, 1.0, 5.0, 12.0]
    rtol = tolerance(method)
    path = gflow.integrate(FLOW, STARTS, ts, method, rtol, 1e-13)
    assert path.certificate.holds, path.certificate
    assert worst_relative(path.ys, truth(FLOW, STARTS, ts)) <= 100 * rtol


@pytest.mark.parametrize("method", slow_except(ENSEMBLE_METHODS, "tsit5"))
def test_members_take_the_steps_of_single_solves(method, monkeypatch):
    # Shared stages decide when growth rates are estimated; the rest is the same arithmetic,
    # except for the order of sums.
    monkeypatch.setattr(GrowthMonitor, "estimate_due", lambda self: None)
    ts, rtol = [0.0, 1.0, 5.0, 12.0], tolerance(method)
    path = gflow.integrate(FLOW, STARTS, ts, method, rtol, 1e-13)
    singles = [gflow.integrate(FLOW, y, ts, method, rtol, 1e-13) for y in STARTS]
    steps = sum(p.stats.accepted for p in singles)
    assert path.stats.accepted == pytest.approx(steps, abs=0.05 * steps + 2)
    assert worst_relative(path.ys, torch.stack([p.ys for p in singles], dim=1)) <= rtol


def test_cost_is_the_sum_over_members():
    """One stiff member among many: with common steps each would pay for it."""
    flow = LayerwiseFlow(SquaredDistance(M), [3, 3, 3])
    calm = [0.1 * randn(18, seed=i) for i in range(8)]
    stiff = 6 * randn(18, seed=99)
    calm_only = gflow.integrate(flow, torch.stack(calm), [0.0, 2.0], "tsit5")
    single = gflow.integrate(flow, stiff, [0.0, 2.0], "tsit5")
    together = gflow.integrate(flow, torch.stack([*calm, stiff]), [0.0, 2.0], "tsit5")
    assert single.stats.rhs_evals > 5 * calm_only.stats.rhs_evals / len(calm)
    total = calm_only.stats.rhs_evals + single.stats.rhs_evals
    assert together.stats.rhs_evals == pytest.approx(total, rel=0.02)


@pytest.mark.slow
def test_ensembles_of_any_shape():
    grid = STARTS.reshape(2, 2, 3, 3)
    path = gflow.integrate(FLOW, grid, [0.0, 1.0, 3.0], "tsit5", 1e-9, 1e-15)
    assert path.ys.shape == (3, 2, 2, 3, 3)
    assert relative(path.ys[-1], truth(FLOW, grid, [0.0, 3.0])[-1]) <= 1e-6


def test_members_with_different_parameters():
    """u̇ = −a_i u for member i: the flow is restricted to the members still in the loop."""

    class Rates(KernelFlow):
        affine = False

        def __init__(self, rates):
            super().__init__(torch.eye(1, dtype=torch.float64), times(0.0))
            self.rates = rates

        def for_members(self, index):
            return Rates(self.rates[index])

        def __call__(self, t, y):
            return -self.rates * y

        def reference(self, y):
            return -self.rates * y

    rates = times(0.1, 1.0, 300.0, 3.0)[:, None]
    path = gflow.integrate(Rates(rates), torch.ones_like(rates), [0.0, 2.0], "auto", 1e-8, 1e-12)
    assert path.certificate.holds, path.certificate
    assert torch.allclose(path.ys[-1], torch.exp(-2 * rates), rtol=1e-6, atol=1e-9)


def test_bdf_takes_one_start():
    with pytest.raises(InputError, match=r"one start, got an ensemble of \(4,\); choose auto"):
        gflow.integrate(FLOW, STARTS, [0.0, 1.0], "bdf")


# -- long horizons ----------------------------------------------------------------------


@pytest.mark.slow
def test_plateaus_of_millions_of_time_units():
    """Saddle to saddle from a start of 1e-6: the loss rests at 7, 2.5 and 0.5 and ends at 0."""
    ts = [0.0, *torch.logspace(0, 6.5, 14, dtype=torch.float64).tolist()]
    path = gflow.integrate(LAYERS, 1e-6 * randn(27), ts, "auto", 1e-6, 1e-15, max_evals=10_000)
    assert path.certificate.holds, path.certificate
    assert float(path.losses[-1]) <= 1e-12
    assert bool((path.losses.diff() <= 1e-6).all())
    assert path.stats.rhs_evals < 10_000  # explicit methods need 1.8·λT = 7e7


# -- dense output and features of these methods only ------------------------------------


@pytest.mark.parametrize("method", slow_except(GFLOW_METHODS, "tsit5"))
def test_dense_output_is_nearly_free_and_accurate(method):
    ts = torch.linspace(0, 20, 401)
    rtol = tolerance(method)
    sparse = gflow.integrate(FLOW, STARTS[1], [0.0, 20.0], method, rtol, 1e-13)
    fine = gflow.integrate(FLOW, STARTS[1], ts, method, rtol, 1e-13, dense=True)
    if method == "dop853":  # the middle of a step is computed where its interpolant is not enough
        assert fine.stats.rhs_evals < 1.5 * sparse.stats.rhs_evals
    else:
        assert fine.stats.rhs_evals == sparse.stats.rhs_evals
    assert torch.equal(fine.ys[-1], sparse.ys[-1])
    every = 5  # of the times: two in each time unit's tenths, most of them inside of a step
    landed = truth(FLOW, STARTS[1], ts[::every].tolist())
    scale = landed.flatten(1).norm(dim=1).max()
    assert float((fine.ys[::every] - landed).flatten(1).norm(dim=1).max() / scale) <= 200 * rtol


@pytest.mark.parametrize(
    "option",
    [{"dense": True}, {"until": lambda y: y.sum((-2, -1))}, {"checkpoint": lambda c: None}],
)
def test_library_methods_refuse_unsupported_options(option):
    with pytest.raises(InputError, match="own stepping methods, got 'dopri5'; choose auto"):
        gflow.integrate(FLOW, STARTS[0], [0.0, 1.0], "dopri5", **option)


@pytest.mark.parametrize("method", slow_except(["auto", *GFLOW_METHODS], "bdf", "tsit5", "rkc2"))
def test_the_loss_does_not_rise_at_loose_tolerances(method):
    flow, start = LAYERS, randn(27, seed=3)
    path = gflow.integrate(flow, start, torch.linspace(0, 30, 61), method, 1e-2, 1e-5)
    assert path.certificate.loss_increase <= 1e-3
    assert bool((path.losses.diff() <= 1e-3 * path.losses[0]).all())
    assert relative(path.ys[-1], truth(flow, start, [0.0, 30.0])[-1]) <= 0.05


@pytest.mark.parametrize("method", ["auto", *GFLOW_METHODS])
def test_float32(method):
    flow = EndToEndFlow(SquaredDistance(M.float()), 3)
    path = gflow.integrate(flow, STARTS[2].float(), [0.0, 2.0, 10.0], method, 1e-4, 1e-7)
    assert path.ys.dtype == torch.float32
    assert path.certificate.holds, path.certificate
    assert worst_relative(path.ys.double(), truth(FLOW, STARTS[2], [0.0, 2.0, 10.0])) <= 2e-3
