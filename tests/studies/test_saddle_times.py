"""Jump times of diagonal networks: closed forms, and their approach to the algorithm's."""

import math

import pytest
import torch

from gflow.errors import InputError
from gflow.scenario import load_scenario
from gflow.solvers import SolveOptions
from gflow.studies.saddle_times import saddle_times

OPTIONS = SolveOptions(rtol=1e-7, atol=1e-9, points=60)


def followed(X, y, powers, jumps, **keys):
    return saddle_times(X, y, powers, jumps, options=OPTIONS, stages=lambda n, t: None, **keys)


def test_independent_weights_jump_at_their_own_times():
    X, y = torch.eye(2, dtype=torch.float64), torch.tensor([2.0, -1.0], dtype=torch.float64)
    found = followed(X, y, [30, 300], 2)
    assert found.limit.times.tolist() == [1.0, 2.0]
    # ẇ = (4/n)(y − w)√(w² + 4α⁴): with σ = w/y, and α tiny, log(σ/(1 − σ)) = 2|y|t + log(α²/|y|).
    for i, power in enumerate(found.powers):
        log_alpha = -power * math.log(10)
        for k, (target, other) in enumerate(((2.0, 1.0), (1.0, 0.0))):
            # The loss is half-way where (1 − σ)² = ½, the other weight at rest.
            s = 1 - math.sqrt(0.5)
            t = (math.log(s / (1 - s)) + math.log(target) - 2 * log_alpha) / (2 * target)
            assert float(found.times[i, k]) * (-log_alpha / 2) == pytest.approx(t, rel=1e-5), other
    assert not found.switched_off


def test_jumps_tend_to_the_algorithm_as_one_over_log():
    X, y = load_scenario("saddle-to-saddle").problem()
    found = followed(X, y, [20, 1000], 4)
    assert found.switched_off == ((3, 1),)
    scaled = found.distances * torch.tensor(found.powers) * math.log(10)
    assert found.distances[1] < 2e-3
    assert scaled.tolist() == pytest.approx([float(scaled[0])] * 2, rel=0.1)
    assert all(path.certificate.holds for path in found.paths)


def test_a_short_path_has_no_time_for_the_jumps_that_it_does_not_reach():
    X, y = torch.eye(2, dtype=torch.float64), torch.tensor([2.0, -1.0], dtype=torch.float64)
    found = followed(X, y, [100], 2, t_end=1.5)
    assert found.times[0].isfinite().tolist() == [True, False]


def test_no_jump_is_refused():
    X = torch.eye(2, dtype=torch.float64)
    with pytest.raises(InputError, match="the network must jump, but w = 0 is the solution"):
        followed(X, torch.zeros(2, dtype=torch.float64), [10], 2)


def test_sizes_whose_states_cannot_be_told_apart_are_refused():
    keys = {"samples": 3, "inputs": 2}
    with pytest.raises(InputError, match="inputs must be another number than half of samples"):
        load_scenario("saddle-to-saddle", keys).problem()
