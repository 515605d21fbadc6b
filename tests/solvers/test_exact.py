import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow, ProductFlow
from gflow.losses import SquaredDistance
from tests.helpers import altered, make_loss, randn, relative, times

FLOW = KernelFlow(torch.diag(times(1e4, 1.0, 0.0)), times(1.0, 2.0, 3.0))
START = torch.zeros(3, dtype=torch.float64)


def test_states_are_the_closed_form_for_any_unit_of_time():
    path = gflow.integrate(FLOW, START, [5.0, 5.5, 1e6], "exact")
    assert torch.equal(path.ys, FLOW.exact(times(0.0, 0.5, 1e6 - 5), START))
    assert path.stats.method == "exact"
    assert path.stats.reason == "requested"
    assert path.certificate.error_estimate is None
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize("T", [1e-9, 1e-5, 1.0, 1e3, 1e9])
def test_energy_of_fast_and_slow_modes(T):
    path = gflow.integrate(FLOW, START, [0.0, T], "exact")
    assert path.certificate.energy_residual <= 1e-9
    assert path.certificate.holds, path.certificate


def test_auto_reports_the_closed_form():
    assert "eigendecomposition of H" in gflow.integrate(FLOW, START, [0.0, 1.0]).stats.reason
    flow = EndToEndFlow(make_loss("completion", 2, 3), 2)
    W0 = 0.5 * randn(2, 3)
    stats = gflow.integrate(flow, W0, [0.0, 1.0]).stats
    assert stats.method != "exact"
    assert "no closed form" in stats.reason


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-9])
def test_energy_of_a_mode_that_leaves_late(rtol):
    """The loss falls late, where the panels chosen from the speed at the start are long."""
    flow = EndToEndFlow(SquaredDistance(torch.diag(times(3.0, 1.0))), 2)
    W0 = torch.diag(times(1e-6, 1e-9))
    path = gflow.integrate(flow, W0, [0.0, 1.0, 100.0], "exact", rtol, 1e-3 * rtol)
    assert path.certificate.energy_residual <= max(rtol, 1e-13)
    assert path.certificate.holds, path.certificate


def test_requested_times_do_not_change_the_energy_or_the_states():
    sparse = gflow.integrate(FLOW, START, [0.0, 2.0, 10.0], "exact")
    fine = gflow.integrate(FLOW, START, torch.linspace(0.0, 10.0, 101).double(), "exact")
    assert sparse.stats.rhs_evals == fine.stats.rhs_evals
    assert relative(fine.ys[[20, 100]], sparse.ys[1:]) <= 1e-15
    assert fine.stats.accepted == 100
    seen = []
    gflow.integrate(FLOW, START, [0.0, 2.0, 10.0], "exact", progress=lambda t, loss: seen.append(t))
    assert seen == [2.0, 10.0]


def test_wrong_closed_form_is_caught():
    wrong = altered(FLOW, lambda inner, t, y: inner(t, y))
    type(wrong).exact = lambda self, ts, y0: KernelFlow.exact(self, 1.1 * ts, y0)
    path = gflow.integrate(wrong, START, [0.0, 0.5, 2.0], "exact")
    assert not path.certificate.holds
    assert path.certificate.energy_residual > 0.01


def test_wrong_right_hand_side_is_caught_on_the_exact_path():
    wrong = altered(FLOW, lambda inner, t, y: 2 * inner(t, y))
    assert not gflow.integrate(wrong, START, [0.0, 0.5, 2.0], "exact").certificate.holds


def test_flows_and_starts_without_a_closed_form_are_refused():
    for flow, y0 in (
        (EndToEndFlow(SquaredDistance(randn(2, 3)), 3), randn(2, 3, seed=1)),
        (ProductFlow(make_loss("completion", 3, 3)), torch.eye(3, dtype=torch.float64)),
        (FLOW, torch.stack([START, START])),  # an ensemble
    ):
        with pytest.raises(InputError, match="no closed form for this loss and start"):
            gflow.integrate(flow, y0, [0.0, 1.0], "exact")


@pytest.mark.parametrize("rank", [1, 2])
def test_rank_deficient_start_far_in_time(rank):
    M = torch.diag(times(3.0, 2.0, 1.0))
    W0 = torch.diag(times(*([0.5, 0.4, 0.3][:rank] + [0.0] * (3 - rank))))
    for depth in (2, 3, 4):
        path = gflow.integrate(EndToEndFlow(SquaredDistance(M), depth), W0, [0.0, 1e4])
        limit = torch.diag(M.diagonal() * (W0.diagonal() > 0))
        assert path.stats.method == "exact"
        assert relative(path.ys[-1], limit) <= 1e-12
        assert path.certificate.holds, path.certificate
    path = gflow.integrate(ProductFlow(SquaredDistance(M)), W0, [0.0, 1e4])
    assert relative(path.ys[-1], limit) <= 1e-12
    assert path.certificate.holds, path.certificate
