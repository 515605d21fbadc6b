"""Plateaus of linear attention in context: samples by moments, levels, and a path."""

import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import NetworkFlow
from gflow.flows.objective.criteria import HalfSquaredError
from gflow.networks.attention import LinearAttention
from gflow.networks.context_moments import (
    MapAttention,
    MomentAttention,
    SummedSquares,
    combined,
    draw_contexts,
)
from gflow.scenario import load_scenario, validate
from gflow.studies.context_plateaus import best_levels, context_levels, context_plateaus
from tests.helpers import relative
from tests.settings.scenarios import no_stage

SMALL = {"setting": "in-context", "inputs": 2, "samples": 20, "points": 60, "method": "bdf"}


def sequences(contexts, length, inputs, decay, seed):
    """Return the same samples as sequences (n, N + 1, D + 1), drawn again from the seed."""
    rng = np.random.default_rng(seed)
    spectrum = decay ** np.arange(inputs)
    spectrum *= inputs / spectrum.sum()
    x = np.sqrt(spectrum) * rng.standard_normal((contexts, length, inputs))
    first, second = (
        np.linalg.qr(rng.standard_normal((contexts, inputs, inputs)))[0] for _ in range(2)
    )
    rows, targets = [], []
    for c in range(contexts):
        for w in (*first[c], *-first[c]):
            for q in second[c]:
                query = np.sqrt(inputs * spectrum) * q
                w_ = np.sqrt(inputs) * w
                examples = np.concatenate([x[c], (x[c] @ w_)[:, None]], axis=1)
                rows.append(np.concatenate([examples, [[*query, 0.0]]]))
                targets.append([w_ @ query])
    return torch.as_tensor(np.array(rows)), torch.as_tensor(np.array(targets))


def test_moments_stand_for_the_sequences():
    size = (3, 6, 2, 0.5, 7)
    found, (X, targets) = draw_contexts(*size), sequences(*size)
    torch.manual_seed(0)
    attention = LinearAttention(3, heads=4, rank=2).double()
    moments = MomentAttention(3, heads=4, rank=2).double()
    moments.load_state_dict(attention.state_dict())
    assert relative(found.targets, targets) <= 1e-14
    assert relative(moments(found.rows).detach(), attention(X).detach()) <= 1e-13


def test_combinations_have_the_squared_error_and_the_distances_of_all_samples():
    found = draw_contexts(30, 6, 2, 0.5, 7)
    inputs, targets = combined(found)
    assert len(inputs) == 28 < len(found.rows) / 2
    torch.manual_seed(0)
    module, maps = (kind(3, heads=4, rank=2).double() for kind in (MomentAttention, MapAttention))
    all_samples = NetworkFlow(module, HalfSquaredError(), found.rows, found.targets)
    few = NetworkFlow(maps, SummedSquares(len(found.rows)), inputs, targets)
    y = torch.stack([all_samples.start, 0.3 * all_samples.start.sin()])
    assert relative(few.loss(y), all_samples.loss(y)) <= 1e-13
    assert relative(few(0.0, y), all_samples(0.0, y)) <= 1e-12
    distances = [flow.end_to_end(y).diff(dim=0).norm() for flow in (few, all_samples)]
    assert float(distances[0]) == pytest.approx(float(distances[1]), rel=1e-12)
    names = [[law.name for law in flow.laws] for flow in (few, all_samples)]
    assert names[0] == names[1] != []


def test_few_samples_are_not_combined():
    assert combined(draw_contexts(3, 6, 2, 0.5, 7)) is None


def test_samples_have_exact_means_over_functions_and_queries():
    found = draw_contexts(5, 8, 3, 0.5, 1)
    queries = found.rows[:, 16:19]
    assert relative(queries.mT @ queries / len(queries), found.covariance) <= 1e-13
    assert abs(float(found.targets.mean())) <= 1e-14  # as many w as −w


