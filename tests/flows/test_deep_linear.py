import itertools

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import LayerwiseFlow, balanced_layers, layer_product, layerwise_rhs
from tests.helpers import LOSSES, altered, make_loss, of_rank, randn, relative, slow_except

DIMS = [[3, 2], [3, 5, 2], [1, 3, 1], [4, 4, 4, 4], [2, 6, 3, 5, 2, 3]]


def random_layers(dims, seed=0):
    return [randn(b, a, seed=seed + j) for j, (a, b) in enumerate(itertools.pairwise(dims))]


@pytest.mark.parametrize("dims", DIMS, ids=str)
@pytest.mark.parametrize("kind", LOSSES)
def test_velocity_is_autograd_of_the_loss(kind, dims):
    flow = LayerwiseFlow(make_loss(kind, dims[-1], dims[0]), dims)
    y = 0.5 * flow.pack(random_layers(dims))
    leaf = y.clone().requires_grad_()
    (slope,) = torch.autograd.grad(flow.loss(leaf), leaf)
    assert relative(flow(0.0, y), -slope) <= 1e-12


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_rhs_is_the_literal_formula(dims):
    layers, G = random_layers(dims), randn(dims[-1], dims[0], seed=50)
    for j, rate in enumerate(layerwise_rhs(layers, G)):
        after = torch.eye(dims[j + 1], dtype=torch.float64)
        for layer in layers[j + 1 :]:
            after = layer @ after
        before = torch.eye(dims[0], dtype=torch.float64)
        for layer in layers[:j]:
            before = layer @ before
        assert relative(rate, -after.mT @ G @ before.mT) <= 1e-13


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_pack_and_unpack_are_inverse(dims):
    flow = LayerwiseFlow(make_loss("distance", dims[-1], dims[0]), dims)
    layers = random_layers(dims)
    for layer, back in zip(layers, flow.unpack(flow.pack(layers)), strict=True):
        assert torch.equal(layer, back)
    assert relative(flow.end_to_end(flow.pack(layers)), layer_product(layers)) == 0


@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize(
    "dims", [[3, 3], [3, 3, 4], [5, 3, 7, 3], [3, 4, 5, 6, 3], [1, 2, 1]], ids=str
)
def test_balanced_start(dims, rank):
    rank = min(rank, dims[0], dims[-1])
    W = of_rank(rank, dims[-1], dims[0])
    layers = balanced_layers(W, dims)
    assert float((layer_product(layers) - W).norm()) <= 1e-14
    for first, second in itertools.pairwise(layers):
        assert float((second.mT @ second - first @ first.mT).norm()) <= 1e-14
    flow = LayerwiseFlow(make_loss("distance", dims[-1], dims[0]), dims)
    assert torch.equal(flow.balanced_start(W), flow.pack(layers))


@pytest.mark.parametrize("dims", [[6, 2, 5], [6, 3, 2, 5], [6, 8, 4, 8, 5]], ids=str)
def test_a_balanced_start_of_low_rank_fits_narrow_layers(dims):
    A, B = randn(5, 2, seed=1), randn(2, 6, seed=2)
    flow = LayerwiseFlow(make_loss("distance", 5, 6), dims)
    for start in (flow.balanced_start(A @ B), flow.balanced_start((A, B))):
        assert relative(flow.end_to_end(start), A @ B) <= 1e-14
        assert float(flow.observables(start)["balancedness"].max()) <= 1e-13
    ensemble = flow.balanced_start((torch.stack([A, 2 * A]), torch.stack([B, B])))
    assert relative(flow.end_to_end(ensemble)[1], 2 * A @ B) <= 1e-14


def test_a_solve_from_low_rank_is_that_of_narrow_layers():
    """Wide layers from rank 2 take the path of layers of width 2, in as many numbers."""
    loss, W0 = make_loss("completion", 6, 6), 0.3 * of_rank(2, 6, 6)
    wide, narrow = LayerwiseFlow(loss, [6, 6, 6, 6]), LayerwiseFlow(loss, [6, 2, 2, 6])
    start = wide.balanced_start(W0)
    assert wide.coordinates(start).start.shape == narrow.state_shape
    ts = [0.0, 5.0, 20.0]
    paths = [
        gflow.integrate(f, f.balanced_start(W0), ts, rtol=1e-9, atol=1e-12) for f in (wide, narrow)
    ]
    assert relative(wide.end_to_end(paths[0].ys), narrow.end_to_end(paths[1].ys)) <= 1e-7


