import itertools
import math

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev

import gflow
from gflow.flows import KernelFlow
from gflow.solvers.rkc2 import RKC2
from gflow.solvers.rock4 import ROCK4
from tests.helpers import randn, relative, slow_except
from tests.solvers.potentials import Bernoulli
from tests.solvers.steps import diagonal_step, global_error, manufactured, solution, step

METHOD = RKC2()
STAGES = [2, 3, 4, 5, 8, 13, 40]
STAGES_TO_4000 = [*range(2, 31), 40, 57, 99, 100, 250, 1000, 4000]
EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)}


@pytest.mark.parametrize("stages", STAGES)
def test_fitted_order_is_two(stages):
    counts = [16, 32, 64]
    errors = [global_error(METHOD, n, stages) for n in counts]
    assert -np.polyfit(np.log(counts), np.log(errors), 1)[0] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("stages", STAGES)
def test_estimate_is_of_order_three_and_above_the_error(stages):
    steps = [0.04, 0.02, 0.01]
    taken = [step(METHOD, manufactured, 0.3, solution(0.3), h, stages) for h in steps]
    estimates = [float(s.error.norm()) for s in taken]
    order = np.polyfit(np.log(steps), np.log(estimates), 1)[0]
    assert order == pytest.approx(METHOD.error_order, abs=0.05)
    for h, s, estimate in zip(steps, taken, estimates, strict=True):
        assert float((s.y - solution(0.3 + h)).norm()) < estimate


@pytest.mark.parametrize("stages", STAGES)
def test_abscissae_of_the_stages(stages):
    """ẏ = 2t needs Σ weights·c = 1/2: an order-1 error that autonomous problems do not reveal."""
    start = torch.zeros(1, 1, dtype=torch.float64)
    taken = step(METHOD, lambda t, Y: torch.full_like(Y, 2 * t), 3.0, start, 1.0, stages)
    assert float(taken.y) == pytest.approx(7.0, rel=1e-12)


def test_step_is_its_chebyshev_polynomial():
    """R(z) = a_s + b_s T_s(w₀ + w₁z)."""
    for s in STAGES:
        w0 = 1 + 2 / 13 / s**2
        T = chebyshev.Chebyshev.basis(s)
        d1, d2 = T.deriv()(w0), T.deriv(2)(w0)
        b, w1 = d2 / d1**2, d1 / d2
        z = -np.linspace(0, METHOD.reach(s), 200)
        R = 1 - b * T(w0) + b * T(w0 + w1 * z)
        assert np.abs(diagonal_step(METHOD, z, s).y[0].numpy() - R).max() < 1e-11, s


def test_stable_and_damped_up_to_its_reach():
    for s in STAGES_TO_4000:
        z = -np.linspace(0, METHOD.reach(s), 20 * s + 50 if s < 300 else 2000)
        R = diagonal_step(METHOD, z, s).y[0].abs()
        assert R.max() <= 1 + s**2 * EPS[torch.float64], s
        if s > 3:
            assert R[z < -4].max() <= 0.96, s
        # The true interval is less than 5 % longer, except by a fifth for very few stages.
        if 5 < s < 1000:
            assert diagonal_step(METHOD, [-1.05 * METHOD.reach(s)], s).y.abs() > 1, s


def test_reach_is_that_of_the_paper():
    for s in STAGES_TO_4000:
        assert METHOD.reach(s) == pytest.approx(0.653 * (s**2 - 1), rel=0.01)


def test_stages_and_reach_are_inverse():
    assert METHOD.stages(0.0) == 2
    for s in range(2, 1000):
        assert METHOD.stages(METHOD.reach(s)) == s
    for reach in np.geomspace(1e-3, 1e6, 500):
        s = METHOD.stages(reach)
        assert s == 2 or METHOD.reach(s - 1) < reach
        assert METHOD.reach(s) >= 0.998 * reach  # the true interval is longer by as much


@pytest.mark.parametrize("stages", STAGES)
def test_number_of_evaluations_and_unchanged_input(stages):
    calls = []

    def rhs(t, Y):
        calls.append(t)
        return -Y

    z = torch.ones(1, 3, dtype=torch.float64)
    taken = step(METHOD, rhs, 0.0, z, 1.0, stages)
    assert len(calls) == 1 + stages
    assert calls == sorted(calls)
    assert calls[-1] == 1.0
    assert torch.equal(z, torch.ones_like(z))
    assert torch.equal(taken.k, -taken.y)


