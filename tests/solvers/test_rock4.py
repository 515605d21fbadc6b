import itertools
import math

import numpy as np
import pytest
import torch

from gflow.errors import InputError
from gflow.solvers.rock4 import ROCK4, recurrence, table
from tests.solvers.steps import manufactured, solution, step

METHOD = ROCK4()
STAGES = [row.stages for row in table()]
EPS32, EPS64 = (torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64))

# A rooted tree is the tuple of its children; these are all trees up to order 4.
LEAF, T2 = (), ((),)
T3 = [(LEAF, LEAF), (T2,)]
TREES = [LEAF, T2, *T3, (LEAF, LEAF, LEAF), (LEAF, T2), *((tree,) for tree in T3)]
SYMMETRY = np.array([1, 1, 2, 1, 6, 1, 2, 1])
ORDER = np.array([1, 2, 3, 3, 4, 4, 4, 4])


def size(tree):
    return 1 + sum(map(size, tree))


def density(tree):
    return size(tree) * math.prod(map(density, tree))


EXACT = np.array([1 / density(tree) for tree in TREES])


def step_of_weights(stages, autonomous):
    """One step of size 1 from 0 of ẏ_t = Π y_child, which is the weight of every tree.

    Unless ``autonomous``, time replaces y of the single node, which tests the abscissae.
    """

    def increment(c, Y):
        y = dict(zip(TREES, Y[0].tolist(), strict=True))
        if not autonomous:
            y[LEAF] = c
        rates = [math.prod(y[child] for child in tree) for tree in TREES]
        return torch.tensor([rates], dtype=torch.float64)

    z = torch.zeros(1, len(TREES), dtype=torch.float64)
    return METHOD.step(increment, z, increment(0.0, z), stages)


@pytest.mark.parametrize("autonomous", [True, False])
def test_order_conditions_for_every_number_of_stages(autonomous):
    for stages in STAGES:
        step = step_of_weights(stages, autonomous)
        assert np.abs(step.y[0].numpy() - EXACT).max() < 1e-12, stages
        error = step.error[0].numpy()
        assert np.abs(error[ORDER <= 3]).max() < 1e-12, stages
        # All four have the same sign: the estimate does not vanish by cancellation in any flow.
        principal = (error / SYMMETRY)[ORDER == 4]
        assert principal.min() > 0, stages
        assert np.linalg.norm(principal) == pytest.approx(1 / 48)


def stability(row, z):
    """R(z), as the product over its zeros: the recurrence would amplify round-off at large s."""
    rec = recurrence(row.stages, row.omega, row.excess, row.zeros)
    mu, nu = np.array(rec.mu), np.array(rec.nu)
    off = np.sqrt((nu[1:] - 1) / (mu[1:] * mu[:-1]))  # z P_{j−1} = (P_j − ν_j P_{j−1} − …)/μ_j
    real = np.linalg.eigvalsh(np.diag(-nu / mu) + np.diag(off, 1) + np.diag(off, -1))
    R = np.prod(1 - z[:, None] / real, axis=1)
    for re, im in zip(row.zeros[::2], row.zeros[1::2], strict=True):
        R *= np.abs(1 - z / complex(re, im)) ** 2
    return R


def test_stability_interval_and_damping_for_every_number_of_stages():
    for row in table():
        reach = METHOD.reach(row.stages)
        z = -np.linspace(0, reach, 100 * row.stages)
        R = np.abs(stability(row, z))
        assert R.max() <= 1, row.stages
        assert R[z < -min(6, 0.6 * reach)].max() <= 0.701, row.stages
        assert reach >= 0.98 * (0.33 * row.stages**2 - 2.9), row.stages


def diagonal_step(stages, z, dtype=torch.float64):
    """One step of size 1 from y = 1 of ẏ = zy."""
    rates = torch.as_tensor(z, dtype=dtype)[None]
    start = torch.ones_like(rates)
    return METHOD.step(lambda c, Y: rates * Y, start, rates * start, stages)


@pytest.mark.parametrize("stages", [5, 6, 8, 12, 20, 30])
def test_step_is_the_stability_polynomial_and_the_estimate_is_bounded(stages):
    z = -np.linspace(0, METHOD.reach(stages), 500)
    step = diagonal_step(stages, z)
    row = table()[STAGES.index(stages)]
    assert np.abs(step.y[0].numpy() - stability(row, z)).max() < 30 * EPS64 * row.amplification
    assert torch.equal(step.k, torch.as_tensor(z) * step.y)
    assert float(step.error.abs().max()) <= 3


def one_step(t, z, h, stages):
    return step(METHOD, manufactured, t, z, h, stages)


