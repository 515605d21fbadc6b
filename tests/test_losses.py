import pytest
import torch
from torch._subclasses import FakeTensorMode

from gflow.errors import InputError
from gflow.losses import LinearRegression, MatrixCompletion, MatrixSensing, SquaredDistance
from tests.helpers import LOSSES, ensemble_of, make_loss, randn, relative

SHAPES = [(1, 4), (4, 1), (3, 3), (2, 5)]
NAN = float("nan")


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_autograd(kind, shape):
    loss, W = make_loss(kind, *shape), randn(*shape)
    assert loss.shape == shape
    leaf = W.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    assert relative(loss.gradient(W), slope) <= 1e-14


@pytest.mark.parametrize("kind", LOSSES)
def test_ensemble_equals_a_loop(kind):
    loss, W = make_loss(kind, 2, 3), ensemble_of(randn(2, 3))
    assert loss(W).shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert relative(loss(W)[i, j], loss(W[i, j])) <= 1e-15
            assert relative(loss.gradient(W)[i, j], loss.gradient(W[i, j])) <= 1e-14


def test_values_are_the_definitions():
    W, M = randn(2, 3), randn(2, 3, seed=1)
    assert relative(SquaredDistance(M)(W), 0.5 * ((W - M) ** 2).sum()) <= 1e-15
    A, b = randn(5, 2, 3, seed=2), randn(5, seed=3)
    sensed = sum((float((a * W).sum()) - float(v)) ** 2 for a, v in zip(A, b, strict=True)) / 10
    assert float(MatrixSensing(A, b)(W)) == pytest.approx(sensed, rel=1e-14)
    mask = torch.tensor([[1, 0, 1], [0, 0, 1]])
    entries = (float(W[0, 0] - M[0, 0]), float(W[0, 2] - M[0, 2]), float(W[1, 2] - M[1, 2]))
    completed = sum(e**2 for e in entries) / 6
    assert float(MatrixCompletion(M, mask)(W)) == pytest.approx(completed, rel=1e-14)


@pytest.mark.parametrize("n", [2, 3, 20])
def test_regression_with_few_and_many_samples(n):
    X, Y, W = randn(n, 3), randn(n, 2, seed=1), randn(2, 3, seed=2)
    loss = LinearRegression(X, Y)
    assert relative(loss(W), ((X @ W.mT - Y) ** 2).sum() / (2 * n)) <= 1e-14
    assert relative(loss.gradient(W), (X @ W.mT - Y).mT @ X / n) <= 1e-13


def test_regression_is_accurate_for_ill_conditioned_inputs():
    X = randn(30, 3) @ torch.diag(torch.tensor([1.0, 1e-4, 1e-8], dtype=torch.float64))
    truth = randn(2, 3, seed=1)
    loss = LinearRegression(X, X @ truth.mT)
    assert float(loss(truth)) <= 1e-30
    assert float(loss.gradient(truth).norm()) <= 1e-15


def test_unobserved_entries_are_ignored():
    values = torch.tensor([[1.0, NAN], [float("inf"), 4.0]], dtype=torch.float64)
    mask = torch.tensor([[True, False], [False, True]])
    loss, clean = MatrixCompletion(values, mask), torch.tensor([[1.0, 7.0], [7.0, 4.0]]).double()
    W = randn(2, 2)
    assert torch.equal(loss.gradient(W), MatrixCompletion(clean, mask).gradient(W))
    assert loss.observed_count == 2


def test_losses_as_squared_distances():
    M, W, V = randn(3, 4), randn(3, 4, seed=1), randn(3, 4, seed=2)
    Q = torch.linalg.qr(randn(9, 4))[0] * 3 * 0.8
    distances = {
        "distance": SquaredDistance(M),
        "full mask": MatrixCompletion(M, torch.ones(3, 4)),
        "white": LinearRegression(Q, randn(9, 3, seed=6)),
    }
    for loss in distances.values():
        target, scale = loss.as_squared_distance()
        assert relative(loss.gradient(W), scale * (W - target)) <= 1e-13
        half = lambda A, t=target, s=scale: s * (A - t).square().sum() / 2  # noqa: E731
        assert relative(loss(W) - loss(V), half(W) - half(V)) <= 1e-12
    assert MatrixCompletion(M, M > -1).as_squared_distance() is None
    assert LinearRegression(randn(9, 4), randn(9, 3)).as_squared_distance() is None
    assert LinearRegression(randn(3, 4), randn(3, 3)).as_squared_distance() is None
    assert make_loss("sensing", 3, 4).as_squared_distance() is None