def test_members_are_independent():
    rates = -torch.tensor([[0.1, 5.0, 90.0], [2.0, 0.3, 0.0]], dtype=torch.float64)
    together = step(METHOD, lambda t, Y: rates * Y, 0.0, torch.ones_like(rates), 1.0, 13)
    for i, rate in enumerate(rates):
        assert torch.equal(together.y[i], diagonal_step(METHOD, rate, 13).y[0])


# -- round-off --------------------------------------------------------------------------


def test_caps_in_float32():
    """The largest numbers of stages that round-off allows in float32."""
    caps = [METHOD.max_stages(rtol, EPS[torch.float32]) for rtol in (1e-2, 1e-3, 1e-4)]
    assert caps == pytest.approx([92, 29, 9], abs=1)


def round_off(stages, dtype):
    """Relative round-off of one step over a stiff spectrum from a stationary state."""
    n = 40
    Q = torch.linalg.qr(randn(n, n))[0]
    A = (Q * -torch.linspace(0, METHOD.reach(stages), n, dtype=torch.float64)) @ Q.mT
    still = Q[:, :1].mT.contiguous()
    A, z = A.to(dtype), still.to(dtype)
    return float((step(METHOD, lambda t, Y: Y @ A, 0.0, z, 1.0, stages).y.double() - still).norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("digits", [2, 3, 4, 6, 8, 11])
def test_round_off_stays_below_the_tolerance_at_the_cap(digits, dtype):
    rtol = 10.0**-digits
    cap = METHOD.max_stages(rtol, EPS[dtype])
    if rtol > 4 * EPS[dtype] * 100:
        assert round_off(min(cap, 1000), dtype) <= rtol
    assert 4 <= cap <= 4000


@pytest.mark.parametrize("name", slow_except(["rkc2", "rock4"], "rkc2"))
@pytest.mark.parametrize("rtol", [1e-2, 1e-4])
def test_caps_hold_in_a_float32_solve(name, rtol):
    """No step exceeds the reach of the capped number of stages, not even at rest."""
    method = {"rkc2": METHOD, "rock4": ROCK4()}[name]
    farthest = method.reach(method.max_stages(rtol, EPS[torch.float32]))
    flow = Bernoulli([0.01, 1.0, 1000.0], cubic=0.0, dtype=torch.float32)
    seen = [0.0]
    path = gflow.integrate(
        flow,
        torch.ones(3),
        [0.0, 15.0],
        name,
        rtol,
        1e-3 * rtol,
        progress=lambda t, loss: seen.append(t),
    )
    longest = 1000.0 * max(b - a for a, b in itertools.pairwise(seen))
    assert longest <= farthest
    assert longest >= 0.3 * farthest  # the cap is the active limit
    assert relative(path.ys[-1].double(), flow.at([0.0, 15.0], torch.ones(3))[-1]) <= 3 * rtol


# -- a stiff linear problem -------------------------------------------------------------


@pytest.mark.parametrize("largest", [1e2, 1e4])
def test_cost_on_a_stiff_linear_problem_agrees_with_theory(largest):
    """Σ √(1.54 h ρ) over the steps, plus estimates of the spectral radius and rejected steps."""
    n = 60
    Q = torch.linalg.qr(randn(n, n))[0]
    H = (Q * torch.logspace(-2, math.log10(largest), n, dtype=torch.float64)) @ Q.mT
    flow = KernelFlow((H + H.mT) / 2, Q @ torch.ones(n, dtype=torch.float64))
    seen, y0 = [0.0], torch.zeros(n, dtype=torch.float64)
    path = gflow.integrate(
        flow, y0, [0.0, 10.0], "rkc2", 1e-3, 1e-6, progress=lambda t, loss: seen.append(t)
    )
    assert path.certificate.holds
    assert relative(path.ys[-1], flow.exact(path.ts, y0)[-1]) <= 3e-3
    theory = sum(math.sqrt(1 + 1.54 * largest * (b - a)) for a, b in itertools.pairwise(seen))
    assert theory <= path.stats.rhs_evals <= 1.3 * theory + 10
    assert path.stats.rhs_evals < (1.8 * largest * 10) / (3 if largest < 1e3 else 50)
