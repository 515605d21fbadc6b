import math

import pytest
import torch

import gflow
from gflow.descent.divergence import DivergenceMonitor
from gflow.flows import FactorFlow, KernelFlow
from gflow.losses import SquaredDistance
from tests.helpers import make_loss, of_rank, relative, times

ONE = KernelFlow(torch.ones(1, 1, dtype=torch.float64), times(1.0))
ZERO = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("eta", [2.1, 2.5, 10.0])
def test_divergence_is_reported(eta):
    gd = gflow.descend(ONE, ZERO, eta, 5000, save_every=50)
    assert gd.diverged_at == 0  # |1 − η| > 1: the error grows from the first step
    assert torch.isfinite(gd.ys).all()
    assert "DIVERGED from step 0" in repr(gd)
    assert int(gd.steps[-1]) < 5000


def test_divergence_names_the_step_it_began_at():
    # Starts near 0, where the curvature is small; near the minimum 2/λ_max is exceeded.
    flow = FactorFlow(make_loss("distance", 3, 3))
    U0 = 0.01 * of_rank(3, 3, 3)
    gd = gflow.descend(flow, U0, 0.6, 400, save_every=10)
    speeds = []
    theta = U0
    for _ in range(400):
        rate = flow(0.0, theta)
        speeds.append(float(rate.norm()))
        theta = theta + 0.6 * rate
        if not math.isfinite(speeds[-1]):
            break
    finite = [s for s in speeds if math.isfinite(s)]
    assert gd.diverged_at == finite.index(min(finite))


@pytest.mark.parametrize("eta", [0.1, 1.0, 1.9])
def test_stable_descent_is_not_reported_as_divergent(eta):
    gd = gflow.descend(ONE, ZERO, eta, 500)
    assert gd.diverged_at is None
    assert relative(gd.ys[-1], ONE.targets) <= 1e-10


def test_stationary_start():
    gd = gflow.descend(ONE, ONE.targets, 0.5, 100)
    assert gd.diverged_at is None
    assert torch.equal(gd.ys, ONE.targets.expand_as(gd.ys))


def test_growth_from_a_saddle_is_not_divergence():
    flow = gflow.FactorFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)))
    gd = gflow.descend(flow, 1e-13 * torch.eye(2, dtype=torch.float64), 0.1, 600)
    assert gd.diverged_at is None
    assert float(gd.losses[-1]) < 1e-12


def test_slow_divergence_is_reported():
    flow = gflow.KernelFlow(torch.eye(1, dtype=torch.float64), torch.ones(1).double())
    gd = gflow.descend(flow, torch.zeros(1).double(), 2.2, 100)  # the limit is 2
    assert gd.diverged_at == 0
    assert "DIVERGED" in repr(gd)


def test_divergence_begins_at_the_least_speed_of_each_member():
    monitor = DivergenceMonitor(times(1.0, 2.0))
    monitor.update(torch.stack([times(3.0, 1.0), times(2.0, 5.0)]), times(1.0, 1e5))
    assert monitor.diverged_at == [None, None]
    monitor.update(torch.stack([times(1.0, 9.0), times(4.0, 20.0)]), times(0.5, math.inf))
    assert monitor.diverged_at == [None, 0]
    monitor.update(torch.stack([times(7.0, 0.1)]), times(math.nan, 0.0))
    assert monitor.diverged_at == [2, 0]


def test_a_restored_monitor_continues_as_the_stored_one():
    monitor = DivergenceMonitor(times(1.0, 2.0))
    monitor.update(torch.stack([times(3.0, 1.0), times(2.0, 5.0)]), times(1.0, 1.0))
    restored = DivergenceMonitor.from_checkpoint(monitor.meta(), monitor.tensors())
    for m in (monitor, restored):
        m.update(torch.stack([times(8.0, 9.0)]), times(1e9, 1e9))
    assert restored.diverged_at == monitor.diverged_at == [1, 0]
    assert restored.meta() == monitor.meta()
