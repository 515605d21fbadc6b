"""Flows of a loss alone, against the flow of the same loss by closed formulas."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import flow_from_loss
from gflow.losses import SquaredDistance
from tests.helpers import randn, relative, times

M = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
U = torch.tensor([[0.5, 0.1], [0.2, 0.4]], dtype=torch.float64)
KNOWN = gflow.FactorFlow(SquaredDistance(M))
FLOW = flow_from_loss(lambda U: 0.5 * (U @ U.mT - M).square().sum())


def test_a_matrix_is_one_state():
    path = gflow.integrate(FLOW, U, [0.0, 0.5, 1.0], rtol=1e-9, atol=1e-12)
    known = gflow.integrate(KNOWN, U, [0.0, 0.5, 1.0], rtol=1e-9, atol=1e-12)
    assert path.certificate.holds
    assert relative(path.ys, known.ys) <= 1e-8
    assert relative(path.losses, known.losses) <= 1e-8
    gd = gflow.descend(FLOW, U, 0.1, 5)
    assert relative(gd.ys, gflow.descend(KNOWN, U, 0.1, 5).ys) <= 1e-14
    assert gflow.compare(path, gd).ts.tolist() == [0.0, 0.5]
    top, known_top = (gflow.spectra.sharpness(f, U, 4).values for f in (FLOW, KNOWN))
    assert relative(top, known_top) <= 1e-9


def test_derivatives_are_those_of_the_known_flow():
    flow, v = FLOW.for_start(U), randn(2, 2)
    assert relative(flow(0.0, U), KNOWN(0.0, U)) <= 1e-14
    assert relative(flow.jvp(U, v), KNOWN.jvp(U, v)) <= 1e-14
    assert relative(flow.linearised(U)(v), KNOWN.jvp(U, v)) <= 1e-14
    modified = gflow.ModifiedFlow(FLOW, 0.1).for_start(U)
    assert relative(modified(0.0, U), gflow.ModifiedFlow(KNOWN, 0.1)(0.0, U)) <= 1e-13


@pytest.mark.slow
def test_a_study_with_its_modified_flow():
    study = gflow.step_size_study(FLOW, U, 1.0, [0.04, 0.02, 0.01], modified=True, points=5)
    assert study.order == pytest.approx(1.0, abs=0.1)
    assert study.modified_order == pytest.approx(2.0, abs=0.1)


def test_ensembles_need_the_shape():
    starts = torch.stack([U, 2 * U, -U])
    flow = flow_from_loss(FLOW.loss_function, shape=(2, 2))
    path = gflow.integrate(flow, starts, [0.0, 1.0], "dopri8", 1e-10, 1e-13)
    alone = gflow.integrate(FLOW, 2 * U, [0.0, 1.0], "dopri8", 1e-10, 1e-13)
    assert relative(path.ys[:, 1], alone.ys) <= 1e-8
    with pytest.raises(InputError, match="may be one state or several: pass shape="):
        FLOW.loss(starts)
    assert relative(FLOW.for_start(U).loss(starts), KNOWN.loss(starts)) <= 1e-15


def test_a_branch_on_a_value_is_evaluated_member_by_member():
    flow = flow_from_loss(lambda w: w.square().sum() if w[0] > 0 else 2 * w.square().sum(), shape=2)
    ys = torch.stack([times(1.0, 1.0), times(-1.0, 1.0)])
    assert flow(0.0, ys).tolist() == [[-2.0, -2.0], [4.0, -4.0]]


def test_one_number_is_a_state():
    path = gflow.integrate(flow_from_loss(lambda w: 0.5 * w**2), times(2.0)[0], [0.0, 1.0])
    assert path.certificate.holds
    assert path.certificate.velocity_error <= 1e-10
    assert float(path.ys[-1]) == pytest.approx(2 / torch.e, rel=1e-6)


def test_events_and_invariants():
    loss = lambda w: 0.25 * (w[0] * w[1] - 1) ** 2  # noqa: E731
    flow = flow_from_loss(loss, {"balance": lambda w: w[0] ** 2 - w[1] ** 2})
    path = gflow.integrate(flow, times(0.3, 0.3), [0.0, 50.0], until=loss_reaches(flow, 1e-3))
    assert path.event_times
    assert path.certificate.invariant_drift["balance"] <= 1e-9  # zero at the start
    false = flow_from_loss(loss, {"first": lambda w: w[0]})
    path = gflow.integrate(false, times(0.3, 0.3), [0.0, 50.0])
    assert "drift of first" in repr(path.certificate)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda w: w.square(),
            r"must return a scalar tensor, got a tensor of shape \(2,\); sum it",
        ),
        (lambda w: w.sum().item(), "must return a scalar tensor, got 3.0; use torch, not NumPy"),
        (lambda w: (w.numpy() ** 2).sum(), "at the start fails: RuntimeError: Can't call numpy"),
        (lambda w: w.detach().sum(), "must be differentiable, but its result does not depend"),
        (lambda w: w.sum().float(), "must return the dtype and device of the state"),
        (lambda w: w.sum() * torch.rand(()), "but two calls differ"),
        (lambda w, x: w.sum(), "but missing a required argument"),
    ],
)
def test_what_is_no_loss_of_the_state_is_refused(loss, message):
    with pytest.raises(InputError, match=message) as caught:
        gflow.integrate(flow_from_loss(loss), times(1.0, 2.0), [0.0, 1.0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.nn.Linear(2, 1),), "got a module; .*NetworkFlow"),
        ((3,), "loss_function must be a function"),
        ((torch.sum, [torch.sum]), "invariants must be a mapping of names to functions"),
        ((torch.sum, {"a": 1.0}), "invariant 'a' must be a function"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(InputError, match=message):
        flow_from_loss(*arguments)
    with pytest.raises(InputError, match="each of shape must be a whole number"):
        flow_from_loss(torch.sum, shape=(2, 0))
