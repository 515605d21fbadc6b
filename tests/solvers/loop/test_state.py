"""The state of a solve at its start, and the limits of its methods."""

import numpy as np
import pytest
import torch

from gflow.errors import InputError
from gflow.flows import EndToEndFlow
from gflow.losses import SquaredDistance
from gflow.solvers.bdf import BDF
from gflow.solvers.explicit import Tsit5
from gflow.solvers.loop.state import LoopState, MethodSet
from gflow.solvers.problem import Problem
from gflow.solvers.rkc2 import RKC2
from gflow.solvers.rock4 import ROCK4
from tests.helpers import randn

FLOW = EndToEndFlow(SquaredDistance(torch.eye(2, dtype=torch.float64)), 3)
STARTS = randn(3, 2, 2)
EPS = 2.0**-52


def make_state(y0, *methods):
    problem = Problem(FLOW, y0, [0.0, 1.0], rtol=1e-6, atol=1e-9)
    return LoopState.initial(problem, methods, starter=False)


def test_limits_of_methods_follow_the_tolerance():
    methods = MethodSet((Tsit5(), ROCK4(), RKC2()), 1e-6, EPS, starter=False)
    assert len(methods) == 3
    assert methods[1].name == "rock4"
    assert methods.stabilised.tolist() == [False, True, True]
    for i, method in enumerate(methods.methods):
        assert methods.max_reach[i] == method.reach(method.max_stages(1e-6, EPS))
        assert methods.error_factor[i] == method.error_factor(1e-6)


def test_a_single_start_counts_scalars_and_an_ensemble_rows():
    single, ensemble = make_state(STARTS[0], Tsit5()), make_state(STARTS, Tsit5())
    single.count_evals(0, 5)
    ensemble.count_evals(np.array([0, 2]), 5)
    assert (single.problem.rhs_evals, single.members.evals.tolist()) == (5, [5])
    assert (ensemble.problem.rhs_evals, ensemble.members.evals.tolist()) == (10, [5, 0, 5])


def test_rows_of_all_members():
    single, ensemble = make_state(STARTS[0], Tsit5()), make_state(STARTS, Tsit5())
    ensemble.members.t[:] = [1.0, 2.0, 3.0]
    assert single.members.t[single.all_rows] == 0.0
    assert ensemble.members.t[ensemble.all_rows].tolist() == [1.0, 2.0, 3.0]
    assert single.covers(0)
    assert ensemble.covers(np.arange(3))
    assert not ensemble.covers(np.arange(2))


def test_the_first_losses_are_those_of_the_starts():
    assert make_state(STARTS, Tsit5()).first_loss == pytest.approx(FLOW.loss(STARTS).abs().numpy())


def test_past_states_are_kept_for_a_multistep_method_only():
    assert make_state(STARTS[0], Tsit5()).past is None
    assert make_state(STARTS[0], Tsit5(), BDF()).past is not None


def test_a_multistep_method_takes_one_start():
    with pytest.raises(InputError, match=r"integrates one start, got an ensemble of \(3,\)"):
        make_state(STARTS, Tsit5(), BDF())
