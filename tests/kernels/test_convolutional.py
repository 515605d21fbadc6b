"""Convolutional kernels against the recursion on covariances written out in full."""

import itertools
import math

import pytest
import torch

from gflow.errors import InputError
from gflow.kernels import conv_memory_needed, conv_nngp, conv_ntk, nngp, ntk, tiling
from tests.helpers import randn, relative


def shifts(height, width, size):
    """Matrices S_δ with (S_δ v)(p) = v(p + δ), zero outside."""
    matrices = []
    for dy in range(-(size // 2), size // 2 + 1):
        for dx in range(-(size // 2), size // 2 + 1):
            S = torch.zeros(height * width, height * width, dtype=torch.float64)
            for y in range(height):
                for x in range(width):
                    if 0 <= y + dy < height and 0 <= x + dx < width:
                        S[y * width + x, (y + dy) * width + x + dx] = 1.0
            matrices.append(S)
    return matrices


def relu(q1, q2, K):
    rho = (K / (q1 * q2).sqrt()).nan_to_num().clamp(-1, 1)
    theta = torch.arccos(rho)
    return (
        (q1 * q2).sqrt() * (theta.sin() + (math.pi - theta) * rho) / (2 * math.pi),
        (math.pi - theta) / (2 * math.pi),
    )


def erf(q1, q2, K):
    root = ((1 + 2 * q1) * (1 + 2 * q2)).sqrt()
    return (
        2 / math.pi * torch.arcsin(2 * K / root),
        4 / math.pi / (root**2 - 4 * K**2).sqrt(),
    )


def dense_recursion(x, y, maps, depth, w, b, size):
    """E[φφ'] and the tangents of the last features, (P, P), of two images."""
    height, width = x.shape[-2:]
    S = shifts(height, width, size)
    x, y = x.flatten(1), y.flatten(1)
    scale = w * w / size**2

    def convolve(M):
        return sum(s @ M @ s.T for s in S) * scale

    K = {
        k: convolve(u.T @ v) / len(x) + b * b
        for k, (u, v) in {"xx": (x, x), "yy": (y, y), "xy": (x, y)}.items()
    }
    theta = K["xy"]
    for layer in range(depth):
        q1, q2 = K["xx"].diagonal()[:, None], K["yy"].diagonal()[None]
        features, slopes = maps(q1, q2, K["xy"])
        if layer == depth - 1:
            return features, slopes * theta
        variances = {
            k: maps(K[k].diagonal()[:, None], K[k].diagonal()[None], K[k])[0] for k in ("xx", "yy")
        }
        K = {k: convolve(v) + b * b for k, v in {**variances, "xy": features}.items()}
        theta = K["xy"] + convolve(slopes * theta)


@pytest.mark.parametrize(("name", "maps"), [("relu", relu), ("erf", erf)])
@pytest.mark.parametrize("pooling", ["flatten", "average"])
@pytest.mark.parametrize(("depth", "size", "b"), [(1, 3, 0.3), (3, 3, 0.3), (2, 5, 0.0)])
def test_recursion_in_full(name, maps, pooling, depth, size, b):
    x, y = randn(2, 2, 4, 3), randn(3, 2, 4, 3, seed=1)
    network = {
        "depth": depth,
        "activation": name,
        "w_std": 1.2,
        "b_std": b,
        "pooling": pooling,
        "kernel_size": size,
    }
    K, theta = conv_nngp(x, y, **network), conv_ntk(x, y, **network)
    reduce = torch.mean if pooling == "average" else (lambda M: M.diagonal().mean())
    for i in range(2):
        for j in range(3):
            features, tangents = dense_recursion(x[i], y[j], maps, depth, 1.2, b, size)
            truth = 1.44 * reduce(features) + b * b
            assert K[i, j].item() == pytest.approx(truth.item(), rel=1e-12)
            truth = truth + 1.44 * reduce(tangents)
            assert theta[i, j].item() == pytest.approx(truth.item(), rel=1e-12)


@pytest.mark.parametrize("pooling", ["flatten", "average"])
def test_one_pixel_and_a_window_of_one_is_fully_connected(pooling):
    x, y = randn(4, 5, 1, 1), randn(3, 5, 1, 1, seed=1)
    network = {
        "depth": 3,
        "activation": "gelu",
        "w_std": (1.0, 1.5, 0.7, 2.0),
        "b_std": (0.1, 0.0, 0.3, 0.2),
    }
    for conv, dense in ((conv_ntk, ntk), (conv_nngp, nngp)):
        value = conv(x, y, kernel_size=1, pooling=pooling, **network)
        assert relative(value, dense(x.flatten(1), y.flatten(1), **network)) <= 1e-14


@pytest.mark.parametrize("pooling", ["flatten", "average"])
@pytest.mark.parametrize("activation", ["relu", "abs", "erf"])
def test_symmetric_positive_with_blank_and_repeated_images(pooling, activation, monkeypatch):
    monkeypatch.setattr(tiling, "_CACHED", 600)  # several tiles
    x = randn(6, 1, 4, 4)
    x[1], x[3] = 0.0, x[2]
    x[4, :, :, :2] = 0.0
    network = {"depth": 2, "activation": activation, "pooling": pooling}
    for kernel in (conv_ntk, conv_nngp):
        H = kernel(x, **network)
        assert torch.equal(H, H.mT)
        assert torch.isfinite(H).all()
        assert not H[1].any()
        assert relative(H[3], H[2]) <= 1e-14
        assert relative(kernel(x, x.clone(), **network), H) <= 1e-13
        spectrum = torch.linalg.eigvalsh(H)
        assert float(spectrum[0]) >= -1e-14 * float(spectrum[-1])
        assert relative(kernel(x.float(), **network).double(), H) <= 1e-5


def test_images_that_nearly_coincide_approach_the_same_image():
    """|Θ(x, x + e) − Θ(x, x)| is of first order in e, with no floor at the root of round-off."""
    x, e = randn(1, 1, 4, 4), randn(1, 1, 4, 4, seed=1)
    same = conv_ntk(x, depth=2, pooling="average")
    gaps = [
        float((conv_ntk(x, x + size * e, depth=2, pooling="average") - same).abs())
        for size in (1e-6, 1e-8, 1e-10, 1e-12)
    ]
    for before, after in itertools.pairwise(gaps):
        assert after == pytest.approx(before / 100, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x1": randn(3, 4)}, r"x1 must have shape \(n, C, H, W\), got \(3, 4\)"),
        ({"x2": randn(2, 1, 3, 4)}, "same columns, got 1, 3, 3 and 1, 3, 4"),
        ({"pooling": "max"}, "pooling must be 'flatten' or 'average', got 'max'"),
        ({"kernel_size": 2}, "kernel_size must be an odd whole number, got 2"),
        ({"max_memory": 100}, "must fit max_memory = 1e-07 GB, but needs"),
    ],
)
def test_input_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        conv_ntk(**{"x1": randn(2, 1, 3, 3)} | arguments)


def test_memory_grows_with_the_pairs_of_pixels():
    x = torch.empty(10, 1, 32, 32, device="meta")
    flat, mean = (conv_memory_needed(x, pooling=p).work for p in ("flatten", "average"))
    assert mean - flat > 12 * 1024**2 * 4 * 0.9
