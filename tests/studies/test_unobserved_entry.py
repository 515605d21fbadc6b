"""The unobserved entry of 2 × 2 completion, against SciPy in logarithmic coordinates."""

import math

import pytest
import torch

from gflow.errors import InputError
from gflow.solvers import SolveOptions
from gflow.studies.unobserved_entry import unobserved_entry

START = 1e-2 * torch.tensor([[1.2, 0.3], [0.3, 0.9]], dtype=torch.float64)
OPTIONS = SolveOptions(rtol=1e-7, atol=0.0, points=12)
#: W₁₁ and t at losses of 1e-2, 1e-3, 1e-4, by SciPy's Radau in log s₁, log s₂ and the angle.
KNOWN = {3: {1e-2: (3.85616721, 37.728377), 1e-4: (40.8016394, 7513.9667)}}


def followed(depths, loss_end, start=START):
    return unobserved_entry(
        start, depths, loss_end, options=OPTIONS, stages=lambda name, t_end: None
    )


@pytest.mark.parametrize("loss_end", [1e-2, pytest.param(1e-4, marks=pytest.mark.slow)])
def test_entry_is_that_of_an_independent_solve(loss_end):
    found = followed([3], loss_end)
    entry, t = KNOWN[3][loss_end]
    assert float(found.entries[0][-1]) == pytest.approx(entry, rel=1e-5)
    assert float(found.paths[0].ts[-1]) == pytest.approx(t, rel=1e-5)
    assert bool((found.entries[0].diff() > 0).all())
    assert found.paths[0].certificate.holds


@pytest.mark.slow
def test_scaled_entry_tends_to_one_as_the_second_mode_dies():
    found = followed([3, 4], 1e-8)
    for path, entry, logs in zip(
        found.paths, found.entries, found.log_singular_values, strict=True
    ):
        assert float(entry[-1]) * math.sqrt(6e-8) == pytest.approx(1.0, abs=1e-4)
        assert bool((logs[5:, 1].diff() < 0).all())
        assert path.certificate.holds


@pytest.mark.parametrize(
    ("start", "loss_end", "message"),
    [
        (-START[[1, 0]].abs(), 1e-2, "a positive determinant, which the flow keeps, got -9.9e-05"),
        (START, 0.332, "loss_end must be below the loss of the start, 0.3"),
    ],
)
def test_input_errors(start, loss_end, message):
    with pytest.raises(InputError, match=message):
        followed([3], loss_end, start)
