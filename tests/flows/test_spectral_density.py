import pytest
import torch
from torch import nn

import gflow
from gflow.errors import InputError
from gflow.linalg.quadrature import lanczos_quadrature
from gflow.spectra import SpectralDensity, spectral_density
from tests.helpers import randn


def network():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    X, Y = randn(8, 3, seed=1), randn(8, 2, seed=2)
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y)
    y = flow.pack()
    return flow, y, -torch.autograd.functional.jacobian(lambda s: flow(0.0, s), y)


def test_as_many_steps_as_parameters_give_the_whole_spectrum():
    flow, y, H = network()
    values, vectors = torch.linalg.eigh(H)
    found = spectral_density(flow, y, probes=3, steps=len(y))
    noise = torch.Generator().manual_seed(0)
    probes = torch.randn(3, len(y), generator=noise, dtype=torch.float64)
    for probe, nodes, weights in zip(probes, found.nodes, found.weights, strict=True):
        shares = (vectors.mT @ (probe / probe.norm())).square()
        for f in (torch.sin, torch.exp, lambda x: 1 / (1 + x * x)):
            assert float((weights * f(nodes)).sum()) == pytest.approx(
                float((shares * f(values)).sum()), rel=1e-10
            )


def test_few_steps_are_exact_for_polynomials():
    _, _, H = network()
    probe = randn(1, len(H), seed=4)
    nodes, weights = lanczos_quadrature(lambda v: H @ v, probe, 4)
    unit = probe[0] / probe.norm()
    for degree in range(8):
        expected = unit @ torch.linalg.matrix_power(H, degree) @ unit
        assert float((weights * nodes**degree).sum()) == pytest.approx(float(expected), rel=1e-10)


def test_means_over_the_spectrum_are_within_their_error():
    flow, y, H = network()
    found = spectral_density(flow, y, probes=100, steps=10)
    assert found.products == 1000
    for f, exact in ((lambda x: x, H.trace()), (torch.square, H.square().sum())):
        mean, error = found.mean(f(found.nodes))
        assert abs(float(mean - exact / len(y))) < 4 * float(error) < 0.5 * float(exact) / len(y)


def test_the_density_is_the_spectrum_spread():
    _, _, H = network()
    values = torch.linalg.eigvalsh(H)
    quadrature = lanczos_quadrature(lambda v: H @ v, randn(1000, len(H), seed=5), 12)
    found = SpectralDensity(*quadrature, products=12_000)
    width = 0.2 * float(values.max())
    ends = float(values.min()) - 8 * width, float(values.max()) + 8 * width
    at = torch.linspace(*ends, 400, dtype=torch.float64)
    density = found.density(at, width)
    exact = torch.distributions.Normal(values, width).log_prob(at[:, None]).exp().mean(1)
    assert float(torch.trapezoid(density, at)) == pytest.approx(1.0, abs=1e-6)
    assert float((density - exact).abs().max()) < 0.05 * float(exact.max())


def test_a_krylov_space_that_ends_is_not_continued():
    H = torch.diag(torch.tensor([2.0, 2.0, 2.0, 0.0], dtype=torch.float64))
    flow = gflow.KernelFlow(H, torch.ones(4, dtype=torch.float64))
    found = spectral_density(flow, torch.zeros(4, dtype=torch.float64), steps=50)
    assert found.nodes.shape == (10, 2)
    assert torch.allclose(found.nodes, torch.tensor([0.0, 2.0], dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("keywords", [{"probes": 0}, {"steps": 0}, {"seed": -1}])
def test_arguments_are_checked(keywords):
    flow, y, _ = network()
    with pytest.raises(InputError, match="must be a whole number"):
        spectral_density(flow, y, **keywords)
