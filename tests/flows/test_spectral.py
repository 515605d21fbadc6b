"""Singular values in relative accuracy: closed forms, many digits, and published problems."""

import itertools
import math
import re

import mpmath
import numpy as np
import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.events import loss_reaches
from gflow.flows import EndToEndFlow, FactorFlow, LayerwiseFlow, ProductFlow, SpectralFlow
from gflow.losses import MatrixCompletion, MatrixSensing, SquaredDistance
from tests.helpers import make_loss, of_rank, randn, relative, slow_except, slow_pairs_except, times

BASIS = torch.linalg.qr(randn(3, 3, seed=3))[0]
EIGENVALUES = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)
TARGET = BASIS @ torch.diag(EIGENVALUES) @ BASIS.mT
THREE = SquaredDistance(TARGET)

# W_12 = W_21 = 1 and W_22 = 0 are observed (Razin & Cohen 2020).
CORNER = MatrixCompletion(
    torch.tensor([[9.0, 1.0], [1.0, 0.0]], dtype=torch.float64),
    torch.tensor([[False, True], [True, True]]),
)
W0 = 1e-2 * torch.tensor([[1.2, 0.3], [0.3, 0.9]], dtype=torch.float64)


# -- W = UUᵀ --------------------------------------------------------------------------


def log_modes(log_start, ts):
    """Return the logs of s with ṡ = 4 s (m − s), (T, 3), without overflow."""
    decay = -4 * EIGENVALUES * ts[:, None] - log_start
    return -torch.log(decay.exp() * (1 - math.exp(log_start) / EIGENVALUES) + 1 / EIGENVALUES)


@pytest.mark.parametrize("case", slow_except([(60, 10), (60, 81), (120, 81)], (60, 10)))
def test_all_eigenvalues_leave_a_tiny_multiple_of_the_identity_as_in_closed_form(case):
    """In a random basis: three exits, the last of a mode that is 1e-40 of the first."""
    digits, count = case
    flow, log_start = SpectralFlow(THREE, symmetric=True), -digits * math.log(10)
    ts = torch.linspace(0, 1.3 * digits / 2, count, dtype=torch.float64)
    path = gflow.integrate(flow, flow.start(log_scale=log_start), ts, rtol=1e-9, atol=0.0)
    truth = log_modes(log_start, ts)
    assert float((flow.log_singular_values(path.ys) - truth).abs().max()) < 1e-6
    assert path.certificate.holds, path.certificate
    assert path.certificate.amplification < 50
    assert relative(flow.end_to_end(path.ys[-1]), TARGET) < 1e-8


def riccati_logs(M, W0, t, digits):
    """Return the logs of the eigenvalues of W(t), descending, by the closed form in many digits."""
    with mpmath.workdps(digits):
        M, W0 = mpmath.matrix(M.tolist()), mpmath.matrix(W0.tolist())
        E = mpmath.expm(2 * t * M)
        A = (mpmath.expm(4 * t * M) - mpmath.eye(3)) * M**-1  # ∫ 4 e^{4sM} ds
        W = E * (mpmath.inverse(mpmath.inverse(W0) + A)) * E
        values = mpmath.eigsy((W + W.T) / 2, eigvals_only=True)
        return sorted((float(mpmath.log(value)) for value in values), reverse=True)


def test_starts_that_do_not_commute_with_the_target_agree_with_many_digits():
    A = randn(3, 3, seed=5)
    start = 1e-30 * (A @ A.mT + 0.1 * torch.eye(3))
    flow, ts = SpectralFlow(THREE, symmetric=True), times(0.0, 5.0, 9.0, 16.0)
    path = gflow.integrate(flow, flow.start(start), ts, rtol=1e-9, atol=0.0)
    assert path.certificate.holds, path.certificate
    for t, logs in zip(ts.tolist()[1:], flow.log_singular_values(path.ys[1:]), strict=True):
        truth = riccati_logs(TARGET, start, t, 120)
        assert logs.numpy() == pytest.approx(truth, abs=1e-6)


