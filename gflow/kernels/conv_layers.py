"""Pairs of pixels of two sets of images, layer by layer."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import pad, unfold

from gflow.kernels.angles import one_minus_and_plus_cosine, unit_and_square
from gflow.kernels.dual_maps import safe_inverse
from gflow.kernels.layers import Layers, Split, split
from gflow.kernels.pairs import first_pair, sine

Pooling = Literal["flatten", "average"]


class Images(NamedTuple):
    """One side of the kernel: unit patches, and deviations of every pixel, (n, H, W)."""

    unit: Tensor  # (n, H, W, k²C)
    first: Split  # of the first pre-activations
    stds: tuple[Tensor, ...]  # of all pre-activations but the read-out's, depth
    features: tuple[Tensor, ...]  # √E[φ²], depth

    def part(self, rows: slice) -> Images:
        """Some of the images."""
        return Images(
            self.unit[rows],
            Split(*(v[rows] for v in self.first)),
            tuple(v[rows] for v in self.stds),
            tuple(v[rows] for v in self.features),
        )


def make_images(x: Tensor, layers: Layers, size: int) -> Images:
    """Images (n, C, H, W) with what every layer makes of each pixel alone."""
    height, width = x.shape[-2:]
    patches = unfold(x, size, padding=size // 2).mT.unflatten(1, (height, width))
    unit, square = unit_and_square(patches)
    first = split(square * (layers.w[0] ** 2 / patches.shape[-1]), layers.b[0])
    stds, features = [], []
    now = first
    for w, b in zip(layers.w[1:], layers.b[1:], strict=True):
        variance = layers.activation.feature_variance(now.std, now.variance)
        stds.append(now.std)
        features.append(variance.sqrt())
        now = split(_convolve(_pad(variance, size, 1), size, 1) * (w / size) ** 2, b)
    return Images(unit, first, tuple(stds), tuple(features))


def _pad(v: Tensor, size: int, images: int) -> Tensor:
    """Zeros around the pixels: the last two dimensions, or the last four of a pair of images."""
    return pad(v, [size // 2] * (4 * images))


def _convolve(padded: Tensor, size: int, images: int) -> Tensor:
    """Σ_δ v(p+δ), or Σ_δ v(p+δ, p'+δ), of a padded v: over rows first, then over columns."""
    for last in (-2, -1):
        total = None
        for shift in range(size):
            part = padded
            for dim in range(last, -2 * images - 1, -2):
                part = part.narrow(dim, shift, part.shape[dim] - size + 1)
            total = part.clone() if total is None else total.add_(part)
        padded = padded if total is None else total
    return padded


def _sides(v1: Tensor, v2: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """Pixels (n1, H, W) and (n2, H, W) so that they broadcast to pairs: (n1, n2, H, W) before
    flattening, (n1, n2, H, W, H, W) before averaging."""
    if pooling == "flatten":
        return v1[:, None], v2
    return v1[:, None, :, :, None, None], v2[:, None, None]


def _first(a: Images, b: Images, layers: Layers, pooling: Pooling) -> tuple[Tensor, Tensor]:
    """u and s of the first pre-activations."""
    if pooling == "flatten":
        e1, e2 = (e.permute(1, 2, 0, 3) for e in (a.unit, b.unit))
        pair = [v.permute(2, 3, 0, 1).contiguous() for v in one_minus_and_plus_cosine(e1, e2)]
    else:
        e1, e2 = a.unit.flatten(0, 2), b.unit.flatten(0, 2)
        shape = (*a.unit.shape[:3], *b.unit.shape[:3])
        order = (0, 3, 1, 2, 4, 5)
        pair = [
            v.reshape(shape).permute(order).contiguous() for v in one_minus_and_plus_cosine(e1, e2)
        ]
    sides = [_sides(v1, v2, pooling) for v1, v2 in zip(a.first, b.first, strict=True)]
    s1, s2 = Split(*(v1 for v1, _ in sides)), Split(*(v2 for _, v2 in sides))
    return first_pair(pair[0], pair[1], s1, s2, layers.b[0] > 0, layers.activation.even)


def propagate(a: Images, b: Images, layers: Layers, pooling: Pooling, size: int) -> Tensor:
    """Θ, or K where nothing is trained, of all pairs of images."""
    images = images_a_window(pooling)
    u, s = _first(a, b, layers, pooling)
    theta = 1.0 - u if layers.trained[0] else None  # divided by the deviations, as u is
    for k in range(layers.depth):
        w, bias, trained = layers.w[k + 1], layers.b[k + 1], layers.trained[k + 1]
        r1, r2 = _sides(a.stds[k], b.stds[k], pooling)
        h1, h2 = _sides(a.features[k], b.features[k], pooling)
        defect, slope = layers.activation.pair(r1, r2, h1, h2, u, s)
        if theta is not None:
            theta.mul_(slope).mul_(h1).mul_(h2)
        if k + 1 < layers.depth:
            r1, r2 = _sides(a.stds[k + 1], b.stds[k + 1], pooling)
            inverse1, inverse2 = safe_inverse(r1), safe_inverse(r2)
            distance = _squared_distance(a.features[k], b.features[k], defect, pooling, size)
            u = distance.mul_((w / size) ** 2).sub_((r1 - r2).square()).clamp_min_(0.0)
            u = u.mul_(0.5 * inverse1).mul_(inverse2)
            s = sine(u)
            if theta is not None:
                theta = _convolve(_pad(theta, size, images), size, images).mul_((w / size) ** 2)
                theta.mul_(inverse1).mul_(inverse2)
            if trained:
                theta = 1.0 - u if theta is None else theta.sub_(u).add_(1.0)
    pixels = tuple(range(-2 * images, 0))
    kernel = (1.0 - defect).mul_(h1).mul_(h2).mean(pixels).mul_(w * w).add_(bias * bias)
    if theta is None:
        return kernel
    theta = theta.mean(pixels).mul_(w * w)
    return theta.add_(kernel) if trained else theta


def images_a_window(pooling: Pooling) -> int:
    return 1 if pooling == "flatten" else 2


def _squared_distance(
    h1: Tensor, h2: Tensor, defect: Tensor, pooling: Pooling, size: int
) -> Tensor:
    """Σ_δ E[(φ(z) − φ(z'))²](p+δ, p'+δ); features outside of an image are zero."""
    images = images_a_window(pooling)
    f1, f2 = _sides(h1, h2, pooling)
    padded = _pad(defect.mul_(2.0 * f1).mul_(f2), size, images)
    p1, p2 = _sides(_pad(h1, size, 1), _pad(h2, size, 1), pooling)
    return _convolve(padded.add_((p1 - p2).square_()), size, images)
