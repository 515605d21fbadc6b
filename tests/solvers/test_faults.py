"""Faulty right-hand sides: the result is right, or an error is raised, or the certificate fails.

Never a silent wrong result, an endless loop or a warning.
"""

import math

import pytest
import torch

import gflow
from gflow.flows import KernelFlow
from tests.helpers import altered, alternate, slow_except, slow_pairs_except, times, worst_relative
from tests.solvers.potentials import (
    NAN,
    OWN,
    STABILISED,
    Bernoulli,
    Potential,
    mild,
    shifted,
    solve,
    stiff,
    verdict,
)

pytestmark = pytest.mark.filterwarnings("error")
# An explicit, a stabilised and an implicit method, and the one that chooses.
KINDS = ("auto", "tsit5", "rock4", "bdf")
every = pytest.mark.parametrize("method", slow_except([*OWN, "dopri5"], *KINDS))
each_own_method = pytest.mark.parametrize("method", slow_except(OWN, *KINDS))
# One method that switches, one implicit, one explicit; the others are slow.
every_kind = pytest.mark.parametrize(
    "method", slow_except([*OWN, "dopri5"], "auto", "bdf", "tsit5")
)
TS = [0.0, 0.5, 2.0]


# -- noise ------------------------------------------------------------------------------


def noisy(flow, size):
    """Return the flow with new noise in every evaluation."""
    source = torch.Generator().manual_seed(0)

    def rhs(flow, t, y):
        noise = torch.randn(y.shape, generator=source, dtype=torch.float64)
        return flow(t, y) + size * noise.to(y)

    return altered(flow, rhs)


@pytest.mark.parametrize(("problem", "method"), alternate([mild, stiff], [*OWN, "dopri5"]))
def test_small_noise_is_harmless(problem, method):
    if problem is stiff and method in ("tsit5", "dop853", "dopri5"):
        pytest.skip("not for stiff flows")
    flow, y0 = problem()
    result = verdict(noisy(flow, 1e-10), y0, TS, method, 1e-5, flow.at(TS, y0), 1e-4)
    assert result == "right"


@pytest.mark.parametrize("method", slow_except([*OWN, "dopri5"], "auto", "bdf"))
@pytest.mark.parametrize("size", [1e-5, 1.0])
def test_large_noise_is_integrated_or_reported(size, method):
    flow, y0 = mild()
    within = 1e-4 + 2 * size  # the effect of the noise on the path
    verdict(noisy(flow, size), y0, TS, method, 1e-5, flow.at(TS, y0), within, max_evals=1000)


@pytest.mark.parametrize("method", slow_except(STABILISED, "auto", "rkc2"))
@pytest.mark.parametrize("size", [1e-4, 1.0])
def test_large_noise_in_a_stiff_flow(size, method):
    flow, y0 = stiff()
    within = 1e-4 + 2 * size
    verdict(noisy(flow, size), y0, TS, method, 1e-5, flow.at(TS, y0), within, max_evals=1000)


# -- not a number -----------------------------------------------------------------------


def nan_at(flow, which):
    """Return the flow with NaN in the evaluations n = 1, 2, … where which(n) is true.

    Before the solve four calls check a flow that is not gflow's own.
    """
    calls = []

    def rhs(flow, t, y):
        calls.append(t)
        return flow(t, y) * (math.nan if which(len(calls) - 4) else 1.0)

    return altered(flow, rhs)


def _nan_once(problem, method, numbers):
    flow, y0 = problem()
    ts = [0.0, 0.3]
    truth = flow.at(ts, y0)
    result = {
        k: verdict(nan_at(flow, lambda n, k=k: n == k), y0, ts, method, 1e-4, truth, 1e-3)
        for k in numbers
    }
    assert result.pop(1) == NAN  # no step has been tried yet
    assert set(result.values()) == {"right"}, result


@pytest.mark.parametrize("method", slow_except(OWN, "auto", "bdf", "tsit5"))
def test_a_single_nan_only_rejects_a_step(method):
    _nan_once(mild, method, range(1, 31))


@pytest.mark.parametrize("method", slow_except(STABILISED, "auto"))
def test_a_single_nan_only_rejects_a_step_where_stiff(method):
    _nan_once(stiff, method, [1, *range(2, 152, 12)])


@every
def test_nan_from_a_time_on(method):
    flow, y0 = mild()
    bad = altered(flow, lambda flow, t, y: flow(t, y) * (math.nan if t > 0.7 else 1.0))
    with pytest.raises(gflow.IntegrationError) as caught:
        solve(bad, y0, TS, method, 1e-5)
    assert caught.value.reason == NAN
    assert (0.5 if method == "dopri5" else 0.69) <= caught.value.t <= 0.7
    assert worst_relative(caught.value.trajectory.ys[:2], flow.at(TS[:2], y0)) <= 1e-4


