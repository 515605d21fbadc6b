import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow
from tests.helpers import make_loss, randn, relative, times

FLOW = EndToEndFlow(make_loss("completion", 2, 3), 2)
START = 0.5 * randn(2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ts": []}, "at least one number"),
        ({"ts": [0.0, math.nan]}, "ts must be finite"),
        ({"ts": [0.0, math.inf]}, "ts must be finite"),
        ({"ts": [0.0, 1.0, 1.0]}, "strictly increasing"),
        ({"ts": [1.0, 0.0]}, "strictly increasing"),
        ({"rtol": 0.0}, "rtol must be positive .*got 0.0"),
        ({"rtol": -1e-3}, "rtol must be positive"),
        ({"rtol": math.nan}, "rtol must be positive"),
        ({"rtol": 1e-17}, "float64 cannot reach rtol = 1e-17; use rtol ≥ 8.9e-16"),
        ({"atol": -1.0}, "atol at least 0, both finite, got .*-1.0"),
        ({"atol": math.inf}, "atol at least 0, both finite, got .*inf"),
        ({"method": "rk4"}, "'rk4' takes fixed steps: pass step_size .*got None"),
        ({"method": "euler", "step_size": 0.0}, "step_size must be a positive .*got 0.0"),
        ({"method": "euler", "step_size": -0.1}, "step_size must be a positive .*got -0.1"),
        ({"method": "euler", "step_size": math.nan}, "step_size must be a positive .*got nan"),
        ({"method": "euler", "step_size": math.inf}, "step_size must be a positive .*got inf"),
        ({"max_evals": 0}, "max_evals must be at least 1, got 0"),
        ({"y0": randn(3, 2)}, r"shape \(\.\.\., 2, 3\), got \(3, 2\)"),
        ({"y0": torch.zeros(2, 3, dtype=torch.int64)}, "floating-point tensor, got torch.int64"),
        ({"y0": torch.full((2, 3), math.nan).double()}, "the state must be finite, but 6 of 6"),
        ({"y0": START.float()}, "dtype and device of the flow's data, torch.float64 on cpu"),
    ],
)
def test_input_errors(change, message):
    arguments = {"y0": START, "ts": [0.0, 1.0]} | change
    with pytest.raises(InputError, match=message):
        gflow.integrate(FLOW, **arguments)


def test_coarse_atol_warns():
    with pytest.warns(UserWarning, match="atol = 1e-06 is not small against the start"):
        gflow.integrate(FLOW, 1e-6 * START, [0.0, 1.0], atol=1e-6)


def test_start_is_not_changed_and_not_tracked_by_autograd():
    y0 = START.clone().requires_grad_()
    path = gflow.integrate(FLOW, y0, [0.0, 1.0])
    assert not path.ys.requires_grad
    assert torch.equal(y0, START)
    path.ys.zero_()
    assert torch.equal(y0, START)


def test_times_as_tensor_list_and_range():
    for ts in (torch.arange(3), [0, 1, 2], range(3), times(0.0, 1.0, 2.0).float()):
        path = gflow.integrate(FLOW, START, ts)
        assert path.ts.tolist() == [0.0, 1.0, 2.0]
        assert path.ts.dtype == torch.float64


def test_more_times_do_not_change_the_path():
    sparse = gflow.integrate(FLOW, START, [0.0, 5.0], "dopri8", 1e-11, 1e-14)
    fine = gflow.integrate(FLOW, START, torch.linspace(0, 5, 60), "dopri8", 1e-11, 1e-14)
    assert relative(fine.ys[-1], sparse.ys[-1]) <= 1e-10


def test_evaluations_and_steps_are_counted():
    calls = []

    class Counted(EndToEndFlow):
        def __call__(self, t, y):
            calls.append(y.shape)
            return super().__call__(t, y)

    flow = Counted(make_loss("completion", 2, 3), 2)
    path = gflow.integrate(flow, START, [0.0, 1.0], "dopri5", 1e-6, 1e-9)
    solve = [shape for shape in calls if shape == (2, 3)][2:]  # two check the flow beforehand
    velocities = len(path.ts)  # states at which the certificate compares them
    assert path.stats.rhs_evals + path.stats.certificate_evals + velocities == len(solve)
    assert path.stats.rhs_evals == 2 + 6 * (path.stats.accepted + path.stats.rejected)


def test_progress_is_called_after_every_accepted_step():
    seen = []
    path = gflow.integrate(
        FLOW, START, [0.0, 1.0, 3.0], "dopri5", progress=lambda t, loss: seen.append((t, loss))
    )
    assert len(seen) == path.stats.accepted
    assert [t for t, _ in seen] == sorted({t for t, _ in seen})
    assert seen[-1] == (3.0, float(path.losses[-1]))


