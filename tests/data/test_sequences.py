"""Sequences that are drawn, and token ids from files."""

import numpy as np
import pytest

from gflow.data import load
from gflow.data.sequences import in_context_regression, modular_addition
from gflow.errors import InputError
from gflow.preparation import one_hot_tokens


def test_sums_are_those_of_every_pair_once_in_an_order_of_the_seed():
    data = load("modular:7")
    assert len({tuple(pair) for pair in data.inputs}) == 49
    np.testing.assert_array_equal(data.inputs.sum(axis=1) % 7, data.targets[:, 0])
    assert (data.symbols, data.shape, data.classes[-1]) == (7, (2,), "6")
    assert not np.array_equal(load("modular:7", seed=1).inputs, data.inputs)
    np.testing.assert_array_equal(modular_addition(7).inputs, data.inputs)


@pytest.mark.parametrize("name", ["modular:1", "modular:", "modular:x", "modular:-3", "modular"])
def test_a_modulus_that_is_none_is_refused(name):
    with pytest.raises(InputError, match="modul"):
        load(name)


def test_a_problem_in_context_is_linear_and_its_query_has_no_answer():
    data = in_context_regression(50, 12, 3, decay=0.5, seed=3)
    sequences = data.inputs.reshape(50, *data.shape)
    x, y = sequences[..., :3], sequences[..., 3]
    for i in range(50):
        w, *_ = np.linalg.lstsq(x[i, :-1], y[i, :-1], rcond=None)
        np.testing.assert_allclose(x[i, :-1] @ w, y[i, :-1], atol=1e-10)
        assert x[i, -1] @ w == pytest.approx(data.targets[i, 0], abs=1e-10)
    assert (y[:, -1] == 0).all()
    assert data.features[:5] == ("x0_0", "x1_0", "x2_0", "y0", "x0_1")


def test_inputs_have_the_covariance_asked_for():
    data = in_context_regression(2_000, 20, 3, decay=0.5)
    x = data.inputs.reshape(-1, 4)[:, :3]
    np.testing.assert_allclose(x.T @ x / len(x), np.diag([12, 6, 3]) / 7, atol=0.03)


@pytest.mark.parametrize("arguments", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (10**6, 10**6, 9)])
def test_sizes_out_of_range_are_refused(arguments):
    with pytest.raises(InputError):
        in_context_regression(*arguments)


def test_decay_out_of_range_is_refused():
    with pytest.raises(InputError, match="decay"):
        in_context_regression(2, 2, 2, decay=1.5)


def test_files_hold_token_ids_and_samples_of_any_shape(tmp_path):
    ids = np.array([[0, 2, 1], [3, 0, 0]])
    np.savez(tmp_path / "ids.npz", tokens=ids, targets=np.array([0, 1]))
    data = load(tmp_path / "ids.npz")
    assert (data.symbols, data.shape) == (4, (3,))
    np.testing.assert_array_equal(data.inputs, ids)
    np.savez(tmp_path / "vectors.npz", inputs=np.ones((2, 5, 3)), targets=np.ones(2))
    data = load(tmp_path / "vectors.npz")
    assert (data.symbols, data.shape, data.image) == (None, (5, 3), None)
    np.savez(tmp_path / "images.npz", inputs=np.ones((2, 3, 4, 5)), targets=np.array([0, 1]))
    assert load(tmp_path / "images.npz").image == (3, 4, 5)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.array([[0.0, 1.0]]), "must be whole numbers, got float64"),
        (np.array([[0, -1]]), "must be whole numbers from 0 to 0, got -1"),
        (np.array([0, 1]), "must be a matrix"),
    ],
)
def test_what_is_no_token_is_refused(tokens, message, tmp_path):
    np.savez(tmp_path / "a.npz", tokens=tokens)
    with pytest.raises(InputError, match=message):
        load(tmp_path / "a.npz")


def test_one_hot_tokens_have_one_1_for_each_place():
    table = one_hot_tokens(load("modular:5"))
    places = table.inputs.reshape(25, 2, 5)
    np.testing.assert_array_equal(places.argmax(axis=2), load("modular:5").inputs)
    np.testing.assert_array_equal(places.sum(axis=2), 1.0)
    assert (table.symbols, table.shape, table.features[6]) == (None, None, "y=1")
    assert one_hot_tokens(load("iris")) is not table
