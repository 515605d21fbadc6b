"""Flows, starts and methods that the tests of the stepping loop share."""

import torch

from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers import methods
from gflow.solvers.loop.stepping import SteppedSolver
from tests.helpers import dop853, times

LONE_METHODS = ["bdf"]


GFLOW_METHODS = [name for name, solver in methods().items() if isinstance(solver, SteppedSolver)]


ENSEMBLE_METHODS = [name for name in GFLOW_METHODS if name not in LONE_METHODS]


M = torch.diag(times(3.0, 2.0, 1.0))


FLOW = EndToEndFlow(SquaredDistance(M), 3)


SCALES = times(1e-3, 1e-2, 0.1, 0.5)


STARTS = SCALES[:, None, None] * torch.eye(3, dtype=torch.float64)


def tolerance(method: str) -> float:
    """rkc2 is of order 2: a ten times tighter tolerance costs three times as much."""
    return 1e-4 if method == "rkc2" else 1e-6


def truth(flow, y0, ts):
    """Return the states at ts by a tight tolerance; the same request is solved once."""
    key = (id(flow), y0.numpy().tobytes(), tuple(ts))
    if key not in _TRUTHS:
        _TRUTHS[key] = flow, dop853(lambda y: flow(0.0, torch.from_numpy(y)).numpy(), y0, ts)
    return _TRUTHS[key][1]


_TRUTHS: dict[tuple, tuple] = {}  # with the flow, so that its id is not given to another
