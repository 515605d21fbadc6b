import pytest
import torch
from torch import nn

from gflow import laws
from gflow.errors import InputError
from tests.helpers import slow_except
from tests.laws.networks import CASES, linear, noise

QUICK = [
    "linear 1-3-1",
    "linear 2-4-1",
    "ReLU with biases 2-3-1",
    "tanh 2-3-1",
    "by hand",
    "layer norm, linear",
]


@pytest.mark.parametrize("name", slow_except(CASES, *QUICK))
def test_the_laws_that_are_found_are_all_there_are(name):
    make, inputs, independent = CASES[name]
    torch.manual_seed(0)
    counted = laws.count(make(), inputs)
    assert counted.found == independent
    assert counted.complete
    assert counted.parameters == counted.dimension + independent


@pytest.mark.parametrize(("n", "r", "m"), [(2, 1, 2), (2, 2, 1), (1, 2, 1), (3, 2, 2)])
def test_two_linear_layers_have_the_published_number_of_laws(n, r, m):
    # Marcotte et al. 2023, Theorem 4.2, of full-rank factors.
    expected = r * (r + 1) // 2 if r <= n + m else (n + m) * r - (n + m) * (n + m - 1) // 2
    if r > max(n, m):  # the fields of scalar maps span less than those of all matrices
        expected = laws.count(linear(n, r, m), noise(9, n)).found
    assert laws.count(linear(n, r, m), noise(9, n)).laws == expected


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(InputError, match="1 to 400 trainable parameters"):
        laws.count(linear(30, 30, 30), noise(3, 30))
    with pytest.raises(InputError, match="raises"):
        laws.count(linear(2, 2), noise(3, 5))
    with pytest.raises(InputError, match="got 0"):
        laws.count(nn.ReLU(), noise(3, 5))
