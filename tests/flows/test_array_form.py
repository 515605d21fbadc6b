"""A flow on arrays is the flow: velocity, loss and dissipation, of every flow, loss and dtype."""

import numpy as np
import pytest
import torch

import gflow
from gflow.flows import (
    EndToEndFlow,
    FactorFlow,
    KernelFlow,
    LayerwiseFlow,
    ProductFlow,
    TwoLayerFlow,
)
from gflow.losses import LinearRegression, MatrixCompletion, MatrixSensing, SquaredDistance
from tests.helpers import LOSSES, gram, make_loss, of_rank, randn

DTYPES = [torch.float64, torch.float32]


def factor(kind, dtype):
    return FactorFlow(make_loss(kind, 5, 5, dtype=dtype)), randn(5, 3)


def product(kind, dtype):
    U = randn(5, 3)
    return ProductFlow(make_loss(kind, 5, 5, dtype=dtype)), U @ U.mT


def layers(*dims):
    def build(kind, dtype):
        flow = LayerwiseFlow(make_loss(kind, dims[-1], dims[0], dtype=dtype), dims)
        return flow, randn(*flow.state_shape)

    return build


def end_to_end(d_out, d_in, depth, rank=None):
    def build(kind, dtype):
        W = randn(d_out, d_in) if rank is None else of_rank(rank, d_out, d_in)
        return EndToEndFlow(make_loss(kind, d_out, d_in, dtype=dtype), depth, rank), W

    return build


BUILD = {
    "end to end, one layer": end_to_end(3, 4, 1),
    "end to end, two layers": end_to_end(3, 4, 2),
    "end to end, five layers": end_to_end(4, 3, 5),
    "end to end, rank 2": end_to_end(4, 4, 3, 2),
    "end to end, single output": end_to_end(1, 4, 3),
    "end to end, single output, one layer": end_to_end(1, 4, 1),
    "factor": factor,
    "product": product,
    "one layer": layers(4, 3),
    "two layers": layers(3, 5, 2),
    "four layers": layers(4, 3, 5, 2, 6),
}


