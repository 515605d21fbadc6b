"""Each activation: its function by its formula, and its dual maps by quadrature."""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.special import erf

from gflow.kernels import activations, ntk
from gflow.kernels.activations import ACTIVATIONS, Smooth
from tests.helpers import randn
from tests.kernels.quadrature import FUNCTIONS, expectation

#: φ, written independently.
FORMULAS = {
    "abs": np.abs,
    "erf": erf,
    "gelu": lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_function_is_its_formula(name):
    assert name in FORMULAS, f"add the formula of {name} to FORMULAS in {__file__}"
    x = np.linspace(-5.0, 5.0, 101)
    value = ACTIVATIONS[name].function(torch.tensor(x)).numpy()
    np.testing.assert_allclose(value, FORMULAS[name](x), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("cosine", [-0.9, -0.3, 0.0, 0.5, 0.99])
@pytest.mark.parametrize(("r1", "r2"), [(1.0, 1.0), (0.3, 2.0)])
def test_dual_maps_by_quadrature(name, cosine, r1, r2):
    activation, (function, slope) = ACTIVATIONS[name], FUNCTIONS[name]
    if activation.even:  # an even activation is called with nonnegative cosines only
        cosine = abs(cosine)
    a, b, u = (torch.tensor([v], dtype=torch.float64) for v in (r1, r2, 1 - cosine))
    h1, h2 = (activation.feature_variance(r, r * r).sqrt() for r in (a, b))
    s = (u * (2 - u)).sqrt()
    defect, slopes = activation.pair(a, b, h1, h2, u.clone(), s)
    covariances = r1 * r1, r2 * r2, r1 * r2 * cosine
    norm = float(h1 * h2)
    assert float(h1) ** 2 == pytest.approx(
        expectation(function, r1 * r1, r1 * r1, r1 * r1), rel=1e-12
    )
    features = expectation(function, *covariances)
    assert norm * (1 - float(defect)) == pytest.approx(features, rel=1e-12, abs=1e-13 * norm)
    tangents = expectation(slope, *covariances)
    assert float(slopes) * norm / (r1 * r2) == pytest.approx(tangents, rel=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_even_activations_are_declared_even(name):
    x = torch.linspace(0.1, 3.0, 20)
    function = ACTIVATIONS[name].function
    assert ACTIVATIONS[name].even == torch.equal(function(x), function(-x))


def test_an_activation_is_one_file(tmp_path, monkeypatch):
    """A new file in the folder is discovered, and a kernel accepts its activation."""
    (tmp_path / "half.py").write_text(
        "from gflow.kernels.dual_maps import PiecewiseLinear\n"
        "ACTIVATION = PiecewiseLinear(alpha=0.5, beta=0.0)\n"
    )
    monkeypatch.setattr(activations, "__path__", [*activations.__path__, str(tmp_path)])
    known = activations.discover()
    monkeypatch.delitem(sys.modules, "gflow.kernels.activations.half")
    assert set(known) == {*ACTIVATIONS, "half"}
    x = randn(3, 2)
    expected = 0.25 * ntk(x, activation="linear")
    assert torch.allclose(ntk(x, activation=known["half"]), expected, rtol=1e-14)


def test_a_custom_activation_is_one_small_class():
    """E[sin x sin y] = e^{−(q₁+q₂)/2} sinh K, given by its two expectations."""

    class Sine(Smooth):
        def expectations(self, r1, r2, cosine, sine):
            decay, K = torch.exp(-0.5 * (r1 * r1 + r2 * r2)), r1 * r2 * cosine
            return decay * torch.sinh(K), decay * torch.cosh(K)

    x = randn(2, 4)
    q = [float(x[i] @ x[j]) / 4 for i, j in ((0, 0), (1, 1), (0, 1))]
    features, slopes = expectation(np.sin, *q), expectation(np.cos, *q)
    value = ntk(x, activation=Sine())[0, 1].item()
    assert value == pytest.approx(features + slopes * q[2], rel=1e-12)