@every
def test_infinity_from_a_state_on(method):
    flow, y0 = mild()

    def rhs(flow, t, y):
        return flow(t, y) / ((y.norm() > 0.7).double())

    assert verdict(altered(flow, rhs), y0, [0.0, 50.0], method, 1e-5, None, 0.0) == NAN


# -- right-hand sides that are not a smooth gradient ------------------------------------


@every
def test_jump_in_time(method):
    still = Potential(2, lambda y: -y.sum(-1), lambda y: -torch.ones_like(y))
    jumps = altered(still, lambda flow, t, y: (1.0 if t < 0.7 else 2.0) * torch.ones_like(y))
    truth = torch.tensor([[0.0, 0.0], [0.5, 0.5], [3.3, 3.3]]).double()
    result = verdict(jumps, torch.zeros(2).double(), TS, method, 1e-4, truth, 1e-2)
    assert result in ("right", "flagged")


@every_kind
def test_jump_in_the_state(method):
    """φ = ½‖y‖² + Σ|y − 0.3|: every entry slides at 0.3, where the slope jumps."""
    flow = Potential(
        3,
        lambda y: (0.5 * y.square() + (y - 0.3).abs()).sum(-1),
        lambda y: y + torch.sign(y - 0.3),
    )
    y0 = times(2.0, 1.0, -1.0)
    t = times(0.0, 0.2, 3.0)
    above = torch.stack([(y + 1) * torch.exp(-t) - 1 for y in (2.0, 1.0)], dim=1)
    below = 1 - 2 * torch.exp(-t)
    truth = torch.cat([above.clamp_min(0.3), below.clamp_max(0.3)[:, None]], dim=1)
    verdict(flow, y0, t.tolist(), method, 1e-4, truth, 1e-2, max_evals=1000)


@every_kind
def test_explosion(method):
    """ẏ = y² blows up at t = 1; its potential −y³/3 falls all the way."""
    flow = Potential(1, lambda y: -(y**3).sum(-1) / 3, lambda y: -y.square())
    with pytest.raises(gflow.IntegrationError) as caught:
        solve(flow, torch.ones(1).double(), [0.0, 0.9, 2.0], method, 1e-4)
    assert caught.value.t == pytest.approx(1.0, abs=1e-2)
    assert float(caught.value.trajectory.ys[1]) == pytest.approx(10.0, rel=1e-2)


@every_kind
@pytest.mark.parametrize(("problem", "rtol"), alternate([mild, stiff], [1e-2, 1e-6]))
def test_gradient_ascent(problem, rtol, method):
    flow, y0 = problem()
    wrong = altered(flow, lambda flow, t, y: -flow(t, y))
    result = verdict(wrong, 0.1 * y0, TS, method, rtol, flow.at(TS, 0.1 * y0), 0.0, max_evals=400)
    assert result != "right"


@each_own_method
def test_gradient_ascent_on_a_kernel_flow(method):
    flow = KernelFlow(torch.diag(times(1.0, 20.0)), times(1.0, -1.0))
    wrong = altered(flow, lambda flow, t, y: -flow(t, y))
    wrong.closed_form = lambda y0: None
    y0 = torch.zeros(2).double()
    result = verdict(wrong, y0, TS, method, 1e-4, flow.exact(times(*TS), y0), 0.0, max_evals=400)
    assert result != "right"


# -- stationary and nearly stationary starts --------------------------------------------


@every
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_zero_right_hand_side(start, method):
    flow = Potential(3, lambda y: 0.0 * y.sum(-1), torch.zeros_like)
    y0 = torch.full((3,), start).double()
    path = solve(flow, y0, [0.0, 1.0, 1e6], method, 1e-6)
    assert torch.equal(path.ys, y0.expand(3, 3))
    assert path.certificate.holds, path.certificate
    assert path.stats.rhs_evals < 500


@every
def test_at_a_saddle_and_at_a_minimum(method):
    flow = Bernoulli([-1.0, 2.0])
    for x0 in (times(0.0, 0.0), times(1.0, 0.0)):
        y0 = x0 @ flow.Q.mT
        path = solve(flow, y0, [0.0, 1.0, 1e4 if method in STABILISED else 1e3], method, 1e-6)
        # The stages of a long stable step amplify round-off, by up to the tolerance.
        within = 1e-7 if method in ("rkc2", "rock4") else 1e-9
        assert worst_relative(path.ys, y0.expand(3, 2)) <= within
        assert path.certificate.holds, path.certificate


