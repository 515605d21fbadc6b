import dataclasses

import pytest
import torch

import gflow
from gflow.descent import descend_to
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, FactorFlow, KernelFlow, LayerwiseFlow, ProductFlow
from tests.helpers import make_loss, of_rank, randn, relative, times

FLOW = KernelFlow(torch.diag(times(1.0, 0.5)), times(1.0, -1.0))
START = torch.zeros(2, dtype=torch.float64)


def test_gap_of_the_kernel_flow_is_known():
    gd = gflow.descend(FLOW, START, 0.2, 10)
    gap = gflow.compare(gflow.integrate(FLOW, START, gd.ts), gd)
    lam = times(1.0, 0.5)
    k = torch.arange(11).double()[:, None]
    truth = (((1 - 0.2 * lam) ** k - torch.exp(-0.2 * k * lam)) * times(1.0, -1.0)).norm(dim=1)
    assert float((gap.end_to_end - truth).abs().max()) <= 1e-14
    assert torch.equal(gap.parameters, gap.end_to_end)
    assert gap.largest == float(gap.end_to_end.max())
    size = FLOW.exact(gd.ts, START).norm(dim=1)
    assert relative(gap.relative[1:], truth[1:] / size[1:]) <= 1e-12
    assert gap.relative[0] == 0


def test_reduced_flow_is_compared_on_the_end_to_end_object():
    loss = make_loss("completion", 2, 3)
    W0 = of_rank(2, 2, 3)
    flow = EndToEndFlow(loss, 3)
    layers = flow.parameter_flow
    gd = gflow.descend(layers, flow.lift(W0), 0.01, 100, save_every=50)
    reduced_descent = gflow.descend(flow, W0, 0.01, 100, save_every=50)
    path = gflow.integrate(flow, W0, gd.ts, "dopri8", 1e-10, 1e-13)
    theta = gflow.integrate(layers, flow.lift(W0), gd.ts, "dopri8", 1e-10, 1e-13)
    across, reduced, inside = (
        gflow.compare(path, gd),
        gflow.compare(path, reduced_descent),
        gflow.compare(theta, gd),
    )
    assert across.parameters is None
    assert reduced.parameters is None
    assert relative(reduced.end_to_end, across.end_to_end) <= 1e-12
    assert relative(inside.end_to_end, across.end_to_end) <= 1e-6
    assert relative(inside.parameters, (theta.ys - gd.ys).norm(dim=1)) <= 1e-14


def test_factor_against_product():
    loss = make_loss("sensing", 3, 3)
    U0 = of_rank(3, 3, 3)
    gd = gflow.descend(FactorFlow(loss), U0, 0.01, 20)
    path = gflow.integrate(ProductFlow(loss), U0 @ U0.mT, gd.ts, "dopri8", 1e-10, 1e-13)
    gap = gflow.compare(path, gd)
    truth = (path.ys - gd.ys @ gd.ys.mT).flatten(1).norm(dim=1)
    assert relative(gap.end_to_end, truth) <= 1e-14


def test_ensembles_are_compared_by_member():
    starts = torch.stack([START, START + 1, START - 2])
    gd = gflow.descend(FLOW, starts, 0.1, 5)
    gap = gflow.compare(gflow.integrate(FLOW, starts, gd.ts), gd)
    assert gap.end_to_end.shape == (6, 3)
    for i, start in enumerate(starts):
        gd = gflow.descend(FLOW, start, 0.1, 5)
        alone = gflow.compare(gflow.integrate(FLOW, start, gd.ts, "dopri5"), gd)
        assert float((gap.end_to_end[:, i] - alone.end_to_end).abs().max()) <= 1e-5


def test_only_shared_times_are_compared():
    gd = gflow.descend(FLOW, START, 0.25, 8)  # 0, 0.25, …, 2
    path = gflow.integrate(FLOW, START, [0.0, 0.1, 0.5, 0.75 * (1 + 1e-12), 1.1, 2.0])
    assert gflow.compare(path, gd).ts.tolist() == [0.0, 0.5, 0.75 * (1 + 1e-12), 2.0]
    late = gflow.integrate(FLOW, START, [3.0, 3.5])  # the clock of the path starts anywhere
    assert gflow.compare(late, gd).ts.tolist() == [3.0, 3.5]
    assert gflow.compare(late, gd).largest == gflow.compare(path, gd).end_to_end[1]
    with pytest.raises(InputError, match="must have a time in common"):
        gflow.compare(path, descend_to(FLOW, START, 0.25, [5]))


def test_solver_error_is_shown_beside_the_gap():
    gd = gflow.descend(FLOW, START, 0.25, 4)
    path = gflow.integrate(FLOW, START, gd.ts, "dopri5")
    assert gflow.compare(path, gd).solver_error == path.certificate.error_estimate > 0


def test_different_objects_are_refused():
    gd = gflow.descend(FLOW, START, 0.25, 4)
    loss = make_loss("distance", 2, 3)
    path = gflow.integrate(LayerwiseFlow(loss, [3, 2]), randn(6), gd.ts)
    with pytest.raises(InputError, match=r"same object, got shapes \(2, 3\) and \(2,\)"):
        gflow.compare(path, gd)


def test_result_is_frozen():
    gd = gflow.descend(FLOW, START, 0.25, 4)
    gap = gflow.compare(gflow.integrate(FLOW, START, gd.ts), gd)
    with pytest.raises(dataclasses.FrozenInstanceError):
        gap.ts = gd.ts


def test_parameters_are_compared_with_the_descent_of_a_reduced_flow():
    flow = EndToEndFlow(make_loss("distance", 2, 3), 2)
    W0 = 0.3 * randn(2, 3)
    gd = gflow.descend(flow, W0, 0.01, 20)
    path = gflow.integrate(flow.parameter_flow, flow.lift(W0), gd.ts)
    gap = gflow.compare(path, gd)
    expected = flow.parameter_flow.norm(path.ys - gd.parameters)
    assert torch.equal(gap.parameters, expected)
    assert gflow.compare(gflow.integrate(flow, W0, gd.ts), gd).parameters is None