@pytest.mark.parametrize("stages", [5, 6, 9, 20, 78])
def test_fitted_order_is_four(stages):
    errors = []
    counts = [8, 16, 32, 64]
    for n in counts:
        z, h = solution(0.0), 2 / n
        for i in range(n):
            z = one_step(i * h, z, h, stages).y
        errors.append(float((z - solution(2.0)).norm()))
    order = -np.polyfit(np.log(counts[1:]), np.log(errors[1:]), 1)[0]
    assert 3.8 <= order <= 4.4


@pytest.mark.parametrize("stages", [5, 6, 9, 20, 78])
def test_estimate_is_of_order_four_and_bounds_the_error_of_small_steps(stages):
    steps = [0.2, 0.1, 0.05, 0.025]
    taken = [one_step(0.3, solution(0.3), h, stages) for h in steps]
    estimates = [float(step.error.norm()) for step in taken]
    order = np.polyfit(np.log(steps[1:]), np.log(estimates[1:]), 1)[0]
    assert order == pytest.approx(METHOD.error_order, abs=0.2)
    for h, result, estimate in zip(steps, taken, estimates, strict=True):
        assert float((result.y - solution(0.3 + h)).norm()) < estimate


@pytest.mark.parametrize("stages", [8, 16, 30, 60])
def test_estimate_sees_the_order_reduction_of_stiff_forced_modes(stages):
    # ẏ = z(y − t²/2) + t from y = 0 is solved by y = t²/2 (Prothero & Robinson 1974).
    z = -torch.linspace(0, METHOD.reach(stages), 500, dtype=torch.float64)[None]
    start = torch.zeros_like(z)
    step = METHOD.step(lambda c, Y: z * (Y - c**2 / 2) + c, start, start, stages)
    assert float(step.error.norm()) >= float((step.y - 0.5).norm())


def test_number_of_stages_is_the_smallest_that_reaches():
    assert METHOD.stages(0.0) == 5
    for fewer, more in itertools.pairwise(STAGES):
        reach = METHOD.reach(fewer)
        assert METHOD.stages(reach) == fewer
        assert METHOD.stages(reach * (1 + 1e-12)) == more
        assert more <= max(fewer + 1, 1.05 * fewer)
    assert METHOD.reach(STAGES[-1]) > 10_000


@pytest.mark.parametrize("reach", [1e5, math.inf, math.nan])
def test_refuses_a_reach_beyond_the_table(reach):
    with pytest.raises(InputError, match="shorten"):
        METHOD.stages(reach)


def evaluations(stages):
    calls = []

    def increment(c, Y):
        calls.append(c)
        return -Y

    z = torch.ones(1, 3, dtype=torch.float64)
    k0 = -z
    METHOD.step(increment, z, k0, stages)
    assert torch.equal(z, torch.ones_like(z))
    assert torch.equal(k0, -z)
    return calls


@pytest.mark.parametrize("stages", [5, 6, 7, 20])
def test_number_of_evaluations_and_abscissae_near_the_step(stages):
    calls = evaluations(stages)
    assert len(calls) == stages
    assert calls[-1] == 1.0
    assert min(calls) > 0
    assert max(calls) < 1.05


def round_off(stages, dtype):
    """Relative round-off of one step over a stiff spectrum, from a state free of stiff modes."""
    generator = torch.Generator().manual_seed(0)
    n = 60
    Q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]
    rates = -torch.linspace(0, METHOD.reach(stages), n, dtype=torch.float64)
    A = (Q * rates) @ Q.mT
    y = Q[:, :1].mT.contiguous()  # the mode of rate 0, which an exact step does not change
    A, z = A.to(dtype), y.to(dtype)
    step = METHOD.step(lambda c, Y: Y @ A, z, z @ A, stages)
    return float((step.y.double() - y).norm())


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [(torch.float32, 1e-2), (torch.float32, 1e-3)]
    + [(torch.float64, 10.0**-k) for k in (3, 4, 6, 8, 10)],
)
def test_stages_are_capped_where_round_off_would_exceed_the_tolerance(dtype, rtol):
    cap = METHOD.max_stages(rtol, torch.finfo(dtype).eps)
    assert round_off(cap, dtype) <= rtol
    assert round_off(METHOD.stages(3 * METHOD.reach(cap)), dtype) > rtol


def test_a_tight_tolerance_allows_the_smallest_number_of_stages():
    assert METHOD.max_stages(1e-8, EPS32) == 5
    assert METHOD.max_stages(1e-4, EPS64) > METHOD.max_stages(1e-8, EPS64) > 10


def test_members_are_independent_and_dtypes_are_preserved():
    z = -torch.linspace(0, 50, 20)
    batch = diagonal_step(16, torch.stack([z, z / 2]).tolist()[0], torch.float32)
    assert batch.y.dtype == batch.error.dtype == torch.float32
    rates = torch.stack([z, z / 2]).double()
    step = METHOD.step(lambda c, Y: rates * Y, torch.ones_like(rates), rates, 16)
    for i in range(2):
        single = diagonal_step(16, rates[i].tolist())
        assert torch.equal(step.y[i], single.y[0])