def test_an_avoided_crossing_is_passed():
    """The smaller eigenvalue grows faster, hardly coupled to the larger one."""
    M = torch.tensor([[1.0, 1e-3, 0.0], [1e-3, 3.0, 1e-3], [0.0, 1e-3, 2.0]], dtype=torch.float64)
    flow, start = (
        SpectralFlow(SquaredDistance(M), symmetric=True),
        torch.diag(torch.tensor([1e-4, 1e-6, 1e-5], dtype=torch.float64)),
    )
    ts = times(0.0, 0.4, 0.6, 0.8, 1.5)
    path = gflow.integrate(flow, flow.start(start), ts, rtol=1e-9, atol=0.0)
    truth = ProductFlow(SquaredDistance(M)).exact(ts, start)
    logs = torch.linalg.eigvalsh(truth).flip(-1).log()
    assert float((flow.log_singular_values(path.ys) - logs).abs().max()) < 1e-7
    assert path.certificate.holds


# -- deep linear networks -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "depth"),
    slow_pairs_except(
        itertools.product(["identity", "random", "rank 2"], [2, 3]),
        *(("identity", 2), ("random", 3), ("rank 2", 2)),
    ),
)
def test_w_is_that_of_the_end_to_end_flow(start, depth):
    loss = make_loss("completion", 4, 3) if start == "rank 2" else make_loss("distance", 3, 3)
    if start == "identity":
        W = 0.5 * torch.eye(3, dtype=torch.float64)  # degenerate, the gradient is not symmetric
    else:
        W = of_rank(2, 4, 3) if start == "rank 2" else 0.7 * of_rank(3, 3, 3)
    ts = times(0.0, 0.5, 2.0)
    flow, plain = SpectralFlow(loss, depth), EndToEndFlow(loss, depth)
    path = gflow.integrate(flow, flow.start(W), ts, rtol=1e-10, atol=0.0)
    truth = gflow.integrate(plain, W, ts, "dop853", rtol=1e-11, atol=1e-14).ys
    assert path.certificate.holds, path.certificate
    assert relative(flow.end_to_end(path.ys), truth) < 1e-7


def test_a_mode_decays_to_1e_60_as_in_closed_form():
    target = torch.diag(torch.tensor([2.0, -1.0], dtype=torch.float64))
    turn = torch.linalg.qr(randn(2, 2))[0]
    flow = SpectralFlow(SquaredDistance(turn @ target @ turn.mT), depth=2)
    ts = times(0.0, 1.0, 10.0, 69.0)
    path = gflow.integrate(flow, flow.start(turn @ turn.mT), ts, rtol=1e-9, atol=0.0)
    # ṡ = 2 s (m − s) from 1: s = m e^{2mt}/(e^{2mt} − 1 + m), m = −1.
    truth = -2 * ts - torch.log(2 - (-2 * ts).exp())
    assert float((flow.log_singular_values(path.ys)[:, 1] - truth).abs().max()) < 1e-6
    assert path.certificate.holds


def test_a_start_far_below_the_smallest_number_grows_at_its_rate():
    flow = SpectralFlow(THREE, depth=2)
    path = gflow.integrate(flow, flow.start(log_scale=-2302.6), [0.0, 100.0], rtol=1e-8, atol=0.0)
    logs = flow.log_singular_values(path.ys[-1])
    # Logs so far below are right relative to themselves.
    assert logs.numpy() == pytest.approx((-2302.6 + 2 * 100 * EIGENVALUES).numpy(), rel=1e-7)
    assert path.certificate.holds


# Losses: W_11, σ_2 (issue's table), by SciPy's Radau at 1e-11 in log σ_1, log σ_2 and the angle.
SECOND = {2: [3.93724e-10, 1.18643e-44], 3: [5.74047e-4, 6.15836e-5, 7.78215e-7, 3.29534e-9]}
FIRST = {2: [3.84491602, 12.8327184], 3: [3.85616721, 12.8430592, 40.8016394, 129.0917541]}


