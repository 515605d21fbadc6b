"""The stepping loop: ensembles, events, checkpoints, dense output, and its guard."""

import json
import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.events import first_of, gradient_norm_reaches, loss_reaches, rank_reaches
from gflow.execution.checkpointing import Checkpoint
from gflow.flows import EndToEndFlow, KernelFlow, LayerwiseFlow
from gflow.losses import SquaredDistance
from gflow.solvers import methods
from gflow.solvers.loop.stepping import SteppedSolver
from gflow.trajectory import IntegrationError
from tests.helpers import randn, relative, times, worst_relative

ONE_START = ["bdf"]
OWN = [name for name, solver in methods().items() if isinstance(solver, SteppedSolver)]
MANY = [name for name in OWN if name not in ONE_START]
M = torch.diag(times(3.0, 2.0, 1.0))
FLOW = EndToEndFlow(SquaredDistance(M), 3)
SCALES = times(1e-3, 1e-2, 0.1, 0.5)
STARTS = SCALES[:, None, None] * torch.eye(3, dtype=torch.float64)


def tolerance(method: str) -> float:
    """rkc2 is of order 2: a tenth of the tolerance costs it three times as much."""
    return 1e-4 if method == "rkc2" else 1e-6


def truth(flow, y0, ts):
    return gflow.integrate(flow, y0, ts, "dopri8", 1e-12, 1e-15).ys


class Explosive(KernelFlow):
    """u̇ = −u below 1/2 and u² above: a loss with a bound below only for small starts."""

    affine = False

    def __init__(self):
        super().__init__(torch.eye(1, dtype=torch.float64), times(0.0))

    def __call__(self, t, y):
        return torch.where(y > 0.5, y**2, -y)

    def loss(self, y):
        u = y[..., 0]
        return torch.where(u > 0.5, 1 / 6 - u**3 / 3, 0.5 * u**2)

    def dissipation(self, y, velocity):
        return velocity[..., 0] ** 2

    def reference(self, y):
        return self(0.0, y)


def test_own_methods_are_found():
    assert set(OWN) == {"tsit5", "dop853", "rkc2", "rock4", "bdf"}


# -- ensembles ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", *MANY])
def test_members_have_their_own_steps_and_errors(method):
    ts = [0.0, 1.0, 5.0, 12.0]
    rtol = tolerance(method)
    path = gflow.integrate(FLOW, STARTS, ts, method, rtol, 1e-13)
    assert path.certificate.holds, path.certificate
    assert worst_relative(path.ys, truth(FLOW, STARTS, ts)) <= 100 * rtol
    alone = [gflow.integrate(FLOW, y, ts, method, rtol, 1e-13) for y in STARTS]
    if method in MANY:  # the same arithmetic, but for sums in another order
        steps = sum(p.stats.accepted for p in alone)
        assert path.stats.accepted == pytest.approx(steps, abs=0.05 * steps + 2)
        assert worst_relative(path.ys, torch.stack([p.ys for p in alone], dim=1)) <= rtol


def test_cost_is_that_of_the_members_not_of_the_slowest():
    """One stiff member among many: with common steps each would pay for it."""
    flow = LayerwiseFlow(SquaredDistance(M), [3, 3, 3])
    calm = [0.1 * randn(18, seed=i) for i in range(20)]
    stiff = 6 * randn(18, seed=99)
    few = gflow.integrate(flow, torch.stack(calm), [0.0, 2.0], "tsit5")
    lone = gflow.integrate(flow, stiff, [0.0, 2.0], "tsit5")
    both = gflow.integrate(flow, torch.stack([*calm, stiff]), [0.0, 2.0], "tsit5")
    assert lone.stats.rhs_evals > 5 * few.stats.rhs_evals / 20
    total = few.stats.rhs_evals + lone.stats.rhs_evals
    assert both.stats.rhs_evals == pytest.approx(total, rel=0.02)


def test_finished_members_leave_the_work():
    sizes = []

    class Seen(EndToEndFlow):
        def __call__(self, t, y):
            sizes.append(len(y) if y.ndim == 3 else 1)
            return super().__call__(t, y)

    gflow.integrate(Seen(SquaredDistance(M), 3), STARTS, [0.0, 12.0], "tsit5")
    assert sizes[0] == 4
    assert 1 in sizes
    seen = [s for s in sizes if s <= 4]
    assert sum(seen) < 0.9 * 4 * len(seen)


@pytest.mark.parametrize("method", ["auto", *MANY])
def test_a_member_that_fails_does_not_stop_the_others(method):
    starts = times(0.1, 1.0, 0.3)[:, None]
    path = gflow.integrate(Explosive(), starts, [0.0, 0.5, 5.0], method, max_evals=3_000)
    assert list(path.failures) == [1]
    assert "stopped at t = " in path.failures[1]
    assert float(path.ends[1]) > 10  # it had got close to the pole at t = 1
    assert torch.isnan(path.ys[2, 1]).all()
    for i in (0, 2):
        decayed = float(starts[i]) * math.exp(-5.0)
        assert float(path.ys[2, i]) == pytest.approx(decayed, rel=1e-4)
    assert "1 members FAILED" in repr(path)


