"""Depth, scale and samples against single solves, closed forms of rank one, and each other."""

import math

import pytest
import torch

import gflow
from gflow.baselines import minimum_nuclear_norm
from gflow.errors import InputError
from gflow.losses import MatrixCompletion
from gflow.results.completion_trend import CompletionTrendResult
from gflow.studies import completion_study, depth_study, init_scale_study, samples_study
from gflow.studies.completed import gaussian_layers

SIZE = 6


def rank_one(seed=0):
    a, b = torch.randn(2, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.outer(a, b)


def mask():
    return torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(5)) < 0.6


@pytest.fixture(scope="module")
def samples():
    return samples_study(rank_one(), [24, 9], 4, depth=2, init_scale=1e-2, convex=True)


def test_depths_and_scales_are_lines_of_the_grid():
    end = {"loss_end": 1e-3}
    grid = completion_study(rank_one(), mask(), [2, 3], [0.1, 1e-2], 2, **end)
    by_depth = depth_study(rank_one(), mask(), [2, 3], 2, init_scale=0.1, **end)
    by_scale = init_scale_study(rank_one(), mask(), [0.1, 1e-2], 2, depth=3, **end)
    for name in ("errors", "nuclear_norms", "effective_ranks"):
        whole = getattr(grid.flows, name)
        torch.testing.assert_close(getattr(by_depth.flows, name), whole[:, 0], rtol=5e-3, atol=1e-4)
        torch.testing.assert_close(getattr(by_scale.flows, name), whole[1], rtol=5e-3, atol=1e-4)
    assert by_depth.values == (2, 3)
    assert by_scale.values == (0.1, 1e-2)
    assert by_depth.losses.shape == by_depth.times.shape == (2, 2)
    assert len(by_depth.trajectories) == 2
    assert len(by_scale.trajectories) == 1
    slope = math.log(by_depth.band("errors")[1][1] / by_depth.band("errors")[1][0])
    assert by_depth.laws["errors"].slope == pytest.approx(slope / math.log(1.5))


def test_every_mask_is_that_of_a_solve_of_its_own(samples):
    assert samples.values == (9, 24)
    matrix, path = rank_one(), samples.trajectories[0]
    assert path.certificate.holds
    masks = path.flow._loss._weights.ne(0)
    assert masks.sum((-2, -1)).tolist() == [[9] * 4, [24] * 4]
    assert bool((masks[0] <= masks[1]).all())  # more include the fewer
    assert len({tuple(m.flatten().tolist()) for m in masks[0]}) == 4  # each seed its own
    for at in ((0, 2), (1, 3)):
        flow = gflow.LayerwiseFlow(MatrixCompletion(matrix, masks[at]), [SIZE] * 3)
        y0 = flow.pack(gaussian_layers(SIZE, 2, 1e-2, at[1], matrix))
        event = gflow.events.loss_reaches(flow, 5e-7)
        alone = gflow.integrate(flow, y0, [0.0, 1e6], rtol=1e-8, atol=1e-11, until=event)
        W = flow.end_to_end(alone.ys[-1])
        hidden = (W - matrix)[~masks[at]].square().mean()
        assert float(samples.flows.errors[at]) == pytest.approx(float(hidden), rel=0.02)
        assert float(samples.flows.nuclear_norms[at]) == pytest.approx(
            float(torch.linalg.matrix_norm(W, "nuc")), rel=1e-3
        )
        assert float(samples.times[at]) == pytest.approx(float(alone.ts[-1]), rel=2e-2)
        best = minimum_nuclear_norm(matrix, masks[at])
        assert float(samples.convex.nuclear_norms[at]) == pytest.approx(best.value, rel=1e-6)


def test_bands_and_powers_are_those_of_the_seeds(samples):
    errors = samples.flows.errors
    low, median, high = samples.band("errors")
    assert median.tolist() == errors.quantile(0.5, dim=1).tolist()
    assert bool((low <= median).all() and (median <= high).all())
    whole = samples.band("errors", share=1.0)
    assert whole[0].tolist() == errors.amin(1).tolist()
    assert whole[2].tolist() == errors.amax(1).tolist()
    law = samples.laws["errors"]
    slope = math.log(float(median[1] / median[0])) / math.log(24 / 9)
    assert law.slope == pytest.approx(slope)
    assert law.slope < 0
    assert law.interval[0] <= law.slope <= law.interval[1]


def test_a_trend_draws_itself_and_makes_a_table(samples):
    ds = samples.to_dataset()
    assert ds["trend_error"].dims == ("samples", "seed")
    assert ds["convex_trend_error"].dims == ("samples", "seed")
    text = CompletionTrendResult.table(CompletionTrendResult.from_study(samples).summary)
    assert text.headings[0] == "samples"
    assert [row[0] for row in text.rows] == ["9", "24"]
    assert any("error ∝ samples^" in line for _, line in text.lines)
    assert "2 values of samples x 4 seeds" in repr(samples)
    figure = samples.plot()[0].figure
    assert [axes.get_xlabel() for axes in figure.axes] == ["number of observed entries"] * 3


def test_errors_that_no_entry_measures_are_drawn_as_none():
    study = samples_study(torch.ones(2, 2).double(), [4], depth=2, init_scale=0.1, loss_end=1e-2)
    assert bool(study.flows.errors.isnan().all())
    (line,) = study.plot()[0].figure.axes[2].lines[1:2]
    assert line.get_ydata().size == 1


def test_entries_that_nobody_knows_are_never_observed():
    matrix = rank_one()
    matrix[0] = torch.nan
    found = samples_study(matrix, [12], [3, 8], depth=2, init_scale=1e-2, loss_end=1e-4)
    seen = found.trajectories[0].flow._loss._weights.ne(0)
    assert found.seeds == (3, 8)
    assert not bool(seen[..., 0, :].any())
    assert bool(found.flows.errors.isfinite().all())
    assert found.truth is None
    assert found.convex is None
    assert found.laws["errors"] is None  # of one value


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: samples_study(rank_one(), [37]), "at most the 36 entries that are known, got 37"),
        (lambda: samples_study(rank_one(), [0]), "each of samples must be a whole number of at le"),
        (lambda: samples_study(rank_one()[:2], [3]), r"square, got shape \(2, 6\)"),
        (lambda: samples_study(rank_one(), 3), "samples must be a sequence of numbers, got 3"),
        (lambda: depth_study(rank_one(), mask(), [0]), "each of depths must be a whole number"),
        (lambda: depth_study(rank_one(), mask(), [2], init_scale=-1), "init_scale must be a posit"),
        (lambda: init_scale_study(rank_one(), mask(), [0.0]), "each of init_scales must be a posi"),
        (lambda: init_scale_study(rank_one(), mask(), [0.1], depth=0), "depth must be"),
    ],
)
def test_input_errors(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_errors_of_bands(samples):
    with pytest.raises(InputError, match="name must be one of errors, nuclear_norms, effective_ra"):
        samples.band("error")
    with pytest.raises(InputError, match="share must be at most 1, got 2"):
        samples.band("errors", share=2)
