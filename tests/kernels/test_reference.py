"""Every value of an independent implementation (tests/kernels/reference/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from gflow.kernels import conv_nngp, conv_ntk, nngp, ntk

with np.load(Path(__file__).parent / "reference" / "kernels.npz") as archive:
    VALUES = {name: torch.tensor(value) for name, value in archive.items()}
X1, X2 = VALUES.pop("x1"), VALUES.pop("x2")
DENSE = sorted(name for name in VALUES if not name.startswith("cnn"))
CONVOLUTIONAL = sorted(name for name in VALUES if name.startswith("cnn"))


def error(value, name):
    """The largest error, relative to the largest entry."""
    return float((value - VALUES[name]).abs().max() / VALUES[name].abs().max())


def test_the_file_is_complete():
    assert (len(DENSE), len(CONVOLUTIONAL)) == (160, 8)
    assert torch.equal(X1[10], X1[11])


@pytest.mark.parametrize("name", DENSE)
def test_fully_connected(name):
    activation, depth, w_std, b_std, kind, which = name.split("/")
    network = {
        "activation": activation,
        "depth": int(depth.removeprefix("depth")),
        "w_std": 2**0.5 if w_std == "w1.4142" else float(w_std[1:]),
        "b_std": float(b_std[1:]),
    }
    kernel = {"ntk": ntk, "nngp": nngp}[kind]
    assert error(kernel(X1, X2 if which == "12" else None, **network), name) <= 1e-14


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional(name):
    _, pooling, kind, which = name.split("/")
    images1, images2 = X1[:6].reshape(-1, 1, 8, 8), X2[:3].reshape(-1, 1, 8, 8)
    kernel = {"ntk": conv_ntk, "nngp": conv_nngp}[kind]
    value = kernel(
        images1,
        images2 if which == "12" else None,
        depth=2,
        w_std=2**0.5,
        pooling={"gap0": "flatten", "gap1": "average"}[pooling],
    )
    assert error(value, name) <= 1e-12
