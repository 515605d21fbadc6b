"""The matrix-completion setting: its matrix, its numbers, and the inputs that it refuses."""

import pytest
import torch

from gflow.errors import InputError
from gflow.scenario import load_scenario, validate
from tests.settings.scenarios import no_stage

SMALL = {"setting": "matrix-completion", "size": 6, "rank": 1, "samples": 20, "depths": (2, 3)}
SMALL |= {"init_scales": (1e-3,), "seeds": 2, "rtol": 1e-3, "atol": 1e-6}


def make(**keys):
    return validate(SMALL | keys, "a test")


def test_default_is_the_matrix_of_the_paper():
    matrix, mask = load_scenario("matrix-completion").problem()
    assert matrix.shape == (100, 100)
    assert float(matrix.norm()) == pytest.approx(100.0)
    assert int(torch.linalg.matrix_rank(matrix)) == 5
    assert int(mask.sum()) == 2000


def test_summary_has_a_row_for_each_depth_and_scale():
    summary = make().run(no_stage).summary
    assert [(row["depth"], row["init_scale"]) for row in summary["starts"]] == [
        (2, 1e-3),
        (3, 1e-3),
    ]
    assert summary["seed_count"] == 2
    assert summary["certificate"]["holds"]
    assert summary["failed"] == 0
    assert summary["convex_nuclear_ratio"] <= 1 + 1e-6
    assert summary["starts"][1]["effective_rank"] < summary["starts"][0]["effective_rank"] + 1e-3


def test_no_convex_leaves_it_out():
    assert "convex_error" not in make(convex=False).run(no_stage).summary


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"samples": 37}, "samples must be at most the 36 entries of the matrix, got 37"),
        ({"rank": 7}, "rank must be at most the size 6, got 7"),
        ({"loss_end": 9.0}, "loss_end must be below the loss of the start"),
    ],
)
def test_input_errors(keys, message):
    with pytest.raises(InputError, match=message):
        make(**keys).run(no_stage)
