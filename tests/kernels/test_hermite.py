"""Hermite series of activations that have no closed form."""

import pytest
import torch

from gflow.errors import InputError
from gflow.kernels import nngp, ntk
from gflow.kernels.activations import Smooth
from gflow.kernels.hermite import HermiteSeries
from tests.helpers import randn, relative
from tests.kernels.quadrature import recursion

NETWORK = {"depth": 3, "w_std": 1.2, "b_std": 0.2}


@pytest.mark.parametrize(
    ("function", "name"), [(torch.erf, "erf"), (torch.nn.functional.gelu, "gelu")]
)
@pytest.mark.parametrize("kernel", [ntk, nngp])
def test_agrees_with_closed_forms(function, name, kernel):
    x, y = randn(5, 6), randn(4, 6, seed=1)
    truth = kernel(x, y, activation=name, **NETWORK)
    assert relative(kernel(x, y, activation=HermiteSeries(function, 1e-13), **NETWORK), truth) < (
        1e-12
    )
    assert relative(kernel(x, y, activation=function, **NETWORK), truth) < 1e-8


def test_tanh_by_quadrature():
    x = randn(2, 6)
    K, theta = recursion(x[0].numpy(), x[1].numpy(), "tanh", 3, 1.2, 0.2)
    assert nngp(x[:1], x[1:], activation=torch.tanh, **NETWORK).item() == pytest.approx(K, rel=1e-9)
    assert ntk(x[:1], x[1:], activation=torch.tanh, **NETWORK).item() == pytest.approx(
        theta, rel=1e-9
    )


def test_the_error_is_within_the_tolerance():
    """The estimated tail against a series of many more terms."""
    x = 2.0 * randn(6, 3)
    truth = ntk(x, activation=HermiteSeries(torch.tanh, 1e-11, 1024))
    for tolerance, terms in ((5e-2, 32), (1e-2, 64), (1e-3, 128)):
        value = ntk(x, activation=HermiteSeries(torch.tanh, tolerance, terms))
        assert float((value - truth).abs().max()) <= tolerance * float(truth.max())
        assert float(torch.linalg.eigvalsh(value)[0]) >= -1e-14 * float(value.max())


def test_polynomials_end_exactly():
    """E[x²y²] = q₁q₂ + 2K², E[2x·2y] = 4K, with an activation that is not zero at 0."""
    x = torch.cat([torch.zeros(1, 3).double(), randn(3, 3)])
    K = x @ x.mT / 3
    q = K.diagonal()
    square = HermiteSeries(torch.square, 1e-13, 8)
    features = q[:, None] * q + 2 * K * K
    assert relative(nngp(x, activation=square), features) <= 1e-13
    assert relative(ntk(x, activation=square), features + 4 * K * K) <= 1e-13
    cosine = nngp(x, activation=torch.cos)
    truth = torch.exp(-0.5 * (q[:, None] + q)) * torch.cosh(K)
    assert relative(cosine, truth) <= 1e-9


def test_a_kink_is_refused_with_the_error_of_the_series():
    with pytest.raises(
        InputError, match=r"activation 'relu' must leave out at most 1e-06 .* leave out"
    ):
        ntk(randn(3, 2), activation=torch.relu)
    with pytest.raises(InputError, match="256 terms leave out"):
        ntk(100 * randn(3, 2), activation=torch.tanh)


def test_invalid_functions_and_options():
    with pytest.raises(InputError, match="must map a tensor to one of its shape"):
        ntk(randn(3, 2), activation=lambda z: z.sum())
    with pytest.raises(InputError, match="leave out inf"):
        ntk(randn(3, 2), activation=lambda z: torch.log(z))
    with pytest.raises(InputError, match=r"tolerance must be a positive number, got 0\.0"):
        HermiteSeries(torch.tanh, 0.0)
    with pytest.raises(InputError, match="terms must be a whole number of at least 1, got 0"):
        HermiteSeries(torch.tanh, terms=0)


def test_a_custom_closed_form_agrees_with_the_series():
    class Sine(Smooth):
        """E[sin x sin y] = e^{−(q₁+q₂)/2} sinh K."""

        name = "sin"

        def expectations(self, r1, r2, cosine, sine):
            decay, K = torch.exp(-0.5 * (r1 * r1 + r2 * r2)), r1 * r2 * cosine
            return decay * torch.sinh(K), decay * torch.cosh(K)

    x = randn(5, 4)
    assert (
        relative(
            ntk(x, activation=Sine(), **NETWORK),
            ntk(x, activation=HermiteSeries(torch.sin, 1e-13), **NETWORK),
        )
        <= 1e-12
    )
