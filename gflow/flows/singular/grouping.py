"""Group the singular values of a path anew: apart where they are apart, together where close."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from gflow.flows.base import Coordinates, RankGuard
from gflow.flows.singular.clusters import ClusterFlow
from gflow.losses import Loss

# Distances of logs of singular values.
_LINK = 0.6  # of neighbours that are in one cluster when modes are grouped
_SPLIT, _MERGE = 1.0, 0.3  # of neighbours in one cluster, and in two: group the modes anew
_WIDTH, _WIDEST = 5.0, 7.0  # of the first and the last one of a cluster
_TIE = 1e-6  # of gaps that count as equal, for each mode from the middle of a cluster


def cluster_sizes(logs: Sequence[float]) -> list[int]:
    """Return the sizes of clusters of values in descending order.

    Parameters
    ----------
    logs : sequence of float
        Logarithms of singular values, in descending order.

    Returns
    -------
    list of int

    Examples
    --------
    >>> cluster_sizes([0.0, -0.5, -3.0])
    [2, 1]
    """
    gaps = [a - b for a, b in itertools.pairwise(logs)]
    cuts = [i + 1 for i, gap in enumerate(gaps) if not gap <= _LINK]
    bounds = [0, *cuts, len(logs)]
    sizes = []
    for first, end in itertools.pairwise(bounds):
        sizes += _narrow(list(logs[first:end]))
    return sizes


def _narrow(logs: list[float]) -> list[int]:
    """Cut a cluster at its largest gaps, of equal ones in the middle, until no part is wide."""
    if len(logs) < 2 or logs[0] - logs[-1] <= _WIDTH:
        return [len(logs)]
    middle = 0.5 * len(logs)
    gaps = [a - b - _TIE * abs(i + 1 - middle) for i, (a, b) in enumerate(itertools.pairwise(logs))]
    at = gaps.index(max(gaps)) + 1
    return [*_narrow(logs[:at]), *_narrow(logs[at:])]


class Network(NamedTuple):
    """What the flow of W is of."""

    loss: Loss
    depth: int  #: N ≥ 2; 2 for W = UUᵀ
    symmetric: bool  #: whether W = UUᵀ


def cluster_coordinates(
    network: Network, modes: tuple[Tensor, Tensor, Tensor], *, grouped: bool
) -> Coordinates:
    """Return coordinates of W = U diag(e^l) Vᵀ with its modes in clusters.

    Parameters
    ----------
    network : Network
    modes : tuple of Tensor
        Logs of the singular values, (..., r), and singular vectors, (..., m, r) and (..., n, r).
    grouped : bool
        Whether close modes are grouped, of one state; else each is a cluster of its own.

    Returns
    -------
    Coordinates
        Their flow is a `ClusterFlow`.

    Examples
    --------
    >>> import gflow
    >>> flow, y0 = gflow.SpectralFlow.example()
    >>> flow.coordinates(y0).flow.layout.clusters
    (1, 1)
    """
    logs, U, V = modes
    if not grouped:
        flow, unguarded = ClusterFlow(*network, [1] * logs.shape[-1]), None
    else:
        order = logs.argsort(descending=True)
        logs, U, V = logs[order], U[:, order], V[:, order]
        flow = ClusterFlow(*network, cluster_sizes(logs.tolist()), ClusterGuard)
        unguarded = functools.partial(cluster_coordinates, network, modes, grouped=False)
    start = flow.pack(logs, U, V)
    return Coordinates(flow, start, flow.states, absolute=True, unguarded=unguarded)


class ClusterGuard(RankGuard):
    """Groups the modes of a `ClusterFlow` anew where they part or come close.

    Parameters
    ----------
    flow : ClusterFlow
    """

    most_segments = 100_000

    def __init__(self, flow: ClusterFlow):
        self._flow = flow

    def check(self, y: Tensor) -> Coordinates | None:
        logs, U, V = self._flow.modes(y)
        order = logs.argsort(descending=True)
        values = logs[order].tolist()
        cluster = self._flow.layout.of_mode[order.cpu().numpy()].tolist()
        room = min(_rooms(values, cluster))
        self.margin = max(room, 0.0)
        if room > 0 or cluster_sizes(values) == _runs(cluster):
            return None
        flow = self._flow
        modes = logs, _orthonormal(U), _orthonormal(V)
        network = Network(flow.network_loss, flow.depth, flow.symmetric)
        found = cluster_coordinates(network, modes, grouped=True)
        return found._replace(guard=found.flow.rank_guard(found.start, 0.0))


def _rooms(values: list[float], cluster: list[int]) -> list[float]:
    """Return how far neighbours and clusters are from where modes are grouped anew."""
    rooms = [_WIDEST]
    parts: dict[int, list[float]] = {}
    for value, k in zip(values, cluster, strict=True):
        parts.setdefault(k, []).append(value)
    rooms += [_WIDEST - (part[0] - part[-1]) for part in parts.values()]
    for (a, b), (j, k) in zip(itertools.pairwise(values), itertools.pairwise(cluster), strict=True):
        if j == k:
            rooms.append(_SPLIT - (a - b))
        elif parts[j][0] - parts[k][-1] < _WIDTH:  # else they would be too wide as one
            rooms.append((a - b) - _MERGE)
    return rooms


def _runs(cluster: list[int]) -> list[int] | None:
    """Return the sizes of clusters in the order of modes; None where they overlap."""
    runs = [(k, len(list(group))) for k, group in itertools.groupby(cluster)]
    return [n for _, n in runs] if len({k for k, _ in runs}) == len(runs) else None


def _orthonormal(frame: Tensor) -> Tensor:
    """Return the nearest orthonormal columns, of columns that are nearly so."""
    for _ in range(2):
        frame = 1.5 * frame - 0.5 * frame @ (frame.mT @ frame)
    return frame