@pytest.mark.parametrize("case", slow_except([(2, 1), (3, 1), (2, 2), (3, 4)], (3, 1)))
def test_the_second_singular_value_of_razin_and_cohen(case):
    depth, decades = case
    flow = SpectralFlow(CORNER, depth)
    for i in range(decades):
        until = loss_reaches(flow, 10.0 ** (-2 - i))
        path = gflow.integrate(flow, flow.start(W0), [0.0, 1e30], rtol=1e-8, atol=0.0, until=until)
        logs = flow.log_singular_values(path.ys[-1])
        assert float(logs[1].exp()) == pytest.approx(SECOND[depth][i], rel=1e-3)
        assert float(flow.end_to_end(path.ys[-1])[0, 0]) == pytest.approx(FIRST[depth][i], rel=1e-6)
        assert path.certificate.holds, path.certificate


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_the_unobserved_entry_grows_to_a_loss_of_1e_10(depth):
    flow = SpectralFlow(CORNER, depth)
    until = loss_reaches(flow, 1e-10)
    path = gflow.integrate(flow, flow.start(W0), [0.0, 1e30], rtol=1e-9, atol=0.0, until=until)
    corner = flow.end_to_end(path.ys[-1])[0, 0]
    assert float(corner) * 6e-10**0.5 == pytest.approx(1, abs=1e-4)
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize(
    ("end", "log"), slow_pairs_except([(2e-5, -3000), (1e-4, -700)], (1e-4, -700))
)
def test_a_mode_far_below_the_others_does_not_look_like_a_growing_one(end, log):
    """Many requested times, and logs down to −3,600: it follows the angle, and moves nothing."""
    flow = SpectralFlow(CORNER, 2)
    ts = torch.cat([torch.zeros(1), torch.logspace(0, 9, 60)]).double()
    until = loss_reaches(flow, end)
    path = gflow.integrate(flow, flow.start(W0), ts, rtol=1e-7, atol=0.0, until=until)
    assert float(flow.log_singular_values(path.ys[-1])[1]) < log
    assert path.certificate.holds, path.certificate
    assert path.certificate.amplification < 10
    assert not path.certificate.rest


# -- states, and what cannot be one -----------------------------------------------------


def test_states_and_matrices():
    W = of_rank(2, 4, 3)
    flow = SpectralFlow(make_loss("regression", 4, 3), depth=3)
    y = flow.start(W)
    assert y.shape == (2 * (1 + 4 + 3),)
    assert relative(flow.end_to_end(y), W) < 1e-14
    assert flow.log_singular_values(y).numpy() == pytest.approx(
        torch.linalg.svdvals(W)[:2].log().numpy(), abs=1e-13
    )
    assert torch.equal(flow.pack(*flow.unpack(y)), y)
    symmetric = SpectralFlow(make_loss("sensing", 4, 4), symmetric=True)
    U = randn(4, 2)
    y = symmetric.start(U @ U.mT)
    assert y.shape == (2 * (1 + 4),)
    assert relative(symmetric.end_to_end(y), U @ U.mT) < 1e-14
    assert relative(symmetric.project(symmetric.lift(y)), y) < 1e-14
    assert isinstance(symmetric.parameter_flow, FactorFlow)


def test_the_velocity_agrees_with_an_independent_one_where_w_is_a_factor():
    flow = SpectralFlow(make_loss("completion", 4, 4), symmetric=True)
    y = flow.start(randn(4, 2) @ randn(4, 2).mT)
    assert relative(flow(0.0, y), flow.reference(y)) < 1e-12


def test_an_ensemble_is_followed_without_groups():
    flow = SpectralFlow(THREE, symmetric=True)
    scales = times(1.0, 0.1)[:, None, None]
    path = gflow.integrate(flow, flow.start(scales * torch.diag(times(0.3, 0.5, 1.0))), [0.0, 0.5])
    assert flow.log_singular_values(path.ys).shape == (2, 2, 3)
    assert path.certificate.holds


def test_far_apart_singular_values_have_no_layers():
    flow = SpectralFlow(THREE, depth=3)
    U = torch.eye(3, dtype=torch.float64)
    with pytest.raises(InputError, match="lost in the product of layers"):
        flow.lift(flow.pack(times(0.0, -10.0, -100.0), U, U))


def test_distances_are_those_of_matrices_and_of_logs():
    flow = SpectralFlow(THREE, symmetric=True)
    logs, U = times(0.0, 0.0, -100.0), torch.eye(3, dtype=torch.float64)
    turned = U[:, [1, 0, 2]] * times(1.0, -1.0, 1.0)  # another basis of the same W
    y, same, other = flow.pack(logs, U), flow.pack(logs, turned), flow.pack(logs + 1e-3, U)
    distance = flow.relative_distance(torch.stack([same, other]), torch.stack([y, y]))
    assert distance.tolist() == pytest.approx([0.0, 1.0005e-3], rel=1e-3, abs=1e-15)


