import math

import numpy as np
import pytest
import torch

from gflow.errors import InputError
from gflow.linalg.exponential import exponential, outputs
from gflow.linalg.lanczos import Lanczos, phi
from tests.helpers import randn, relative, times, worst_relative


def operator(lam, seed=0):
    V = torch.linalg.qr(randn(len(lam), len(lam), seed=seed))[0]
    H = (V * lam) @ V.mT
    return (H + H.mT) / 2, V


def truth(order, ts, lam, V, r):
    factors = torch.from_numpy(phi(order, np.array(ts)[:, None], lam.numpy()))
    return torch.stack([((r @ V) * f) @ V.mT for f in factors])


def relative_tolerance(rtol):
    return lambda w: rtol * w.norm(dim=1)


SPECTRA = {
    "decaying": 100 * 0.7 ** torch.arange(80, dtype=torch.float64),
    "uniform": torch.linspace(0.0, 50.0, 80, dtype=torch.float64),
    "singular": torch.cat([torch.zeros(30), torch.linspace(0.1, 9.0, 50)]).double(),
    "clustered": torch.cat([torch.full((40,), 3.0), torch.linspace(10.0, 10.001, 40)]).double(),
}


@pytest.mark.parametrize("order", [0, 1, 2])
def test_phi_is_its_series(order):
    z = np.array([0.0, 1e-12, 1e-3, 0.29, 0.31, 2.0])
    series = sum((-z) ** j / math.factorial(j + order) for j in range(40))
    assert np.abs(phi(order, np.ones(6), z) / series - 1).max() <= 1e-14
    t = 3.0
    assert phi(order, np.array([t]), z / t) == pytest.approx(t**order * series, rel=1e-14)
    big = {0: 0.0, 1: 1e-9, 2: 1e-9}[order]  # t^p φ_p → t^{p−1}/θ
    assert phi(order, np.ones(1), np.array([1e9]))[0] == pytest.approx(big, rel=1e-8)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_bound_holds_and_is_near(order, name):
    """At every size of the space, at several times: never below the error, and, before
    round-off, within a factor of a hundred of it."""
    lam = SPECTRA[name]
    H, V = operator(lam)
    r = randn(3, len(lam), seed=1)
    space = Lanczos(lambda v: v @ H, r)
    ts, near, seen = [0.1, 1.0, 10.0], 0, 0
    exact = truth(order, ts, lam, V, r)
    for step in (1, 1, *[4] * 17):
        space.extend(step)
        s = np.array(ts)[:, None, None]
        error = (space.apply(lambda th, s=s: phi(order, s, th)) - exact).norm(dim=2).numpy()
        truncated, blurred = space.bound(np.array(ts), order)
        assert (error <= 1.001 * (truncated + blurred) + 1e-12 * space.norms * max(ts)).all()
        large = error > 1e-9 * space.norms
        seen, near = seen + large.sum(), near + (truncated[large] <= 100 * error[large]).sum()
    assert seen > 0
    assert near == seen


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("name", SPECTRA)
def test_all_times_from_one_space(order, name):
    lam = SPECTRA[name]
    H, V = operator(lam)
    r = randn(2, len(lam), seed=1)
    size = r.norm(dim=1) * 20.0**order
    (piece,) = exponential(lambda v: v @ H, r, 20.0, lambda w: 1e-9 * size, order=order)
    ts = [1e-6, 1e-3, 0.1, 3.0, 20.0]
    exact = truth(order, ts, lam, V, r)
    got = piece.values(np.array(ts))
    assert ((got - exact).norm(dim=2) <= 1e-9 * size).all()
    h = 1e-5
    slope = (piece.values(np.array([1.0 + h])) - piece.values(np.array([1.0 - h]))) / (2 * h)
    assert relative(piece.rates(np.array([1.0])), slope) <= 1e-5


def test_products_are_few_where_the_spectrum_decays():
    """A hundred digits' worth of time scales, and far fewer products than dimensions."""
    lam = 400 * torch.arange(1, 501, dtype=torch.float64) ** -2.0
    r = randn(1, 500)
    (piece,) = exponential(lambda v: v * lam, r, 100.0, relative_tolerance(1e-8))
    assert piece.space.size <= 100
    assert relative(piece.values(np.array([100.0]))[0], r * torch.exp(-100 * lam)) <= 1e-8


@pytest.mark.parametrize("order", [0, 1])
def test_little_memory_cuts_the_time(order):
    lam = SPECTRA["uniform"]
    H, V = operator(lam)
    r = randn(1, len(lam), seed=1)
    calls = []
    pieces = list(
        exponential(
            lambda v: calls.append(1) or v @ H,
            r,
            5.0,
            relative_tolerance(1e-8),
            order=order,
            memory=20 * len(lam),
        )
    )
    assert len(pieces) > 1
    assert max(p.space.size for p in pieces) <= 20
    assert [p.begin for p in pieces[1:]] == [p.end for p in pieces[:-1]]
    assert pieces[-1].end == 5.0
    for p in pieces:
        exact = truth(order, [p.end], lam, V, r)[0]
        error = float((p.values(np.array([p.end]))[0] - exact).norm())
        assert error <= 1.01 * float(p.error[0]) + 1e-13 * float(r.norm())
    assert error <= 1e-8 * float(exact.norm())
    assert len(calls) == sum(p.space.size for p in pieces) + (len(pieces) - 1 if order else 0)