@pytest.mark.slow
def test_levels_of_theory_are_the_means_over_gaussian_contexts():
    # By Monte Carlo: E S = Λ and E S² = Λ² + (Λ² + Λ tr Λ)/N of Gaussian examples.
    found = draw_contexts(200_000, 5, 2, 0.5, 3)
    assert (
        relative(
            best_levels(found.second_moments, found.covariance), context_levels(found.covariance, 5)
        )
        <= 3e-3
    )


def test_best_levels_are_those_of_a_search():
    S, covariance = draw_contexts(6, 5, 2, 0.6, 2)[2:]
    found = best_levels(S, covariance)
    eye = torch.eye(2, dtype=torch.float64)

    def loss(A):
        rest = eye - S @ A
        return 0.5 * (rest.mT @ rest @ covariance).diagonal(dim1=-2, dim2=-1).sum(-1).mean()

    assert float(found[0]) == pytest.approx(float(loss(0 * eye)), rel=1e-14)
    angles = torch.linspace(0, torch.pi, 721, dtype=torch.float64)
    best = np.inf
    for a in angles:  # A = u vᵀ with a given direction v: linear least squares in u
        v = torch.stack([a.cos(), a.sin()])
        square = (S @ S).mean(0) * (v @ covariance @ v)
        u = torch.linalg.solve(square, S.mean(0) @ covariance @ v)
        best = min(best, float(loss(torch.outer(u, v))))
    assert float(found[1]) == pytest.approx(best, rel=1e-4)
    A = torch.linalg.solve((S @ S).mean(0), S.mean(0))
    assert float(found[2]) == pytest.approx(float(loss(A)), rel=1e-12)


def test_a_path_waits_at_the_best_maps_of_every_rank():
    result = validate(SMALL, "a test").run(no_stage)
    rows = result.summary["plateaus"]
    assert [row["learned"] for row in rows] == [0, 1, 2]
    assert result.summary["certificate"]["holds"]
    assert max(abs(row["sample_difference"]) for row in rows[:-1]) <= 1e-3
    assert abs(rows[-1]["sample_difference"]) <= 1e-2  # the path ends before
    assert rows[0]["time"] < rows[1]["time"] < rows[2]["time"]


def test_levels_that_are_not_reached_are_nan():
    found = validate(SMALL | {"t_end": 20.0}, "a test").run(no_stage).summary["plateaus"]
    assert np.isnan(found[-1]["height"])
    assert found[0]["height"] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.slow
def test_the_scenario_is_within_two_per_cent_of_theory():
    summary = load_scenario("in-context").run(no_stage).summary
    assert summary["certificate"]["holds"]
    assert summary["theory_error"] <= 0.02
    assert summary["sample_error"] <= 0.005


def test_input_errors():
    with pytest.raises(InputError, match="heads must be at least as many as the 2 dimensions"):
        validate(SMALL | {"heads": 1}, "a test").setup()
    with pytest.raises(InputError, match="samples must take at most 2 GiB"):
        validate(SMALL | {"samples": 10**6, "inputs": 20}, "a test").setup()
    with pytest.raises(InputError, match=r"covariance must be a square matrix, got shape \(2,\)"):
        context_levels(torch.ones(2), 5)
    flow, start = gflow.KernelFlow.example()
    levels = torch.tensor([1.0, 2.0]).double()
    for wrong in (levels, levels[:1], levels.flip(0)[None]):
        with pytest.raises(InputError, match="theory must be two or more falling levels"):
            context_plateaus(flow, start, wrong, wrong, t_end=1.0)
    falling = levels.flip(0)
    with pytest.raises(InputError, match="theory must be a tensor"):
        context_plateaus(flow, start, [2.0, 1.0], falling, t_end=1.0)
    with pytest.raises(InputError, match="context_plateaus takes one start"):
        context_plateaus(flow, torch.stack([start, start]), falling, falling, t_end=1.0)