@pytest.mark.parametrize("kind", LOSSES)
def test_the_result_is_on_the_device_of_the_input(kind):
    loss = make_loss(kind, 2, 3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for name, value in list(vars(loss).items()):
            if isinstance(value, torch.Tensor):
                setattr(loss, name, torch.empty(value.shape, dtype=value.dtype, device="cuda"))
        W = torch.empty(2, 3, dtype=torch.float64, device="cuda")
        assert loss(W).device.type == "cuda"
        assert loss.gradient(W).device.type == "cuda"


BAD = [
    (lambda: SquaredDistance(torch.tensor([[1, 2]])), "target .*floating-point.*int64"),
    (lambda: SquaredDistance([[1.0]]), "target .*got list"),
    (lambda: SquaredDistance(randn(3)), r"target .*2 dimensions, got shape \(3,\)"),
    (lambda: SquaredDistance(torch.zeros(0, 2)), "target must not be empty"),
    (lambda: SquaredDistance(torch.tensor([[1.0, NAN]])), "target must be finite, but 1 of 2"),
    (lambda: LinearRegression(randn(3, 2), randn(4, 2)), "3 and 4 rows"),
    (lambda: LinearRegression(randn(3, 2), torch.full((3, 1), NAN)), "targets must be finite"),
    (lambda: LinearRegression(randn(3), randn(3, 1)), "inputs must have 2 dimensions"),
    (lambda: MatrixSensing(randn(3, 2, 2), randn(4)), "3 measurements and 4 values"),
    (lambda: MatrixSensing(randn(3, 2), randn(3)), "measurements must have 3 dimensions"),
    (lambda: MatrixCompletion(randn(2, 2), torch.ones(2, 3)), r"\(2, 2\), got \(2, 3\)"),
    (lambda: MatrixCompletion(randn(2, 2), torch.zeros(2, 2)), "at least one entry"),
    (lambda: MatrixCompletion(torch.full((1, 1), NAN), torch.ones(1, 1)), "observed values"),
    (
        lambda: MatrixCompletion([[1.0]], torch.ones(1, 1)),
        "values must be a floating-point tensor",
    ),
    (lambda: MatrixCompletion(randn(1, 1), [[True]]), "mask must be a tensor of numbers, got"),
]


@pytest.mark.parametrize(("build", "message"), BAD)
def test_input_errors(build, message):
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("kind", LOSSES)
def test_symmetric_descent_is_minus_twice_the_symmetric_gradient(kind):
    loss, W = make_loss(kind, 4, 4), ensemble_of(randn(4, 4))
    W = W + W.mT
    G = loss.gradient(W)
    assert relative(G.mT, G) > 0.1
    assert relative(loss.symmetric_descent(W), -(G + G.mT)) <= 1e-14


def test_the_gram_matrix_serves_well_conditioned_inputs_only():
    truth = randn(2, 3, seed=1)
    for least, allowed in ((1e-2, 1e-15), (1e-6, 1e-15)):
        X = randn(30, 3) @ torch.diag(torch.tensor([1.0, 1e-1, least], dtype=torch.float64))
        loss = LinearRegression(X, X @ truth.mT)
        assert float(loss.gradient(truth)[:, 2].norm()) <= allowed * least
    X = randn(30, 3)
    X[:, 1] = 0.0  # an input that never varies changes nothing, exactly
    assert bool((LinearRegression(X, randn(30, 2)).gradient(randn(2, 3))[:, 1] == 0).all())