def test_progress_may_stop_the_solve():
    def stop(t, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gflow.integrate(FLOW, START, [0.0, 1.0], "dopri5", progress=stop)


def test_a_member_that_blows_up_stops_the_ensemble():
    flow = KernelFlow(torch.eye(1, dtype=torch.float64), times(0.0))

    class Explodes(KernelFlow):
        def __call__(self, t, y):
            return torch.where(y > 0.5, y**2, -y)

    bad = Explodes(flow.H, flow.targets)
    with pytest.raises(gflow.IntegrationError) as caught:
        gflow.integrate(bad, times(0.1, 1.0)[:, None], [0.0, 5.0], "dopri5", max_evals=20_000)
    assert caught.value.t == pytest.approx(1.0, abs=1e-2)
    assert caught.value.y.shape == (2, 1)


def test_keywords_take_precedence_over_options():
    options = gflow.SolveOptions("dopri5", rtol=1e-3, estimate_error=True)
    path = gflow.integrate(FLOW, START, [0.0, 1.0], options=options)
    assert path.stats.method == "dopri5"
    assert path.certificate.error_estimate is not None
    overridden = gflow.integrate(
        FLOW, START, [0.0, 1.0], "bosh3", estimate_error=False, options=options
    )
    same = gflow.integrate(FLOW, START, [0.0, 1.0], "bosh3", 1e-3, 1e-9)
    assert overridden.stats.method == "bosh3"
    assert torch.equal(overridden.ys, same.ys)
    assert overridden.certificate.error_estimate is None


def test_defaults_are_those_of_the_options():
    default = gflow.integrate(FLOW, START, [0.0, 1.0])
    explicit = gflow.integrate(FLOW, START, [0.0, 1.0], "auto", 1e-6, 1e-9, max_evals=1_000_000)
    assert torch.equal(default.ys, explicit.ys)
    assert gflow.SolveOptions() == gflow.SolveOptions("auto", 1e-6, 1e-9, 1_000_000, False)


@pytest.mark.parametrize("origin", [1e15, -1e9])
@pytest.mark.parametrize("method", ["auto", "bdf", "dopri5", "scipy:LSODA", "rk4"])
def test_a_late_start_is_a_start_at_zero(origin, method):
    """Near t = 1e15 times are 0.125 apart: counted from there, steps would underflow."""
    elapsed = [0.0, 0.25, 0.5, 4.0]
    options = {"step_size": 0.25} if method == "rk4" else {}
    late = gflow.integrate(FLOW, START, [origin + t for t in elapsed], method, **options)
    early = gflow.integrate(FLOW, START, elapsed, method, **options)
    assert late.ts.tolist() == [origin + t for t in elapsed]
    assert torch.equal(late.ys, early.ys)
    assert late.stats.rhs_evals == early.stats.rhs_evals
    assert late.certificate == early.certificate


def test_a_late_start_with_dense_output_events_checkpoints_and_progress():
    elapsed, states, seen = times(0.0, 0.25, 4.0), [], []
    starts = torch.stack([START, 2 * START])
    event = gflow.events.loss_reaches(FLOW, 0.8 * float(FLOW.loss(starts).min()))
    options = {"until": event, "dense": True}
    early = gflow.integrate(FLOW, starts, elapsed, **options)
    late = gflow.integrate(
        FLOW,
        starts,
        1e9 + elapsed,
        checkpoint=states.append,
        checkpoint_every=0.0,
        progress=lambda t, loss: seen.append(t),
        **options,
    )
    assert torch.equal(late.ends, early.ends)
    assert min(seen) > 1e9
    assert late.event_times.keys() == early.event_times.keys() != set()
    for i, t in early.event_times.items():
        assert late.event_times[i] - 1e9 == pytest.approx(t, abs=2e-7)
    resumed = gflow.integrate(FLOW, starts, 1e9 + elapsed, resume=states[3], **options)
    assert torch.equal(resumed.ends, early.ends)
    with pytest.raises(InputError, match="resumes the solve it was taken from"):
        gflow.integrate(FLOW, starts, elapsed, resume=states[3], **options)


def test_a_flow_that_depends_on_time_receives_its_own_time():
    class Driven(KernelFlow):
        affine = False

        def closed_form(self, y0):
            return None

        def __call__(self, t, y):
            return super().__call__(t, y) * (torch.as_tensor(t)[..., None] - 100.0)

    flow = Driven(torch.eye(1).double(), torch.zeros(1).double())
    for method in ("tsit5", "dopri5", "scipy:RK45"):
        path = gflow.integrate(flow, times(1.0), [100.0, 102.0], method, 1e-8)
        assert float(path.ys[-1, 0]) == pytest.approx(math.exp(-2.0), rel=1e-6)
        assert path.stats.rhs_evals < 500  # none follows the round-off of a time in float32
    starts = torch.ones(3, 1).double()
    path = gflow.integrate(flow, starts, [100.0, 102.0], "tsit5", 1e-8)
    assert path.ys[-1].flatten().tolist() == pytest.approx(3 * [math.exp(-2.0)], rel=1e-6)


def test_times_that_the_start_cannot_resolve_are_refused():
    with pytest.raises(InputError, match=r"0\.0 and 0\.001 cannot be told apart when time is"):
        gflow.integrate(FLOW, START, [-1e15, 0.0, 1e-3])


@pytest.mark.parametrize("method", ["auto", "bdf", "rock4", "dopri5", "scipy:LSODA", "rk4"])
def test_no_step_is_longer_than_max_step(method):
    options = {"step_size": 1.0} if method == "rk4" else {}
    path = gflow.integrate(FLOW, START, [0.0, 8.0], method, max_step=0.2, **options)
    assert 40 <= path.stats.accepted <= 90
    assert path.certificate.holds


def test_members_of_an_ensemble_keep_to_max_step():
    starts = torch.stack([START, 2 * START])
    path = gflow.integrate(FLOW, starts, [0.0, 8.0], options=gflow.SolveOptions(max_step=0.2))
    assert 80 <= path.stats.accepted <= 90
    with pytest.raises(InputError, match=r"max_step must be positive, .* got -1"):
        gflow.integrate(FLOW, START, [0.0, 8.0], max_step=-1)
