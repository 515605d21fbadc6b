"""The flow, start and mask of the factorization setting."""

import torch

from gflow.flows import ProductFlow
from tests.helpers import relative
from tests.settings.scenarios import make


def test_start_mask_and_held_out_error():
    scenario = make("factorization", size=6, rank=2, observed=0.4, init_scale=0.1, seed=3)
    setup = scenario.setup()
    assert isinstance(setup.flow, ProductFlow)
    assert relative(setup.y0, 0.01 * torch.eye(6).double()) <= 1e-15
    ((label, error),) = setup.measure(torch.zeros(1), setup.y0[None]).values()
    assert "unobserved" in label
    assert float(error[0]) == 1.0  # nothing is known off the diagonal at the start
    assert 6 <= setup.facts["observed_entries"] < 36
    assert (setup.facts["observed_entries"] - 6) % 2 == 0  # the mask is symmetric


def test_fully_observed_matrix_has_no_held_out_error():
    setup = make("factorization", size=5, observed=1.0).setup()
    assert setup.facts["observed_entries"] == 25
    assert setup.measure(torch.zeros(1), setup.y0[None]) == {}
