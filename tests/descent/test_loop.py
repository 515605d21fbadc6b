import pytest
import torch

import gflow
from gflow.descent import DescentRequest, descend_measured, serve_descent
from gflow.flows import KernelFlow
from tests.helpers import randn, times


def test_measured_descent_has_the_same_states_and_leaves_the_start_unchanged():
    scales = times(1.0, 0.25)
    flow = KernelFlow(lambda v: (v.mT * scales).mT, times(1.0, 2.0))  # no closed form
    start = randn(3, 2)
    before = start.clone()
    gd = gflow.descend(flow, start, 0.5, 6, save_every=2)
    record = descend_measured(flow, start, 0.5, [0, 2, 4, 6], lambda k, y: {"y": 1 * y})
    assert torch.equal(start, before)
    assert record.diverged_at == [None] * 3
    assert record.steps == gd.steps.tolist()
    assert torch.equal(record.values["y"], gd.ys)


def test_measured_descent_names_the_members_that_diverge_and_continues_the_others():
    flow = KernelFlow(torch.diag(times(4.0, 1.0)), times(0.0, 0.0))
    starts = torch.stack(
        [times(0.0, 1.0), times(1.0, 1.0)]
    )  # the first has no component in the mode of eigenvalue 4
    record = descend_measured(flow, starts, 0.6, [200], lambda k, y: {"y": 1 * y})
    assert record.diverged_at[0] is None
    assert isinstance(record.diverged_at[1], int)
    assert float(record.values["y"][0, 0].norm()) == pytest.approx(0.4**200, rel=1e-9)


def test_served_descent_is_the_path_of_its_request():
    flow = KernelFlow(torch.diag(times(1.0, 0.25)), times(1.0, 2.0))
    start = randn(3, 2)
    request = DescentRequest(flow, start, 0.5, [0, 2, 4, 6], 0.3)
    assert request.batch == (3,)
    gd = gflow.descend(flow, start, 0.5, 6, save_every=2, momentum=0.3)
    assert torch.equal(serve_descent(request).values["parameters"], gd.parameters)
