"""Actions of exponentials at times in any order."""

import pytest
import torch

from gflow.errors import InputError
from gflow.linalg.exponential import exponential
from gflow.linalg.exponential_action import exponential_action, phi1_action
from tests.helpers import randn, relative, times
from tests.linalg.operators import SPECTRA, operator, truth


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("memory", ["one", "several"])
def test_phi1_action_through_a_linear_map(known, memory, monkeypatch):
    if memory == "several":
        small = {**exponential.__kwdefaults__, "memory": 15 * 160}
        monkeypatch.setattr(exponential, "__kwdefaults__", small)
    lam = SPECTRA["singular"]
    H, V = operator(lam)
    C = randn(7, 80, seed=3) @ (V * (lam > 0)) @ V.mT  # vanishes where H does
    r = randn(2, 80, seed=4)
    ts = times(3.0, 0.0, 10.0, 0.5, 3.0)
    result = phi1_action(
        lambda v: v @ H, r, ts, lambda v: v @ C.mT, float(C.norm()) if known else 0.0, 1e-8
    )
    exact = truth(1, ts.tolist(), lam, V, r) @ C.mT
    assert result.shape == (5, 2, 7)
    assert float((result - exact).norm(dim=(1, 2)).max()) <= 1e-8 * float(exact[2].norm())
    assert torch.equal(result[1], torch.zeros(2, 7, dtype=torch.float64))


def test_phi1_action_is_constant_once_all_modes_have_decayed():
    lam = SPECTRA["singular"]
    H, V = operator(lam)
    C = randn(7, 80, seed=3) @ (V * (lam > 0)) @ V.mT
    r = randn(1, 80, seed=4)
    a, b = phi1_action(lambda v: v @ H, r, times(1e3, 1e12), lambda v: v @ C.mT, 0.0, 1e-8)
    assert relative(b, a) <= 1e-8
    assert phi1_action(lambda v: v @ H, r, times(), lambda v: v @ C.mT, 0.0, 1e-8).shape == (
        0,
        1,
        7,
    )
    with pytest.raises(InputError, match="at least 0, got -1"):
        phi1_action(lambda v: v @ H, r, times(-1.0), lambda v: v @ C.mT, 0.0, 1e-8)


def test_exponential_action_at_times_in_any_order():
    lam = SPECTRA["uniform"]
    H, V = operator(lam)
    r, rest = randn(2, 80, seed=4), randn(2, 80, seed=5)
    ts = times(3.0, 0.0, 0.5, 3.0)
    result = exponential_action(lambda v: v @ H, r, ts, rest, 1e-9)
    exact = truth(0, ts.tolist(), lam, V, r)
    scale = (r + rest).norm(dim=1).maximum((exact[0] + rest).norm(dim=1))
    assert ((result - exact).norm(dim=2) <= 1e-9 * scale).all()
    assert torch.equal(result[1], r)


def test_too_little_memory_for_the_last_time_is_an_error(monkeypatch):
    small = {**exponential.__kwdefaults__, "max_products": 5}
    monkeypatch.setattr(exponential, "__kwdefaults__", small)
    lam = SPECTRA["uniform"]
    r = randn(1, 80)
    with pytest.raises(InputError, match="do not reach t = 50; compute fewer columns at once"):
        exponential_action(lambda v: v * lam, r, times(50.0), 0 * r, 1e-9)
