"""MNIST and CIFAR-10 in their own formats: written byte by byte, read, and damaged."""

import gzip
import struct

import numpy as np
import pytest

from gflow.data import load
from gflow.errors import InputError
from gflow.preparation import subset

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array, shape=None):
    shape = shape or array.shape
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + array.tobytes()


def bytes_of(*shape, seed=0, high=256):
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


def write_mnist(folder, pixels, labels, suffix=""):
    for name, array in ((IMAGES, pixels), (LABELS, labels)):
        content = idx(array)
        (folder / f"{name}{suffix}").write_bytes(gzip.compress(content) if suffix else content)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_round_trip(tmp_path, suffix):
    pixels, labels = bytes_of(7, 4, 5), bytes_of(7, high=10)
    write_mnist(tmp_path, pixels, labels, suffix)
    data = load(f"mnist:{tmp_path}")
    assert np.array_equal(255 * data.inputs, pixels.reshape(7, 20))
    assert np.array_equal(data.targets[:, 0], labels)
    assert data.classes == tuple("0123456789")
    assert data.image == (1, 4, 5)
    assert subset(data, 3).image == (1, 4, 5)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_cifar_round_trip(tmp_path, inside):
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    pixels, labels = bytes_of(6, 3072), np.array([0, 9, 3, 1, 1, 2], np.uint8)
    rows = np.concatenate([labels[:, None], pixels], axis=1)
    rows[:4].tofile(folder / "data_batch_1.bin")
    rows[4:].tofile(folder / "data_batch_2.bin")
    rows.tofile(folder / "test_batch.bin")  # not for training
    data = load(f"cifar10:{tmp_path}")
    assert np.array_equal(np.rint(255 * data.inputs), pixels)
    assert np.array_equal(data.targets[:, 0], labels)
    assert data.classes[:2] == ("airplane", "automobile")
    assert data.image == (3, 32, 32)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
PIXELS, NUMBERS = bytes_of(3, 2, 2), bytes_of(3, high=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({IMAGES: None}, "must hold the file train-images-idx3-ubyte or"),
        ({LABELS: None}, "must hold the file train-labels-idx1-ubyte or"),
        ({IMAGES: b""}, "it starts with nothing"),
        ({IMAGES: b"\x80\x04\x95pickle"}, "must be an IDX file of 3-dimensional bytes"),
        ({IMAGES: POINTER}, "the data, but it is a pointer of git-lfs, not the data; run: git lfs"),
        ({IMAGES: idx(PIXELS)[:10]}, "must be an IDX file"),
        ({IMAGES: idx(NUMBERS)}, "starts with 00000801"),
        ({IMAGES: idx(PIXELS)[:-1]}, "must hold the 12 bytes that its header declares, got 11"),
        ({IMAGES: idx(PIXELS) + b"x"}, "must hold the 12 bytes .*got more"),
        ({IMAGES: idx(PIXELS, (60000, 10000, 10000))}, "must take at most .* declares shape"),
        ({IMAGES: idx(PIXELS, (2**32 - 1,) * 3)}, "must take at most"),
        ({IMAGES: idx(PIXELS, (0, 2, 2))}, "not be empty"),
        ({LABELS: idx(NUMBERS[:2])}, "a label for every image, got 3 images and 2 labels"),
    ],
)
def test_damaged_mnist_is_reported_in_one_line(tmp_path, change, message):
    write_mnist(tmp_path, PIXELS, NUMBERS)
    for name, content in change.items():
        (tmp_path / name).unlink()
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load(f"mnist:{tmp_path}")
    assert "\n" not in str(error.value)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    write_mnist(tmp_path, PIXELS, NUMBERS)
    (tmp_path / IMAGES).unlink()
    bomb = gzip.compress(idx(PIXELS) + bytes(50_000_000))
    (tmp_path / f"{IMAGES}.gz").write_bytes(bomb)
    with pytest.raises(InputError, match=r"must hold the 12 bytes .*, got more"):
        load(f"mnist:{tmp_path}")
    (tmp_path / f"{IMAGES}.gz").write_bytes(bomb[:200])
    with pytest.raises(InputError, match=r"got more|must be readable, but EOFError"):
        load(f"mnist:{tmp_path}")
    (tmp_path / f"{IMAGES}.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="must be readable, but BadGzipFile"):
        load(f"mnist:{tmp_path}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must hold data_batch_1.bin to data_batch_5.bin"),
        (b"", "images of 3073 bytes each, got 0 bytes"),
        (bytes(3074), "images of 3073 bytes each, got 3074 bytes"),
        (POINTER, "'data_batch_1.bin' must be the data, but it is a pointer of git-lfs"),
        (b"\x0a" + bytes(3072), "labels from 0 to 9, got 10"),
    ],
)
def test_damaged_cifar_is_reported_in_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "data_batch_1.bin").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("kind", ["mnist", "cifar10"])
def test_a_missing_folder_is_reported(tmp_path, kind):
    with pytest.raises(InputError, match=f"{kind} must be read from a folder, .*no such folder"):
        load(f"{kind}:{tmp_path / 'nowhere'}")
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="a file; use"):
        load(f"{kind}:{file}")


def test_a_sparse_batch_is_refused_by_its_size(tmp_path):
    with (tmp_path / "data_batch_1.bin").open("wb") as stream:
        stream.truncate(3073 * 200_000)  # 5 GB as float64, no bytes on disk
    with pytest.raises(InputError, match="must take at most"):
        load(f"cifar10:{tmp_path}")