BAD = {
    "neither": (lambda f: f.start(), "W0 or log_scale, got neither"),
    "both": (lambda f: f.start(torch.eye(2).double(), log_scale=0.0), "got both"),
    "shape": (lambda f: f.start(torch.eye(3).double()), r"shape \(..., 2, 2\)"),
    "zero": (lambda f: f.start(torch.zeros(2, 2).double()), "rank of at least 1"),
    "scale": (lambda f: f.start(log_scale=math.inf), "log_scale must be finite"),
    "state": (
        lambda f: gflow.integrate(f, torch.ones(3).double(), [0.0, 1.0]),
        "5 numbers for each",
    ),
    "depth": (lambda f: SpectralFlow(CORNER, 1), "depth must be at least 2, got 1"),
    "symmetric": (lambda f: SpectralFlow(CORNER, 3, symmetric=True), "leave it out"),
    "square": (lambda f: SpectralFlow(make_loss("distance", 2, 3), symmetric=True), "square"),
    "negative": (
        lambda f: SpectralFlow(CORNER, symmetric=True).start(-torch.eye(2).double()),
        "positive semidefinite",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_followed(name):
    call, message = BAD[name]
    with pytest.raises(InputError, match=message):
        call(SpectralFlow(CORNER, depth=2))


def named_by(path, loss):
    """The flow that a failing certificate names, as it is written there."""
    found = re.findall(r"(SpectralFlow\(.*?\)) follows all modes", str(path.certificate))
    assert found, path.certificate
    return eval(found[0], {"SpectralFlow": SpectralFlow, "loss": loss})


def test_a_certificate_of_another_flow_names_it_where_a_mode_was_lost():
    """The smaller mode of the start is below the round-off of W, and grows by e^19 or more."""
    W, target = torch.diag(times(0.1, 1e-17)), torch.diag(times(1.0, 2.0))
    loss = SquaredDistance(target)
    plain = EndToEndFlow(loss, 2)
    path = gflow.integrate(plain, W, [0.0, 1.0, 5.0, 12.0], "dop853", rtol=1e-6, atol=1e-9)
    flow = named_by(path, loss)
    path = gflow.integrate(flow, flow.start(W), path.ts, rtol=1e-6, atol=0.0)
    assert path.certificate.holds
    late = 2 / (1 + 2e17 * math.exp(-48))  # s = m/(1 + (m/s₀ − 1) e^{−2mt})
    assert relative(flow.end_to_end(path.ys[-1]), torch.diag(times(1.0, late))) < 1e-5


FRAMES = [torch.linalg.qr(randn(2, 2, seed=seed))[0] for seed in range(4)]


KINDS = itertools.product(["end to end", "layers", "product", "factor"], [False, True])


@pytest.mark.parametrize("case", slow_except(list(KINDS), ("end to end", False), ("layers", True)))
def test_no_flow_loses_a_mode_in_silence(case):
    """From 1e-10 and 1e-22: the second is round-off of W from when the first is there."""
    kind, ensemble = case
    symmetric = kind in ("product", "factor")
    U, P = FRAMES[:2]
    V, Q = (U, P) if symmetric else FRAMES[2:]
    entries = torch.eye(4).double().reshape(4, 2, 2) * times(1.8, 2.0, 2.1, 2.2)[:, None, None]
    loss = MatrixSensing(entries, (entries * ((P * times(3.0, 1.0)) @ Q.mT)).sum((-2, -1)))
    roots = [frame * times(1e-5, 1e-11) for frame in (U, V)]
    W = roots[0] @ roots[1].mT
    layers = LayerwiseFlow(loss, [2, 2, 2])
    flow, y0 = {
        "end to end": (EndToEndFlow(loss, 2), W),
        "layers": (layers, layers.pack([roots[1].mT, roots[0]])),
        "product": (ProductFlow(loss), W),
        "factor": (FactorFlow(loss), roots[0]),
    }[kind]
    ts = [0.0, 10.0, 20.0, 24.0, 26.0, 40.0]
    spectral = SpectralFlow(loss, symmetric=symmetric)
    truth = gflow.integrate(spectral, spectral.start(W), ts, rtol=1e-8)
    assert truth.certificate.holds
    path = gflow.integrate(flow, torch.stack([y0, y0]) if ensemble else y0, ts, atol=1e-18)
    found = path.ys if kind in ("end to end", "product") else flow.end_to_end(path.ys)
    error = relative(found[:, 0] if ensemble else found, spectral.end_to_end(truth.ys))
    if path.certificate.holds:
        assert error < 1e-4
    else:
        assert named_by(path, loss).symmetric is symmetric


def test_equal_singular_values_that_round_off_parts_are_no_fault():
    # Their gap of a few units of round-off decides how fast the two turn into each other.
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    target = torch.tensor(Q * [3.7001, 3.7001, 0.9819] @ Q.T)
    flow = SpectralFlow(SquaredDistance((target + target.T) / 2), depth=2)
    times = np.linspace(0, 2.221, 12).tolist()
    path = gflow.integrate(
        flow, flow.start(log_scale=-19.886), times, "tsit5", rtol=1e-6, atol=1e-9
    )
    assert path.certificate.holds, path.certificate


def equal_modes(log_scale, count=61, depth=None):
    """A flow from e^log_scale·I to diag(3, 2.5, 1), its times, and the logs of σ in closed form."""
    m = torch.tensor([3.0, 2.5, 1.0], dtype=torch.float64)
    loss = SquaredDistance(torch.diag(m))
    flow = SpectralFlow(loss, symmetric=True) if depth is None else SpectralFlow(loss, depth=depth)
    rate = 4 * m if depth is None else 2 * m
    ts = torch.linspace(0, -1.5 * log_scale / float(rate[-1]), count, dtype=torch.float64)
    missing = m.log() - log_scale - rate * ts[:, None]
    return flow, ts, m.log() - torch.logaddexp(torch.zeros_like(missing), missing)


@pytest.mark.parametrize("log_scale", [-30.0, -138.0])
@pytest.mark.parametrize(
    "options",
    [{"checkpoint": lambda saved: None}, {"sharpness": 1}, {"method": "dopri5"}, {"members": 2}],
    ids=lambda options: next(iter(options)),
)
def test_equal_modes_part_where_no_guard_groups_them(options, log_scale):
    flow, ts, truth = equal_modes(log_scale)
    y0, members = flow.start(log_scale=log_scale), options.get("members")
    if members:
        y0, options = y0.expand(members, -1), {}
    path = gflow.integrate(flow, y0, ts, **options)
    assert path.certificate.holds
    assert path.stats.rhs_evals < 4000
    logs = flow.log_singular_values(path.ys).reshape(len(ts), -1, 3)
    assert float((logs - truth[:, None]).abs().max()) <= 5e-5


def test_starts_of_an_ensemble_are_equal_modes_of_a_mask_for_each_member():
    masks = torch.ones(2, 3, 3, dtype=torch.bool)
    masks[1, 0, 1] = False
    target = torch.diag(torch.tensor([3.0, 2.5, 1.0]).double()) + 0.1
    flow = SpectralFlow(MatrixCompletion(target, masks), 2)
    path = gflow.integrate(flow, flow.start(log_scale=-10.0), [0.0, 1.0, 5.0])
    assert path.certificate.holds
    for member, mask in enumerate(masks):
        alone = SpectralFlow(MatrixCompletion(target, mask), 2)
        truth = gflow.integrate(alone, alone.start(log_scale=-10.0), [0.0, 1.0, 5.0])
        difference = alone.end_to_end(truth.ys) - flow.end_to_end(path.ys)[:, member]
        assert float(difference.norm()) <= 1e-4


@pytest.mark.parametrize("depth", [None, 2])
def test_modes_leave_on_time_from_1e_1000(depth):
    log_scale = -1000 * math.log(10)
    flow, ts, truth = equal_modes(log_scale, 301, depth)
    path = gflow.integrate(flow, flow.start(log_scale=log_scale), ts, dense=True)
    assert path.certificate.holds
    assert float((flow.log_singular_values(path.ys) - truth).abs().max()) <= 1e-4
