"""The normalised flow: the same path on another clock, to losses that no number holds."""

import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import NetworkFlow, NormalisedFlow
from tests.helpers import randn, relative

X = randn(8, 3, seed=1)
LABELS = torch.tensor([0, 1, 0, 1, 1, 0, 0, 1])


def network(criterion="logistic", outputs=1, bias=False, **options):
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 4, bias=bias), torch.nn.ReLU(), torch.nn.Linear(4, outputs, bias)
    return NetworkFlow(torch.nn.Sequential(*layers).double(), criterion, X, LABELS, **options)


def separable(dimension=2, samples=12):
    """Return a linear flow, the maximum-margin direction and the margin, by symmetry.

    Samples ±(1, 0, …) ± c·e_j about the first axis: the margin is 1, along it.
    """
    sides = torch.cat([torch.ones(samples // 2), -torch.ones(samples // 2)]).double()
    points = torch.zeros(samples, dimension, dtype=torch.float64)
    points[:, 0] = sides
    points[:, 1] = torch.tensor([0.5, -0.7, 1.5]).double().repeat(samples // 3)
    points[samples // 3 :: 4, 0] *= 2.0
    linear = torch.nn.Linear(dimension, 1, bias=False).double()
    return NetworkFlow(linear, "logistic", points, (sides > 0).long())


@pytest.mark.parametrize("criterion", ["logistic", "exponential", "cross-entropy"])
def test_the_path_is_that_of_the_flow_on_another_clock(criterion):
    inner = network(criterion, outputs=2 if criterion == "cross-entropy" else 1)
    flow, theta = NormalisedFlow(inner), inner.pack()
    assert torch.equal(flow.pack(), theta)
    assert relative(flow(0.0, theta), inner(0.0, theta) / inner.loss(theta)) <= 1e-12
    assert relative(flow.loss(theta), inner.loss(theta).log()) <= 1e-12
    ts = torch.linspace(0, 0.4, 5).double()
    path = gflow.integrate(flow, theta, ts, rtol=1e-9, atol=1e-12)
    assert path.certificate.holds
    times = flow.log_time(path.ts, path.ys).exp()
    assert float(times[0]) == 0.0
    truth = gflow.integrate(inner, theta, times, rtol=1e-9, atol=1e-12)
    assert relative(path.ys, truth.ys) <= 1e-6


def test_separable_logistic_regression_reaches_a_loss_of_1e_300():
    """Soudry et al. 2018: ‖w‖/log t → 1/γ, and the angle falls as 1/log t."""
    inner = separable()
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    flow = NormalisedFlow(inner, weights)
    assert flow.degree == 1.0
    path = gflow.integrate(
        flow, 0 * flow.pack(), [0.0, 1.0, 10.0, 100.0, 350.0, 720.0], rtol=1e-7, atol=1e-9
    )
    assert path.certificate.holds
    seen, log_t = flow.observables(path.ys), flow.log_time(path.ts, path.ys)
    assert float(seen["log_loss"][-1]) < math.log(1e-300)
    assert float(seen["norm"][-1] / log_t[-1]) == pytest.approx(1.0, rel=0.01)
    angles = seen["angle"] * log_t
    assert float(angles[-1]) == pytest.approx(float(angles[-2]), rel=0.02)
    assert float(seen["margin"][-1]) == pytest.approx(1.0, rel=1e-3)
    # log φ = log(Σ…) ≈ −γ‖w‖, so that t ≈ 1/φ up to what grows as a logarithm
    assert float(log_t[-1] + seen["log_loss"][-1]) == pytest.approx(0.0, abs=10.0)


def test_one_sample_has_a_closed_form():
    """f = w, exponential: log φ = −w, dw/dτ = 1, and t = e^w − 1 from w = 0."""
    linear = torch.nn.Linear(1, 1, bias=False).double()
    one = torch.ones(1, 1, dtype=torch.float64)
    flow = NormalisedFlow(NetworkFlow(linear, "exponential", one, torch.ones(1)))
    path = gflow.integrate(flow, 0 * flow.pack(), [0.0, 1.0, 900.0])
    assert relative(path.ys[:, 0], path.ts) <= 1e-12
    log_t = flow.log_time(path.ts, path.ys)
    assert float(log_t[1]) == pytest.approx(math.log(math.expm1(1.0)), rel=1e-9)
    assert float(log_t[2]) == pytest.approx(900.0, rel=1e-9)


@pytest.mark.parametrize("activation", [torch.nn.Tanh, torch.nn.GELU, torch.nn.Sigmoid])
def test_a_network_that_is_nearly_linear_on_its_inputs_has_no_degree(activation):
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 4, bias=False), activation(), torch.nn.Linear(4, 1, bias=False)
    inner = NetworkFlow(torch.nn.Sequential(*layers).double(), "logistic", 1e-6 * X, LABELS)
    assert NormalisedFlow(inner).degree is None


def test_degrees_are_measured_and_margins_normalised():
    flow = NormalisedFlow(network())
    assert flow.degree == 2.0
    theta = flow.pack()
    seen = flow.observables(torch.stack([theta, 3 * theta]))
    assert float(seen["margin"][0]) == pytest.approx(float(seen["margin"][1]), rel=1e-12)
    margins = (2 * LABELS - 1) * flow.end_to_end(theta)[:, 0]
    assert float(seen["margin"][0]) == pytest.approx(float(margins.min() / theta.norm() ** 2))
    with_bias = NormalisedFlow(network(bias=True))
    assert with_bias.degree is None
    assert "margin" not in with_bias.observables(with_bias.pack())


def test_the_angle_keeps_small_values():
    inner = separable()
    flow = NormalisedFlow(inner, 2 * torch.tensor([1.0, 0.0]).double())
    state = torch.tensor([1e8, 1e-4], dtype=torch.float64)
    assert float(flow.observables(state)["angle"]) == pytest.approx(1e-12, rel=1e-9)


@pytest.mark.slow
def test_the_margin_of_a_relu_network_never_falls():
    """Lyu & Li 2020, to a loss of 1e-100, on orthogonally separable data."""
    torch.manual_seed(1)
    y = torch.cat([torch.ones(10), -torch.ones(10)]).double()
    axis = torch.tensor([1.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    points = y[:, None] * (axis + 0.15 * torch.randn(20, 6, dtype=torch.float64))
    layers = torch.nn.Linear(6, 10, bias=False), torch.nn.ReLU(), torch.nn.Linear(10, 1, bias=False)
    inner = NetworkFlow(torch.nn.Sequential(*layers).double(), "logistic", points, (y > 0).long())
    flow = NormalisedFlow(inner)
    ts = torch.linspace(0, 60, 121).double()
    until = gflow.events.loss_reaches(flow, -100 * math.log(10))
    path = gflow.integrate(flow, flow.pack(), ts, rtol=1e-5, atol=1e-9, until=until)
    assert path.certificate.holds
    seen = flow.observables(path.ys)
    assert float(seen["log_loss"][-1]) == pytest.approx(-100 * math.log(10))
    from_here = seen["log_loss"] < -math.log(20)
    for name in ("margin", "smoothed_margin"):
        assert bool((seen[name][from_here].diff() > 0).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NormalisedFlow(gflow.FactorFlow.example()[0]), "got FactorFlow"),
        (
            lambda: NormalisedFlow(network(lambda z, y: z.square().mean())),
            "got another criterion",
        ),
        (lambda: NormalisedFlow(network(chunk=4)), "make it without chunk and team"),
        (lambda: NormalisedFlow(network(), randn(3)), r"shape \(16,\), got shape \(3,\)"),
        (lambda: NormalisedFlow(network(), torch.zeros(16).double()), "a nonzero vector"),
    ],
)
def test_other_flows_and_directions_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
