"""Tiles, memory and matrices on disk."""

import math

import numpy as np
import pytest
import torch

from gflow.errors import InputError
from gflow.kernels import memory_needed, ntk, tiling
from tests.helpers import randn, relative


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 23, 64])
@pytest.mark.parametrize("tile", [2, 32, 98, 5000])
def test_the_size_of_tiles_does_not_change_the_kernel(n, tile, monkeypatch):
    x, y = randn(n, 3), randn(11, 3, seed=1)
    expected, cross = ntk(x, depth=2), ntk(x, y, depth=2)
    monkeypatch.setattr(tiling, "_CACHED", tile)
    assert relative(ntk(x, depth=2), expected) <= 1e-15
    assert relative(ntk(x, y, depth=2), cross) <= 1e-15


def test_each_tile_of_a_symmetric_matrix_is_computed_once():
    truth = torch.arange(49.0).reshape(7, 7)
    truth = truth + truth.mT
    seen = torch.zeros(7, 7)

    def tile(rows, columns):
        seen[rows, columns] += 1
        return truth[rows, columns].clone()

    gram = torch.full((7, 7), math.nan)
    tiling.fill(gram, tile, (2, 4), True, None)
    assert torch.equal(gram, truth)
    assert seen.triu().max() == 1
    assert int(seen.sum()) <= 28 + 7  # the upper triangle, and little of the diagonal's blocks


@pytest.mark.parametrize("symmetric", [True, False])
def test_progress_ends_at_the_number_of_entries(symmetric, monkeypatch):
    monkeypatch.setattr(tiling, "_CACHED", 32)
    reports = []
    x = randn(19, 3)
    ntk(x, None if symmetric else x, progress=lambda done, total: reports.append((done, total)))
    assert [total for _, total in reports] == [361] * 5
    done = [d for d, _ in reports]
    assert done == sorted(set(done))
    assert done[-1] == 361


def test_on_disk(tmp_path):
    x = randn(40, 3)
    path = tmp_path / "gram.npy"
    gram = ntk(x, depth=2, out=path)
    assert torch.equal(gram, ntk(x, depth=2))
    assert np.array_equal(np.load(path, mmap_mode="r"), gram.numpy())
    assert list(tmp_path.iterdir()) == [path]
    assert ntk(x.float(), x[:2].float(), out=str(path)).dtype == torch.float32
    assert np.load(path).shape == (40, 2)


def test_an_interrupted_computation_leaves_an_existing_file_unchanged(tmp_path):
    path = tmp_path / "gram.npy"
    old = ntk(randn(3, 2), out=path).clone()

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ntk(randn(5, 2), out=path, progress=stop)
    assert list(tmp_path.iterdir()) == [path]
    assert np.array_equal(np.load(path), old.numpy())


def test_out_must_be_a_file_that_can_be_written(tmp_path):
    for path in (tmp_path / "gram.txt", tmp_path / "none" / "gram.npy", tmp_path):
        with pytest.raises(InputError, match=r"out must be the path of a \.npy file"):
            ntk(randn(2, 2), out=path)
    (tmp_path / "taken.npy.part").mkdir()
    with pytest.raises(InputError, match=r"out must be writable, but .*taken\.npy"):
        ntk(randn(2, 2), out=tmp_path / "taken.npy")


def test_memory_is_predicted_and_respected(tmp_path):
    x = randn(100, 3)
    needed = memory_needed(x, x[:50])
    assert (needed.result, needed.disk) == (100 * 50 * 8, 0)
    on_disk = memory_needed(x, out="gram.npy")
    assert (on_disk.result, on_disk.disk) == (0, 100 * 100 * 8)
    assert str(on_disk).startswith(f"{on_disk.total / 1e9:.3g} GB of memory: the matrix 8e-05 GB")
    single = memory_needed(x.float())
    assert single.result * 2 == memory_needed(x).result
    with pytest.raises(InputError, match=r"must fit max_memory = 1e-05 GB, but needs .*float32"):
        ntk(x, max_memory=10_000)
    ntk(x, max_memory=memory_needed(x).total)
