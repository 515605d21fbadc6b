"""Modes are grouped anew without a change of W."""

import torch

from gflow.flows.singular.grouping import ClusterGuard, Network, cluster_coordinates, cluster_sizes
from gflow.losses import SquaredDistance
from tests.helpers import randn, relative

NETWORK = Network(SquaredDistance(randn(4, 5)), 3, symmetric=False)


def coordinates(*logs):
    U, V = (torch.linalg.qr(randn(size, len(logs), seed=size))[0] for size in (4, 5))
    return cluster_coordinates(
        NETWORK, (torch.tensor(logs, dtype=torch.float64), U, V), grouped=True
    )


def moved(found, *logs):
    """Return a state of the same clusters with other singular values."""
    _, U, V = found.flow.modes(found.start)
    return found.flow.pack(torch.tensor(logs, dtype=torch.float64), U, V)


def test_sizes_of_clusters():
    assert cluster_sizes([0.0, -0.5, -1.0, -3.0]) == [3, 1]
    assert cluster_sizes([-0.5 * i for i in range(14)]) == [7, 7]  # none is wider than e^5
    assert cluster_sizes([2.0]) == [1]


def test_modes_that_part_and_meet_are_grouped_anew():
    found = coordinates(0.0, -0.2, -4.0)
    assert found.flow.layout.clusters == (2, 1)
    for logs, clusters in [
        ((0.0, -0.7, -4.0), None),
        ((0.0, -1.2, -4.0), (1, 1, 1)),
        ((0.0, -0.2, -0.4), (3,)),
        ((0.0, -0.9, -0.95), (1, 2)),
    ]:
        y = moved(found, *logs)
        anew = ClusterGuard(found.flow).check(y)
        if clusters is None:
            assert anew is None
            continue
        assert anew.flow.layout.clusters == clusters
        assert relative(anew.flow.end_to_end(anew.start), found.flow.end_to_end(y)) < 1e-13
        assert anew.absolute
        assert anew.guard is not None


def test_the_margin_is_the_distance_from_where_modes_are_grouped():
    found = coordinates(0.0, -0.2, -4.0)
    guard = ClusterGuard(found.flow)
    assert guard.check(found.start) is None
    assert abs(guard.margin - 0.8) < 1e-12


def test_frames_are_orthonormal_again():
    found = coordinates(0.0, -0.2, -4.0)
    y = moved(found, 0.0, -2.0, -4.0)
    y[found.flow.layout.frame :] *= 1 + 1e-6
    anew = ClusterGuard(found.flow).check(y)
    Z, Y = anew.flow.layout.frames(anew.start)
    for frame in (Z, Y):
        assert relative(frame.mT @ frame, torch.eye(3).double()) < 1e-14


def test_each_mode_of_an_ensemble_is_by_itself():
    U, V = (torch.linalg.qr(randn(size, 2, seed=size))[0].expand(3, size, 2) for size in (4, 5))
    found = cluster_coordinates(NETWORK, (torch.zeros(3, 2).double(), U, V), grouped=False)
    assert found.flow.layout.clusters == (1, 1)
    assert found.start.shape == (3, found.flow.layout.size)