def test_where_all_members_fail_it_is_an_error():
    with pytest.raises(IntegrationError, match="stopped at t = ") as caught:
        gflow.integrate(Explosive(), times(1.0, 2.0)[:, None], [0.0, 5.0], "tsit5", max_evals=999)
    assert list(caught.value.trajectory.failures) == [0, 1]


def test_ensembles_of_any_shape():
    grid = STARTS.reshape(2, 2, 3, 3)
    path = gflow.integrate(FLOW, grid, [0.0, 1.0, 3.0], "tsit5", 1e-9, 1e-15)
    assert path.ys.shape == (3, 2, 2, 3, 3)
    assert relative(path.ys[-1], truth(FLOW, grid, [0.0, 3.0])[-1]) <= 1e-6


def test_members_with_parameters_of_their_own():
    """u̇ = −a_i u for member i: the flow is asked for the members still at work."""

    class Rates(KernelFlow):
        affine = False

        def __init__(self, rates):
            super().__init__(torch.eye(1, dtype=torch.float64), times(0.0))
            self.rates = rates

        def of_members(self, index):
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


# -- events ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", *OWN])
def test_an_event_is_located_to_the_tolerance(method):
    """u = e^{−t}: ½u² reaches ½e^{−2c} at c, to what the method's own error is."""
    flow = KernelFlow(torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    u0 = times(1.0, 0.0)
    event = loss_reaches(flow, 0.5 * math.exp(-2 * 3.21))
    rtol = 0.01 * tolerance(method)
    path = gflow.integrate(flow, u0, [0.0, 1.0, 100.0], method, rtol, 1e-12, until=event)
    assert path.event_times[0] == pytest.approx(3.21, abs=200 * rtol)
    assert abs(float(event(path.ends))) <= 1e-10
    assert path.ts.tolist() == [0.0, 1.0, path.event_times[0]]
    assert torch.equal(path.ys[-1], path.ends)
    assert path.certificate.holds


def test_every_member_stops_at_its_own_event():
    event = loss_reaches(FLOW, 1e-4)
    path = gflow.integrate(FLOW, STARTS, [0.0, 1.0, 1e4], until=event)
    assert set(path.event_times) == {0, 1, 2, 3}
    assert [path.event_times[i] for i in range(4)] == sorted(path.event_times.values())[::-1]
    assert torch.allclose(FLOW.loss(path.ends), torch.full((4,), 1e-4).double(), rtol=1e-6)
    for i, y in enumerate(STARTS):
        alone = gflow.integrate(FLOW, y, [0.0, 1e4], until=event)
        assert path.event_times[i] == pytest.approx(alone.event_times[0], rel=1e-4)


def test_gradient_rank_and_first_of_several():
    start = 1e-3 * torch.eye(3, dtype=torch.float64)
    small = gradient_norm_reaches(FLOW, 1e-5)
    second = rank_reaches(FLOW, 2, 1.0)
    found = gflow.integrate(FLOW, start, [0.0, 1e3], until=second)
    assert float(torch.linalg.svdvals(found.ends)[1]) == pytest.approx(1.0, rel=1e-6)
    late = gflow.integrate(FLOW, start, [0.0, 1e3], until=small)
    assert float(FLOW(0.0, late.ends).norm()) == pytest.approx(1e-5, rel=1e-5)
    both = gflow.integrate(FLOW, start, [0.0, 1e3], until=first_of(small, second))
    assert both.event_times[0] == pytest.approx(found.event_times[0], rel=1e-9)
    with pytest.raises(InputError, match="rank must be at least 1, got 0"):
        rank_reaches(FLOW, 0, 1.0)


def test_events_that_do_not_come_and_that_have_come():
    never = gflow.integrate(FLOW, STARTS[2], [0.0, 1.0], until=loss_reaches(FLOW, 1e-30))
    assert not never.event_times
    assert never.ts.tolist() == [0.0, 1.0]
    at_once = gflow.integrate(FLOW, STARTS[2], [0.0, 1.0], until=loss_reaches(FLOW, 1e9))
    assert at_once.event_times == {0: 0.0}
    assert at_once.ts.tolist() == [0.0]


# -- long horizons ----------------------------------------------------------------------


def test_plateaus_of_millions_of_time_units():
    """Saddle to saddle from a start of 1e-6: the loss rests at 7, 2.5 and 0.5 and ends at 0."""
    flow = LayerwiseFlow(SquaredDistance(M), [3, 3, 3, 3])
    ts = [0.0, *torch.logspace(0, 6.5, 14, dtype=torch.float64).tolist()]
    path = gflow.integrate(flow, 1e-6 * randn(27), ts, "auto", 1e-6, 1e-15, max_evals=30_000)
    assert path.certificate.holds, path.certificate
    assert float(path.losses[-1]) <= 1e-12
    assert bool((path.losses.diff() <= 1e-6).all())
    assert path.stats.rhs_evals < 10_000  # explicit methods need 1.8·λT = 7e7


# -- checkpoints ------------------------------------------------------------------------


def _through_files(found: Checkpoint) -> Checkpoint:
    """As a file would keep it: bytes of tensors, and JSON."""
    return Checkpoint(
        {name: value.clone() for name, value in found.tensors.items()},
        json.loads(json.dumps(dict(found.meta))),
    )


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("method", ["auto", *OWN])
@pytest.mark.parametrize("lone", [True, False])
def test_a_resumed_solve_agrees_to_the_last_bit(method, lone, dense):
    if method in ONE_START and not lone:
        pytest.skip("one start at a time")
    y0, ts = (STARTS[1] if lone else STARTS), [0.0, 1.0, 2.0, 6.0, 20.0]
    options = {"rtol": tolerance(method), "atol": 1e-12, "dense": dense}
    seen: list[Checkpoint] = []
    whole = gflow.integrate(
        FLOW, y0, ts, method, **options, checkpoint=seen.append, checkpoint_every=0.0
    )
    assert len(seen) > 10
    for found in seen[:: max(1, len(seen) // 6)]:
        again = gflow.integrate(FLOW, y0, ts, method, **options, resume=_through_files(found))
        assert torch.equal(again.ys, whole.ys)
        assert again.certificate == whole.certificate
        for name in ("rhs_evals", "accepted", "rejected", "reason"):
            assert getattr(again.stats, name) == getattr(whole.stats, name)


def test_a_checkpoint_of_another_solve_is_refused():
    seen: list[Checkpoint] = []
    gflow.integrate(FLOW, STARTS, [0.0, 5.0], "tsit5", checkpoint=seen.append, checkpoint_every=0.0)
    for change in ({"ts": [0.0, 6.0]}, {"rtol": 1e-5}, {"method": "rkc2"}, {"y0": STARTS[0]}):
        given = {"y0": STARTS, "ts": [0.0, 5.0], "method": "tsit5", "resume": seen[0]} | change
        with pytest.raises(InputError, match="resumes the solve it was taken from"):
            gflow.integrate(FLOW, **given)


# -- dense output and what only own methods do --------------------------------------------


@pytest.mark.parametrize("method", OWN)
def test_dense_output_costs_nothing_and_is_right(method):
    ts = torch.linspace(0, 20, 401)
    rtol = tolerance(method)
    few = gflow.integrate(FLOW, STARTS[1], [0.0, 20.0], method, rtol, 1e-13)
    many = gflow.integrate(FLOW, STARTS[1], ts, method, rtol, 1e-13, dense=True)
    assert many.stats.rhs_evals == few.stats.rhs_evals
    assert torch.equal(many.ys[-1], few.ys[-1])
    landed = gflow.integrate(FLOW, STARTS[1], ts, "dop853", 1e-11, 1e-14)
    scale = landed.ys.flatten(1).norm(dim=1).max()
    assert float((many.ys - landed.ys).flatten(1).norm(dim=1).max() / scale) <= 200 * rtol


@pytest.mark.parametrize(
    "option", [{"dense": True}, {"until": lambda y: y}, {"checkpoint": lambda c: None}]
)
def test_libraries_methods_refuse_what_they_cannot_do(option):
    with pytest.raises(InputError, match="own stepping methods, got 'dopri5'; choose auto"):
        gflow.integrate(FLOW, STARTS[0], [0.0, 1.0], "dopri5", **option)


@pytest.mark.parametrize("method", ["auto", *OWN])
def test_the_loss_does_not_rise_however_loose_the_tolerance(method):
    flow = LayerwiseFlow(SquaredDistance(M), [3, 3, 3, 3])
    path = gflow.integrate(flow, randn(27, seed=3), torch.linspace(0, 30, 61), method, 1e-2, 1e-5)
    assert path.certificate.loss_increase <= 1e-3
    assert bool((path.losses.diff() <= 1e-3 * path.losses[0]).all())
    assert relative(path.ys[-1], truth(flow, path.ys[0], [0.0, 30.0])[-1]) <= 0.05


@pytest.mark.parametrize("method", ["auto", *OWN])
def test_float32(method):
    flow = EndToEndFlow(SquaredDistance(M.float()), 3)
    path = gflow.integrate(flow, STARTS[2].float(), [0.0, 2.0, 10.0], method, 1e-4, 1e-7)
    assert path.ys.dtype == torch.float32
    assert path.certificate.holds, path.certificate
    assert worst_relative(path.ys.double(), truth(FLOW, STARTS[2], [0.0, 2.0, 10.0])) <= 2e-3