@pytest.mark.parametrize("dims", [[3, 4, 2], [4, 3, 5, 3], [3, 3, 3, 3, 3, 3]], ids=str)
def test_balancedness_is_conserved_from_any_start(dims):
    flow = LayerwiseFlow(make_loss("completion", dims[-1], dims[0]), dims)
    y0 = 0.5 * flow.pack(random_layers(dims))
    path = gflow.integrate(flow, y0, [0.0, 1.0, 5.0, 20.0], "dopri8", 1e-10, 1e-13)
    assert path.certificate.holds
    assert max(path.certificate.invariant_drift.values()) <= 1e-9
    assert set(path.certificate.invariant_drift) == {
        f"balancedness_{j}" for j in range(1, len(dims) - 1)
    }


def test_balanced_product_identity_is_measured():
    dims = [3, 4, 4, 2]
    flow = LayerwiseFlow(make_loss("distance", 2, 3), dims)
    balanced = flow.observables(flow.balanced_start(randn(2, 3)))
    assert float(balanced["balanced_product_defect"].max()) <= 1e-12
    assert float(balanced["balancedness"].max()) <= 1e-13
    unbalanced = flow.observables(flow.pack(random_layers(dims)))
    assert float(unbalanced["balanced_product_defect"].min()) > 1e-2


def missing_transpose(flow, t, y):
    layers = flow.unpack(y)
    rates = layerwise_rhs(layers, flow._loss.gradient(layer_product(layers)))
    back = -flow._loss.gradient(layer_product(layers))
    rates[0] = layers[1] @ layers[2] @ back  # (W_3W_2)ᵀG without the transposes
    return flow.pack(rates)


def one_layer_doubled(flow, t, y):
    rates = flow.unpack(flow(t, y))
    return flow.pack([rates[0], 2 * rates[1], *rates[2:]])


def one_layer_flipped(flow, t, y):
    rates = flow.unpack(flow(t, y))
    return flow.pack([*rates[:-1], -rates[-1]])


@pytest.mark.parametrize("rtol", slow_except([1e-3, 1e-6, 1e-10], 1e-6))
@pytest.mark.parametrize("fault", [missing_transpose, one_layer_doubled, one_layer_flipped])
def test_planted_faults_are_caught(fault, rtol):
    flow = LayerwiseFlow(make_loss("distance", 3, 3), [3, 3, 3, 3])
    y0 = 0.7 * flow.pack(random_layers([3, 3, 3, 3]))
    try:
        path = gflow.integrate(
            altered(flow, fault), y0, [0.0, 0.2, 0.5], "dopri8", rtol, 1e-3 * rtol
        )
    except gflow.IntegrationError as error:
        path = error.trajectory
    assert not path.certificate.holds
    assert path.certificate.velocity_error > 0.1
    right = gflow.integrate(flow, y0, [0.0, 0.2, 0.5], "dopri8", rtol, 1e-3 * rtol)
    assert right.certificate.holds


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ([3], "at least two"),
        ([3, 0, 2], "positive whole numbers"),
        ([3, -1, 2], "positive whole numbers"),
        ([3, 2.5, 2], "positive whole numbers"),
        ([3, True, 2], "each of dims must be a number, got True"),
        ([2, 4, 3], "d_0 = 3 to d_N = 2"),
    ],
)
def test_dims_are_checked(dims, message):
    with pytest.raises(InputError, match=message):
        LayerwiseFlow(make_loss("distance", 2, 3), dims)


def test_starts_are_checked():
    flow = LayerwiseFlow(make_loss("distance", 3, 3), [3, 2, 3])
    with pytest.raises(InputError, match=r"at least its rank, 3, got 2; widen"):
        flow.balanced_start(randn(3, 3))
    with pytest.raises(InputError, match=r"shape \(3, 3\), got \(3, 2\) and \(3, 3\)"):
        flow.balanced_start((randn(3, 2), randn(3, 3)))
    with pytest.raises(InputError, match="a matrix or a pair, got 3 tensors"):
        flow.balanced_start((randn(3, 2), randn(2, 2), randn(2, 3)))
    with pytest.raises(InputError, match=r"shape \(3, 3\), got \(2, 3\)"):
        flow.balanced_start(randn(2, 3))
    with pytest.raises(InputError, match=r"shapes .*got"):
        flow.pack([randn(3, 3), randn(3, 3)])
