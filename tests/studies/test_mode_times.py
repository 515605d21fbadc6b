"""Half-times of modes against closed forms, and their laws in the scale of the start."""

import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.losses import SquaredDistance
from gflow.solvers import SolveOptions
from gflow.studies.mode_times import _mode_reaches, escape_time, mode_times

OPTIONS = SolveOptions(rtol=1e-7, atol=0.0, points=30)
TARGET = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))


def measured(depth, scales, modes=(3.0, 2.0, 1.0), **keys):
    loss = SquaredDistance(TARGET)
    return mode_times(
        loss, modes, scales, depth, options=OPTIONS, stages=lambda name, t: None, **keys
    )


def half_time(depth, start, m):
    """Integrate dt = ds/(N s^{2−2/N}(m − s)) to m/2, independently of the library."""
    from scipy.integrate import quad

    rate = lambda x: 1 / (depth * math.exp(x * (1 - 2 / depth)) * (m - math.exp(x)))  # noqa: E731
    return quad(rate, math.log(start), math.log(m / 2), epsabs=0, epsrel=1e-11)[0]


@pytest.mark.parametrize("depth", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 4))])
def test_half_times_are_those_of_modes_that_no_other_meets(depth):
    scales = [1e-2, 1e-3, 1e-4]
    found = measured(depth, scales)
    expected = [[half_time(depth, alpha, m) for m in (3.0, 2.0, 1.0)] for alpha in scales]
    torch.testing.assert_close(
        found.half_times, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0
    )
    assert found.in_order
    assert found.growth_rate == pytest.approx(3.0, rel=1e-12)
    assert all(path.certificate.holds for path in found.paths)
    theory = found.theory[-1] if depth > 2 else found.theory
    assert found.shifts[-1:] == pytest.approx(theory.reshape(-1)[-1:], rel=1e-2)
    if depth > 2:
        assert found.exponent == pytest.approx(2 / depth - 1, rel=1e-2)
        assert math.isnan(float(found.theory[0]))
    else:
        assert found.exponent is None


def test_depth_one_learns_all_modes_together():
    found = measured(1, [1e-3])
    # s = m + (α − m)e^{−t} has half of its last value, nearly m, at t = log 2.
    assert found.half_times[0].tolist() == pytest.approx([math.log(2)] * 3, rel=5e-3)
    assert found.exponent is None


def test_a_path_that_is_too_short_leaves_modes_out():
    found = measured(2, [1e-3], t_end=half_time(2, 1e-3, 2.0) * 1.02)
    assert found.half_times[0].isfinite().tolist() == [True, True, False]
    assert not found.in_order


def test_escape_time_is_the_integral():
    for depth in (2, 3, 5):
        ts = torch.linspace(math.log(1e-4), 0.0, 100_001, dtype=torch.float64)
        rates = 1 / (depth * torch.exp(ts * (1 - 2 / depth)) * 2.0)
        expected = float(torch.trapezoid(rates, ts))
        assert escape_time(1e-4, 1.0, depth, 2.0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("modes", "scales", "message"),
    [
        ((1.0,) * 4, [1e-3], r"at most 3 modes in a matrix of shape \(3, 3\), got 4"),
        ((3.0, 1.0), [0.6], "below half of the least mode 1, got the scale 0.6"),
    ],
)
def test_input_errors(modes, scales, message):
    with pytest.raises(InputError, match=message):
        measured(2, scales, modes)


def test_a_trial_step_that_overflows_is_beyond_every_level():
    flow = gflow.SpectralFlow(SquaredDistance(TARGET))
    eye = torch.eye(3, dtype=torch.float64)
    y = flow.pack(torch.tensor([1e4, 0.0, -1e4], dtype=torch.float64), eye, eye)
    assert not bool(flow.end_to_end(y).isfinite().all())
    assert [float(_mode_reaches(flow, k, 2.0)(y)) < 0 for k in range(3)] == [True, False, False]
