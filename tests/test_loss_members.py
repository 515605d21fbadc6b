"""Losses whose data differ from member to member, against the members alone."""

import math

import pytest
import torch

import gflow
from gflow.baselines import greedy_low_rank
from gflow.errors import InputError
from gflow.flows import TwoLayerFlow
from gflow.losses import MatrixCompletion, MatrixSensing
from gflow.studies import completion_study
from tests.helpers import randn, relative, slow_except

SIZE, COUNT = 4, 3
VALUES = randn(SIZE, SIZE, seed=1)
MASKS = torch.stack([randn(SIZE, SIZE, seed=s) > x for s, x in ((2, -0.5), (3, 0.3), (4, -1.0))])
SYMMETRIC = VALUES + VALUES.mT

LOSSES = {
    "masks": (
        MatrixCompletion(VALUES, MASKS),
        lambda i: MatrixCompletion(VALUES, MASKS[i]),
    ),
    "masks and values": (
        MatrixCompletion(torch.stack([k * VALUES for k in (1, 2, 3)]), MASKS),
        lambda i: MatrixCompletion((i + 1) * VALUES, MASKS[i]),
    ),
    "values": (
        MatrixCompletion(torch.stack([VALUES, -VALUES, 2 * VALUES]), MASKS[0]),
        lambda i: MatrixCompletion((1, -1, 2)[i] * VALUES, MASKS[0]),
    ),
    "few measurements": (
        MatrixSensing(randn(COUNT, 5, SIZE, SIZE), randn(COUNT, 5, seed=5)),
        lambda i: MatrixSensing(randn(COUNT, 5, SIZE, SIZE)[i], randn(COUNT, 5, seed=5)[i]),
    ),
    "many measurements, values of all": (
        MatrixSensing(randn(COUNT, 20, SIZE, SIZE), randn(20, seed=5)),
        lambda i: MatrixSensing(randn(COUNT, 20, SIZE, SIZE)[i], randn(20, seed=5)),
    ),
    "measurements of all": (
        MatrixSensing(randn(5, SIZE, SIZE), randn(COUNT, 5, seed=5)),
        lambda i: MatrixSensing(randn(5, SIZE, SIZE), randn(COUNT, 5, seed=5)[i]),
    ),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


@every_loss
def test_values_and_gradients_are_those_of_each_member(name):
    loss, alone = LOSSES[name]
    W = randn(2, COUNT, SIZE, SIZE, seed=9)  # two times
    assert loss.members == (COUNT,)
    assert loss(W).shape == (2, COUNT)
    for i in range(COUNT):
        one = alone(i)
        assert relative(loss(W)[:, i], one(W[:, i])) <= 1e-13
        assert relative(loss.gradient(W)[:, i], one.gradient(W[:, i])) <= 1e-13
        descent = loss.symmetric_descent(W)[:, i]
        assert relative(descent, one.symmetric_descent(W[:, i])) <= 1e-13


@every_loss
def test_some_members_and_one(name):
    loss, alone = LOSSES[name]
    W = randn(2, SIZE, SIZE, seed=9)
    loss.symmetric_descent(randn(COUNT, SIZE, SIZE))  # what it remembers is not handed on
    some = loss.for_members(torch.tensor([2, 0]))
    for k, i in enumerate((2, 0)):
        assert float(some(W)[k]) == pytest.approx(float(alone(i)(W[k])), rel=1e-13)
        descent = alone(i).symmetric_descent(W[k])
        assert relative(some.symmetric_descent(W)[k], descent) <= 1e-13
    one = loss.for_members(torch.tensor(1))
    assert one.members == ()
    assert relative(one.gradient(W[0]), alone(1).gradient(W[0])) <= 1e-13
    assert loss.on_arrays() is None
    arrays = one.on_arrays()
    assert relative(torch.from_numpy(arrays.gradient(W[0].numpy())), one.gradient(W[0])) <= 1e-13
    assert alone(0).for_members(torch.tensor([0])).members == ()


def test_a_grid_of_members_is_taken_in_one_row():
    masks = torch.stack([MASKS, ~MASKS])
    loss = MatrixCompletion(VALUES, masks)
    assert loss.members == (2, COUNT)
    assert repr(loss) == "MatrixCompletion(4 × 4, of 6 members)"
    assert loss.observed_count.tolist() == masks.sum((-2, -1)).tolist()
    W = randn(SIZE, SIZE)
    flow = gflow.EndToEndFlow(loss, 2)
    y0 = 0.4 * randn(2, COUNT, SIZE, SIZE, seed=7)
    until = gflow.events.loss_reaches(flow, 0.2 * float(flow.loss(y0).min()))
    path = gflow.integrate(flow, y0, [0.0, 1e3], rtol=1e-6, atol=1e-9, until=until)
    for k in range(6):
        at = divmod(k, COUNT)
        one, t = gflow.EndToEndFlow(MatrixCompletion(VALUES, masks[at]), 2), path.event_times[k]
        truth = gflow.integrate(one, y0[at], [0.0, t], rtol=1e-9, atol=1e-12)
        assert relative(path.ends[at], truth.ys[-1]) <= 1e-4
    one = loss.for_members(torch.tensor([4]))
    assert float(one(W[None])[0]) == pytest.approx(float(MatrixCompletion(VALUES, ~MASKS[1])(W)))


FLOWS = {
    "layers": lambda loss: (
        flow := gflow.LayerwiseFlow(loss, [SIZE] * 4),
        0.3 * randn(COUNT, *flow.state_shape),
    ),
    "end to end": lambda loss: (gflow.EndToEndFlow(loss, 2), 0.4 * randn(COUNT, SIZE, SIZE)),
    "factor": lambda loss: (gflow.FactorFlow(loss), 0.4 * randn(COUNT, SIZE, 2)),
    "product": lambda loss: (
        gflow.ProductFlow(loss),
        (U := 0.4 * randn(COUNT, SIZE, SIZE)) @ U.mT,
    ),
    "spectral": lambda loss: (
        flow := gflow.SpectralFlow(loss, 2),
        flow.start(0.4 * randn(COUNT, SIZE, SIZE)),
    ),
}


@pytest.mark.parametrize("kind", slow_except(FLOWS, "layers", "factor", "product", "end to end"))
@pytest.mark.parametrize("name", ["masks and values", "few measurements"])
def test_paths_are_those_of_members_solved_alone(kind, name):
    loss, alone = LOSSES[name]
    flow, y0 = FLOWS[kind](loss)
    path = gflow.integrate(flow, y0, [0.0, 1.0, 3.0], rtol=1e-7, atol=1e-9)
    assert path.certificate.holds, path.certificate.failures()
    for i in range(COUNT):
        one = FLOWS[kind](alone(i))[0]
        truth = gflow.integrate(one, y0[i], [0.0, 1.0, 3.0], rtol=1e-10, atol=1e-12)
        W, V = path.flow.end_to_end(path.ys[:, i]), truth.flow.end_to_end(truth.ys)
        assert relative(W, V) <= 1e-5


def test_members_that_end_leave_the_others_their_data():
    loss, alone = LOSSES["masks and values"]
    flow, y0 = FLOWS["layers"](loss)
    ends = 0.1 * flow.loss(y0).min()
    path = gflow.integrate(
        flow, y0, [0.0, 1e4], rtol=1e-6, atol=1e-9, until=gflow.events.loss_reaches(flow, ends)
    )
    assert relative(flow.loss(path.ends), ends.expand(COUNT)) <= 1e-3
    times = [path.event_times.get(i, float(path.ts[-1])) for i in range(COUNT)]
    assert len(set(times)) == COUNT
    for i, t in enumerate(times):
        one = FLOWS["layers"](alone(i))[0]
        truth = gflow.integrate(one, y0[i], [0.0, t], rtol=1e-10, atol=1e-12)
        assert relative(path.ends[i], truth.ys[-1]) <= 1e-3


def test_descent_and_modified_flow():
    loss, alone = LOSSES["masks"]
    flow, y0 = FLOWS["layers"](loss)
    steps = torch.tensor([0.02, 0.05, 0.1], dtype=torch.float64)
    gd = gflow.descend(flow, y0, step_size=0.05, steps=20)
    modified = gflow.ModifiedFlow(flow, steps)
    path = gflow.integrate(modified, y0, [0.0, 1.0], rtol=1e-8, atol=1e-10)
    for i in range(COUNT):
        one = FLOWS["layers"](alone(i))[0]
        assert relative(gd.ys[:, i], gflow.descend(one, y0[i], 0.05, steps=20).ys) < 1e-13
        truth = gflow.integrate(
            gflow.ModifiedFlow(one, float(steps[i])), y0[i], [0.0, 1.0], rtol=1e-9, atol=1e-11
        )
        assert relative(path.ys[-1, i], truth.ys[-1]) <= 1e-6


def test_a_scale_alone_starts_every_member():
    loss, _ = LOSSES["masks"]
    flow = gflow.SpectralFlow(loss, 3)
    y0 = flow.start(log_scale=math.log(1e-4))
    assert flow.batch_shape(y0) == (COUNT,)
    assert (
        relative(flow.end_to_end(y0), 1e-4 * torch.eye(SIZE).double().expand(COUNT, -1, -1)) < 1e-14
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MatrixCompletion(VALUES, torch.stack([MASKS[0], 0 * MASKS[0]])), "of each member"),
        (
            lambda: MatrixCompletion(VALUES.expand(2, -1, -1), MASKS),
            r"values and mask must have the same members.*\(2, 4, 4\) and \(3, 4, 4\)",
        ),
        (
            lambda: MatrixSensing(randn(2, 5, 3, 3), randn(3, 5)),
            "measurements and values must have the same members",
        ),
        (lambda: MatrixSensing(randn(3, 3), randn(3)), "measurements must have 3 dimensions"),
        (
            lambda: gflow.integrate(
                gflow.EndToEndFlow(LOSSES["masks"][0], 2), randn(SIZE, SIZE), [0.0, 1.0]
            ),
            r"must have the members of its data, \(3,\).*got shape \(4, 4\)",
        ),
        (
            lambda: greedy_low_rank(LOSSES["masks"][0], 2),
            r"must be that of one matrix, got MatrixCompletion\(4 × 4, of 3 members\)",
        ),
        (
            lambda: completion_study(VALUES, MASKS, [2], [0.1]),
            r"mask must be one for all starts, of shape \(4, 4\), got \(3, 4, 4\)",
        ),
        (
            lambda: gflow.descend(
                gflow.FactorFlow(LOSSES["masks"][0]), randn(2, SIZE, 2), 0.1, steps=1
            ),
            r"must have the members of its data, \(3,\)",
        ),
        (
            lambda: gflow.integrate(
                TwoLayerFlow(randn(3, 2), randn(3), randn(2, 5).sign()), randn(5, 2), [0.0, 1.0]
            ),
            r"must have the members of its data, \(2,\)",
        ),
    ],
)
def test_input_errors(make, message):
    with pytest.raises(InputError, match=message) as info:
        make()
    assert "\n" not in str(info.value)
