"""Members leave the loop when they have finished or failed; the others continue."""

import math

import pytest
import torch

import gflow
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.losses import SquaredDistance
from gflow.trajectory import IntegrationError
from tests.helpers import slow_except, times
from tests.solvers.loop.cases import ENSEMBLE_METHODS, STARTS, M


class Explosive(KernelFlow):
    """u̇ = −u below 1/2 and u² above: the loss is bounded below only for small starts."""

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


def test_finished_members_leave_the_loop():
    sizes = []

    class Seen(EndToEndFlow):
        def __call__(self, t, y):
            sizes.append(len(y) if y.ndim == 3 else 1)
            return super().__call__(t, y)

    gflow.integrate(Seen(SquaredDistance(M), 3), STARTS, [0.0, 12.0], "tsit5", 1e-3)
    assert sizes[0] == 4
    assert 1 in sizes
    seen = [s for s in sizes if s <= 4]
    assert sum(seen) < 0.9 * 4 * len(seen)


@pytest.mark.slow
@pytest.mark.parametrize("method", slow_except(["auto", *ENSEMBLE_METHODS], "auto", "tsit5"))
def test_a_member_that_fails_does_not_stop_the_others(method):
    starts = times(0.1, 1.0, 0.3)[:, None]
    path = gflow.integrate(Explosive(), starts, [0.0, 0.5, 5.0], method, max_evals=3_000)
    assert list(path.failures) == [1]
    assert "stopped at t = " in path.failures[1]
    assert float(path.ends[1]) > 10  # close to the pole at t = 1
    assert torch.isnan(path.ys[2, 1]).all()
    for i in (0, 2):
        decayed = float(starts[i]) * math.exp(-5.0)
        assert float(path.ys[2, i]) == pytest.approx(decayed, rel=1e-4)
    assert "1 members FAILED" in repr(path)


def test_an_error_is_raised_if_all_members_fail():
    with pytest.raises(IntegrationError, match="stopped at t = ") as caught:
        gflow.integrate(Explosive(), times(1.0, 2.0)[:, None], [0.0, 5.0], "tsit5", max_evals=999)
    assert list(caught.value.trajectory.failures) == [0, 1]
    assert str(caught.value).count("stopped at t = ") == 1
    assert caught.value.trajectory.failures[1].endswith(caught.value.reason)  # the first to stop
