"""Completed matrices against single solves, closed forms of rank one, and the convex solution."""

import math

import pytest
import torch

import gflow
from gflow.baselines import minimum_nuclear_norm
from gflow.errors import InputError
from gflow.losses import MatrixCompletion
from gflow.results.completion import CompletionResult
from gflow.studies import completion_study
from gflow.studies.completed import gaussian_layers


def problem(size=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, size, generator=generator, dtype=torch.float64)
    mask = torch.rand(size, size, generator=generator) < 0.6
    return torch.outer(a, b), mask


@pytest.fixture(scope="module")
def study():
    return completion_study(*problem(), [2, 3], [1e-2, 1e-4], 2)


def test_each_end_is_that_of_a_solve_of_its_own(study):
    matrix, mask = problem()
    flow = gflow.LayerwiseFlow(MatrixCompletion(matrix, mask), [6, 6, 6, 6])
    y0 = flow.pack(gaussian_layers(6, 3, 1e-4, 1, matrix))
    event = gflow.events.loss_reaches(flow, 5e-7)
    path = gflow.integrate(flow, y0, [0.0, 1e6], rtol=1e-9, atol=1e-12, until=event)
    W = flow.end_to_end(path.ys[-1])
    at = (1, 1, 1)  # depth 3, the smaller scale, the second seed
    assert float(study.flows.nuclear_norms[at]) == pytest.approx(
        float(torch.linalg.matrix_norm(W, "nuc")), rel=1e-4
    )
    hidden = ((W - matrix)[~mask].square()).mean()
    assert float(study.flows.errors[at]) == pytest.approx(float(hidden), rel=0.05)
    assert float(study.times[at]) == pytest.approx(float(path.ts[-1]), rel=2e-2)


def test_ends_have_the_loss_and_deeper_ones_the_lower_rank(study):
    assert study.losses.flatten().tolist() == pytest.approx([5e-7] * 8, rel=1e-3)
    ranks = study.flows.effective_ranks.median(dim=-1).values
    assert bool((ranks[1] <= ranks[0]).all())
    assert bool((ranks[:, 1] <= ranks[:, 0]).all())  # a smaller start, too
    assert ranks[1, 1] == pytest.approx(1.0, abs=0.02)
    assert all(path.certificate.holds for path in study.trajectories)


def test_convex_solution_and_truth_are_beside_them(study):
    matrix, mask = problem()
    best = minimum_nuclear_norm(matrix, mask)
    assert float(study.convex.nuclear_norms) == pytest.approx(best.value, rel=1e-6)
    assert float(study.truth.nuclear_norms) == pytest.approx(
        float(torch.linalg.matrix_norm(matrix, "nuc"))
    )
    assert float(study.truth.errors) == 0
    assert best.value <= float(study.flows.nuclear_norms.min()) * (1 + 1e-2)
    summary = CompletionResult.from_study(study).summary
    ratio = float(study.flows.nuclear_norms[0, 0].median()) / float(study.truth.nuclear_norms)
    assert summary["starts"][0]["nuclear_ratio"] == pytest.approx(ratio, rel=0.2)
    assert summary["convex_nuclear_ratio"] <= 1 + 1e-6


def test_entries_nobody_knows_measure_nothing():
    matrix, mask = problem()
    matrix[~mask] = torch.nan
    found = completion_study(matrix, mask, [2], [1e-2], [3], convex=False, loss_end=1e-4)
    assert found.seeds == (3,)
    assert math.isnan(float(found.flows.errors[0, 0, 0]))
    assert float(found.flows.nuclear_norms[0, 0, 0]) > 0
    assert found.convex is None
    assert found.truth is None


def test_study_draws_itself(study):
    ds = study.to_dataset()
    assert ds["completion_error"].dims == ("depth", "init_scale", "seed")
    assert "2 scales x 2 seeds" in repr(study)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2, 3).double(), torch.ones(2, 3), [2], [0.1]), r"square, got shape \(2, 3\)"),
        ((*problem(), 2, [0.1]), "depths must be a sequence of numbers, got 2; write"),
        ((*problem(), [2], 0.1), "init_scales must be a sequence of numbers, got 0.1"),
        ((*problem(), [0], [0.1]), "each of depths must be a whole number of at least 1, got 0"),
        ((*problem(), [2], [-0.1]), "each of init_scales must be a positive number, got -0.1"),
        ((*problem(), [2], [0.1], 0), "seeds must be a whole number of at least 1, got 0"),
    ],
)
def test_input_errors(arguments, message):
    with pytest.raises(InputError, match=message):
        completion_study(*arguments)


def test_a_start_that_has_the_loss_already_is_refused():
    with pytest.raises(InputError, match="loss_end must be below the loss of the start"):
        completion_study(*problem(), [2], [0.1], loss_end=1e3)