def test_a_budget_ends_the_last_piece_early():
    lam = SPECTRA["uniform"]
    r = randn(1, len(lam))
    calls = []
    (piece,) = exponential(
        lambda v: calls.append(1) or v * lam,
        r,
        50.0,
        lambda w: 1e-6 * r.norm(dim=1),
        max_products=25,
    )
    assert len(calls) == 25
    assert 0 < piece.end < 50
    exact = r * torch.exp(-piece.end * lam)
    assert relative(piece.values(np.array([piece.end]))[0], exact) <= 1e-5
    assert (
        list(exponential(lambda v: v * lam, r, 50.0, lambda w: 0 * w[:, 0], max_products=0)) == []
    )


def test_invariant_subspaces_and_zero_starts_end_early():
    lam = times(5.0, 3.0, 1.0, 0.0, 0.0, *[2.0] * 40)
    r = torch.zeros(3, 45, dtype=torch.float64)
    r[0, :2] = 1.0
    r[1, 3:5] = 1.0  # in the null space
    calls = []
    (piece,) = exponential(
        lambda v: calls.append(1) or v * lam, r, 1e6, lambda w: torch.full((3,), 1e-12)
    )
    assert len(calls) <= 8
    got = piece.values(np.array([0.3, 1e6]))
    exact = torch.stack([r * torch.exp(-t * lam) for t in (0.3, 1e6)])
    assert float((got - exact).abs().max()) <= 1e-14
    assert float(piece.error.max()) <= 1e-12


def test_columns_do_not_mix():
    lam = SPECTRA["decaying"]
    H, _ = operator(lam)
    r = randn(4, len(lam), seed=2) * times(1.0, 1e-6, 1e6, 1.0)[:, None]
    (together,) = exponential(lambda v: v @ H, r, 3.0, relative_tolerance(1e-11))
    for i in range(4):
        (alone,) = exponential(lambda v: v @ H, r[i : i + 1], 3.0, relative_tolerance(1e-11))
        ts = np.array([0.1, 3.0])
        assert worst_relative(together.values(ts)[:, i], alone.values(ts)[:, 0]) <= 1e-10


def test_float32():
    lam = SPECTRA["decaying"]
    H, V = operator(lam)
    r = randn(2, len(lam))
    (piece,) = exponential(lambda v: v @ H.float(), r.float(), 1.0, relative_tolerance(1e-4))
    got = piece.values(np.array([1.0]))
    assert got.dtype == torch.float32
    assert relative(got.double(), truth(0, [1.0], lam, V, r)) <= 2e-4


def test_operators_that_will_not_do():
    r = torch.ones(1, 5, dtype=torch.float64)
    with pytest.raises(InputError, match=r"positive semidefinite.*below -1\b"):
        list(exponential(lambda v: v * times(1, 2, 3, -1, 0), r, 1.0, relative_tolerance(1e-6)))
    with pytest.raises(InputError, match="returned NaN or infinity"):
        list(exponential(lambda v: v * math.nan, r, 1.0, relative_tolerance(1e-6)))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("memory", ["one", "several"])
def test_outputs_are_phi_1_seen_through_a_map(known, memory, monkeypatch):
    if memory == "several":
        few = {**exponential.__kwdefaults__, "memory": 15 * 160}
        monkeypatch.setattr(exponential, "__kwdefaults__", few)
    lam = SPECTRA["singular"]
    H, V = operator(lam)
    C = randn(7, 80, seed=3) @ (V * (lam > 0)) @ V.mT  # vanishes where H does
    r = randn(2, 80, seed=4)
    ts = times(3.0, 0.0, 10.0, 0.5, 3.0)
    got = outputs(
        lambda v: v @ H, r, ts, lambda v: v @ C.mT, float(C.norm()) if known else 0.0, 1e-8
    )
    exact = truth(1, ts.tolist(), lam, V, r) @ C.mT
    assert got.shape == (5, 2, 7)
    assert float((got - exact).norm(dim=(1, 2)).max()) <= 1e-8 * float(exact[2].norm())
    assert torch.equal(got[1], torch.zeros(2, 7, dtype=torch.float64))


def test_outputs_stand_still_for_ever_where_the_operator_is_zero():
    lam = SPECTRA["singular"]
    H, V = operator(lam)
    C = randn(7, 80, seed=3) @ (V * (lam > 0)) @ V.mT
    r = randn(1, 80, seed=4)
    a, b = outputs(lambda v: v @ H, r, times(1e3, 1e12), lambda v: v @ C.mT, 0.0, 1e-8)
    assert relative(b, a) <= 1e-8
    assert outputs(lambda v: v @ H, r, times(), lambda v: v @ C.mT, 0.0, 1e-8).shape == (0, 1, 7)
    with pytest.raises(InputError, match="at least 0, got -1"):
        outputs(lambda v: v @ H, r, times(-1.0), lambda v: v @ C.mT, 0.0, 1e-8)
