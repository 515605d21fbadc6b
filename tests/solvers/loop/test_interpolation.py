import itertools

import numpy as np
import pytest
import torch

import gflow
from gflow.solvers.loop.interpolation import hermite
from tests.helpers import relative, slow_pairs_except, times, worst_relative
from tests.solvers.potentials import OWN, mild, solve, stiff

NODES = [[0.0, 1.0], [0.0, 0.3, 1.0], [-1.0, 0.5, 0.75], [1.0, 0.0, 3.0]]


def path(t):
    """A smooth path that is not a polynomial."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return torch.stack([torch.exp(-t), torch.sin(2 * t), 1 / (2 + t)])


def slope(t):
    t = torch.as_tensor(t, dtype=torch.float64)
    return torch.stack([-torch.exp(-t), 2 * torch.cos(2 * t), -1 / (2 + t) ** 2])


def interpolated(t, nodes):
    return hermite(t, nodes, [path(s) for s in nodes], [slope(s) for s in nodes])


@pytest.mark.parametrize("nodes", NODES)
def test_interpolant_takes_values_and_slopes_at_the_nodes(nodes):
    for node in nodes:
        assert relative(interpolated(node, nodes), path(node)) <= 1e-14
        h = 1e-5
        centred = (interpolated(node + h, nodes) - interpolated(node - h, nodes)) / (2 * h)
        assert relative(centred, slope(node)) <= 1e-8


@pytest.mark.parametrize("nodes", NODES)
def test_interpolant_is_exact_up_to_its_degree_and_not_beyond(nodes):
    degree = 2 * len(nodes) - 1
    for power, exact in ((degree, True), (degree + 1, False)):
        values = [times(s**power) for s in nodes]
        slopes = [times(power * s ** (power - 1)) for s in nodes]
        value = hermite(0.6, nodes, values, slopes)
        assert (abs(float(value) - 0.6**power) <= 1e-12) == exact


@pytest.mark.parametrize(
    ("shape", "order"), [((0.0, 1.0), 4), ((0.0, 0.4, 1.0), 6), ((0.0, 0.3, 0.6, 1.0), 8)]
)
def test_fitted_order(shape, order):
    longest = 0.8 if order == 8 else 0.4  # the shortest step would show round-off
    steps = [longest / 2**i for i in range(4)]
    errors = []
    for h in steps:
        nodes = [0.4 + h * s for s in shape]
        inside = np.linspace(nodes[-2], nodes[-1], 9)
        errors.append(max(float((interpolated(t, nodes) - path(t)).norm()) for t in inside))
    fitted = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert fitted == pytest.approx(order, abs=0.25)


# -- in a solve -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "method"),
    slow_pairs_except(
        itertools.product([mild, stiff], OWN), (mild, "tsit5"), (mild, "rkc2"), (stiff, "bdf")
    ),
)
def test_dense_output_is_as_accurate_as_landing_and_cheaper(problem, method):
    flow, y0 = problem()
    if problem is stiff and method in ("tsit5", "dop853"):
        pytest.skip("not for stiff flows")
    ts = [0.0, *np.linspace(0.004, 1.0, 250)]
    rtol = 1e-4
    truth = flow.at(ts, y0)
    dense = solve(flow, y0, ts, method, rtol, dense=True)
    landed = solve(flow, y0, ts, method, rtol)
    assert dense.ts.tolist() == landed.ts.tolist() == ts
    assert dense.certificate.holds, dense.certificate
    assert worst_relative(landed.ys, truth) <= 10 * rtol
    assert worst_relative(dense.ys, truth) <= 10 * rtol
    assert dense.stats.rhs_evals <= 0.6 * landed.stats.rhs_evals


@pytest.mark.parametrize("method", OWN)
def test_steps_do_not_depend_on_the_requested_times(method):
    flow, y0 = mild()
    sparse = solve(flow, y0, [0.0, 2.0], method, 1e-5, dense=True)
    fine = solve(flow, y0, np.linspace(0.0, 2.0, 101), method, 1e-5, dense=True)
    assert sparse.stats.accepted == fine.stats.accepted
    assert torch.equal(sparse.ys[-1], fine.ys[-1])
    middles = fine.stats.rhs_evals - sparse.stats.rhs_evals
    assert 0 <= middles <= (12 * fine.stats.accepted if method == "dop853" else 0)


def test_dense_output_keeps_up_with_long_steps_at_tight_tolerances():
    flow, y0 = mild()
    ts = [0.0, *np.geomspace(1e-3, 100.0, 40)]
    path = solve(flow, y0, ts, "dop853", 1e-10, dense=True)
    assert worst_relative(path.ys, flow.at(ts, y0)) <= 100 * 1e-10


def test_times_that_fall_on_steps_or_very_near_them():
    flow, y0 = mild()
    steps = [0.0]
    solve(flow, y0, [0.0, 2.0], "tsit5", 1e-5, progress=lambda t, loss: steps.append(t))
    beside = sorted({t + d for t in steps[1:-1] for d in (-1e-13, 0.0, 1e-13)})
    ts = [0.0, *beside, 2.0]
    path = solve(flow, y0, ts, "tsit5", 1e-5, dense=True)
    assert worst_relative(path.ys, flow.at(ts, y0)) <= 1e-5


def test_many_times_in_the_first_step():
    """There is only one step: the interpolant is of order 4, and its error must be negligible."""
    flow, y0 = mild()
    first = []
    solve(flow, y0, [0.0, 2.0], "tsit5", 1e-5, progress=lambda t, loss: first.append(t))
    ts = [*np.linspace(0.0, first[0], 20).tolist(), 2.0]
    path = solve(flow, y0, ts, "tsit5", 1e-5, dense=True)
    assert worst_relative(path.ys, flow.at(ts, y0)) <= 1e-5


@pytest.mark.parametrize("method", ["tsit5", "rkc2", "auto"])
def test_ensemble(method):
    flow, y0 = mild()
    starts = torch.stack([y0, 0.3 * y0, -2.0 * y0])
    ts = np.linspace(0.0, 2.0, 41).tolist()
    path = gflow.integrate(flow, starts, ts, method, 1e-5, 1e-8, dense=True)
    assert path.certificate.holds
    for i, start in enumerate(starts):
        assert worst_relative(path.ys[:, i], flow.at(ts, start)) <= 1e-4