def check_form(flow, y):
    """Compare a flow on arrays with the flow, to 30 units of round-off of generic values."""
    form = flow.array_form()
    state, before = y.numpy().copy(), y.numpy().copy()
    velocity = form.velocity(state)
    assert np.array_equal(state, before)
    assert velocity.dtype == state.dtype
    assert velocity.shape == state.shape
    assert velocity.flags.c_contiguous
    assert velocity.flags.owndata
    assert velocity is not form.velocity(state)
    rate = torch.from_numpy(velocity)
    truth, allowed = flow(0.0, y), 30 * torch.finfo(y.dtype).eps
    assert float((rate - truth).norm()) <= allowed * float(truth.norm())
    loss, loss_truth = form.loss(state), float(flow.loss(y))
    assert type(loss) is float
    assert loss == pytest.approx(loss_truth, rel=allowed)
    fall, fall_truth = form.dissipation(state, velocity), float(flow.dissipation(y, truth))
    assert type(fall) is float
    assert fall == pytest.approx(fall_truth, rel=4 * allowed)
    both = form.loss_and_velocity(state)
    assert both[0] == loss
    assert np.array_equal(both[1], velocity)
    assert np.array_equal(state, before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("name", BUILD)
def test_a_flow_on_arrays_is_the_flow(name, kind, dtype):
    flow, y = BUILD[name](kind, dtype)
    check_form(flow, y.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("outputs", [(), (1,), (3,)], ids=str)
def test_kernel_and_two_layer_flows_on_arrays_are_the_flows(outputs, dtype):
    H, X, targets = (x.to(dtype) for x in (gram(6, 4), randn(6, 3), randn(6, *outputs, seed=1)))
    check_form(KernelFlow(H, targets), randn(6, *outputs).to(dtype))
    signs = randn(7, *outputs, seed=2).sign().to(dtype)
    check_form(TwoLayerFlow(X, targets, signs), randn(7, 3, seed=3).to(dtype))


def test_the_velocity_is_zero_at_zero_and_nan_where_a_decomposition_fails():
    for shape in ((1, 3), (3, 3), (3, 2)):
        form = EndToEndFlow(SquaredDistance(randn(*shape)), depth=3).array_form()
        assert not form.velocity(np.zeros(shape)).any()
        if shape[0] > 1:
            with np.errstate(all="ignore"):
                assert np.isnan(form.velocity(np.full(shape, np.inf))).all()


@pytest.mark.parametrize("samples", [3, 4, 20])
def test_regression_on_arrays_with_few_and_many_samples(samples):
    X, Y = randn(samples, 4), randn(samples, 2, seed=1)
    check_form(LayerwiseFlow(LinearRegression(X, Y), [4, 3, 2]), randn(18))


def test_the_loss_on_arrays_is_right_near_an_interpolating_minimum():
    U = randn(5, 3)
    W = U @ U.mT
    X, A = randn(30, 5, seed=1), randn(30, 5, 5, seed=2)
    losses = [
        SquaredDistance(W),
        LinearRegression(X, X @ W.mT),
        MatrixSensing(A, (A * W).sum((1, 2))),
        MatrixCompletion(W, randn(5, 5, seed=3) > 0),
    ]
    for loss in losses:
        form = FactorFlow(loss).array_form()
        assert form.loss(U.numpy()) <= 1e-28 * form.loss(0.0 * U.numpy())
        near = FactorFlow(loss).array_form().loss((U + 1e-6 * randn(5, 3, seed=4)).numpy())
        truth = float(FactorFlow(loss).loss(U + 1e-6 * randn(5, 3, seed=4)))
        assert near == pytest.approx(truth, rel=1e-8)


class Doubled(SquaredDistance):
    def gradient(self, W):
        return 2 * super().gradient(W)


class Slowed(FactorFlow):
    def __call__(self, t, y):
        return 0.5 * super().__call__(t, y)


def test_subclasses_and_other_dtypes_have_no_form():
    M = randn(3, 3)
    assert FactorFlow(Doubled(M)).array_form() is None
    assert LayerwiseFlow(Doubled(M), [3, 3]).array_form() is None
    assert ProductFlow(Doubled(M)).array_form() is None
    assert Slowed(SquaredDistance(M)).array_form() is None
    assert FactorFlow(SquaredDistance(M.to(torch.bfloat16))).array_form() is None
    assert EndToEndFlow(Doubled(M), 2).array_form() is None
    assert KernelFlow(lambda v: 2 * v, randn(3)).array_form() is None
    ensemble = TwoLayerFlow(randn(4, 3), randn(4), randn(2, 5).sign())
    assert ensemble.array_form() is None
    assert gflow.flow_from_loss(lambda y: y.square().sum()).array_form() is None


def test_a_loss_with_another_gradient_is_symmetrised_with_it():
    class Halved(MatrixCompletion):
        def gradient(self, W):
            return 0.5 * super().gradient(W)

    values, mask, U = randn(4, 4), randn(4, 4, seed=1) > 0, randn(4, 2, seed=2)
    halved, flow = FactorFlow(Halved(values, mask)), FactorFlow(MatrixCompletion(values, mask))
    assert torch.allclose(2 * halved(0.0, U), flow(0.0, U), rtol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("make", [layers(4, 3), layers(3, 5, 2), layers(4, 3, 5, 2, 6), factor])
def test_an_ensemble_on_arrays_moves_as_each_member(make, kind, dtype):
    flow, _ = make(kind, dtype)
    form = flow.array_form()
    assert form.many
    states = randn(3, *(size if size > 0 else 2 for size in flow.state_shape)).to(dtype)
    velocities = torch.from_numpy(form.velocity(states.numpy()))
    assert velocities.dtype == dtype
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {}
    torch.testing.assert_close(velocities, flow(0.0, states), **close)
    for state, velocity in zip(states, velocities, strict=True):
        alone = torch.from_numpy(form.velocity(state.numpy()))
        torch.testing.assert_close(velocity, alone, **close)


def test_gradients_with_respect_to_a_loss_flow_through_an_ensemble():
    target = torch.eye(2, dtype=torch.float64).requires_grad_()
    flow = LayerwiseFlow(SquaredDistance(target), (2, 2, 2))
    flow(0.0, randn(3, 8)).sum().backward()
    assert float(target.grad.abs().max()) > 0