@every_kind
def test_beside_a_saddle_at_the_origin(method):
    """The start sets the only scale: the time of departure must be right."""
    flow = Bernoulli([-1.0, 2.0])
    y0 = times(1e-12, 1e-12)
    ts = [0.0, 10.0, 27.0, 28.0, 60.0]
    result = verdict(flow, y0, ts, method, 1e-5, flow.at(ts, y0), 1e-2, atol=0.0)
    assert result == "right"


@pytest.mark.parametrize("method", slow_except(STABILISED, "auto"))
@pytest.mark.parametrize(
    ("rates", "start"),
    slow_pairs_except(
        [((-1.0, 2.0, -0.3), 1e-6), ((-10.0, 100.0, -1.0), 1e-12)], ((-1.0, 2.0, -0.3), 1e-6)
    ),
)
def test_saddle_to_saddle(rates, start, method):
    """The path leaves the second saddle along a mode that was far below the tolerance until then:
    the time of departure and the side must be right."""
    flow = Bernoulli(rates)
    y0 = start * torch.ones(3).double()
    leaves = -math.log(start) / abs(rates[2])
    ts = [0.0, 0.7 * leaves, 1.5 * leaves, 3 * leaves]
    rtol = 1e-4 if method == "auto" else 1e-2
    result = verdict(flow, y0, ts, method, rtol, flow.at(ts, y0), 5e-2, atol=0.0)
    assert result == "right"


@every_kind
def test_beside_a_saddle_far_from_the_origin(method):
    """For a state of size 1 the distance 1e-12 is below any rtol: the path must be right where
    the tolerance resolves it, and must leave the saddle."""
    flow = shifted(Bernoulli([-1.0, 2.0]), 1.0)
    x0 = times(1.0, 1.0) + times(1e-12, 1e-12)
    ts = [0.0, 5.0, 80.0]
    truth = flow.at(ts, x0)
    rtol = 1e-4 if method == "rkc2" else 1e-6  # of order 2
    result = verdict(flow, x0, ts, method, rtol, truth, 100 * rtol)
    assert result == "right"


@pytest.mark.parametrize("method", [*OWN, "dopri5", "auto"])
def test_single_time(method):
    flow, y0 = mild()
    path = solve(flow, y0, [2.5], method, 1e-5)
    assert path.ts.tolist() == [2.5]
    assert torch.equal(path.ys, y0[None])
    assert path.certificate.holds


@pytest.mark.parametrize("method", slow_except(["bdf", "auto"], "auto"))
def test_decay_to_nothing_without_atol(method):
    """Until squares underflow: right to within 1e-143, or an error is raised."""
    flow, y0 = Bernoulli([20.0, 25.0]), times(7.0, 0.2)
    ts = [0.0, 490.0]
    try:
        end = gflow.integrate(flow, y0, ts, method, 5e-4, 0.0).ys[-1]
    except gflow.IntegrationError as stopped:
        end = stopped.y
        if "underflowed" not in stopped.reason:
            raise
    assert (end - flow.at(ts, y0)[-1]).abs().max() <= 1e-143


# -- budgets ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", slow_except(OWN, "auto", "bdf", "tsit5"))
@pytest.mark.parametrize("budget", [20, 111])
def test_resumed_after_the_budget_ran_out(budget, method):
    flow, y0 = stiff(100.0)
    uninterrupted = solve(flow, y0, TS, method, 1e-5)
    assert uninterrupted.stats.rhs_evals > 111
    with pytest.raises(gflow.IntegrationError, match="budget") as caught:
        solve(flow, y0, TS, method, 1e-5, max_evals=budget)
    assert caught.value.trajectory.stats.rhs_evals <= budget
    resumed = solve(flow, y0, TS, method, 1e-5, resume=caught.value.checkpoint)
    assert torch.equal(resumed.ys, uninterrupted.ys)
    old, new = (
        (s.rhs_evals, s.accepted, s.rejected, s.reason)
        for s in (uninterrupted.stats, resumed.stats)
    )
    assert old == new
    assert repr(resumed.certificate) == repr(uninterrupted.certificate)


@each_own_method
@pytest.mark.parametrize("budget", [1, 2, 3])
def test_smallest_budgets(budget, method):
    flow, y0 = mild()
    with pytest.raises(gflow.IntegrationError, match="budget") as caught:
        solve(flow, y0, TS, method, 1e-5, max_evals=budget)
    assert caught.value.t == 0.0
    assert torch.equal(caught.value.y, y0)
