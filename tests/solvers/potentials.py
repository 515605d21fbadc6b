"""Small gradient flows with a known solution, and the verdict on a solver's result."""

import torch

import gflow
from gflow.flows.base import ParameterFlow
from tests.helpers import randn, times, worst_relative

OWN = ["tsit5", "dop853", "rkc2", "rock4", "bdf", "auto"]
NAN = "the right-hand side returned NaN or infinity"
STABILISED = ["rkc2", "rock4", "bdf", "auto"]


class Potential(ParameterFlow):
    """ẏ = −∇φ(y) on Rⁿ."""

    def __init__(self, size, phi, gradient):
        self.size, self.phi, self.gradient = size, phi, gradient

    @property
    def state_shape(self):
        return (self.size,)

    def __call__(self, t, y):
        return -self.gradient(y)

    def loss(self, y):
        return self.phi(y)

    @classmethod
    def example(cls):
        raise NotImplementedError


class Bernoulli(Potential):
    """φ(Qx) = Σ ½b x² + ¼a x⁴, so ẋ = −bx − ax³, with a rotation Q; a saddle where b < 0.

    x(t) = x₀ e^{−bt} / √(1 + a x₀² (1 − e^{−2bt})/b).
    """

    def __init__(self, rates, cubic=1.0, dtype=torch.float64):
        self.rates = torch.as_tensor(rates, dtype=torch.float64)
        self.cubic = cubic
        n = len(self.rates)
        self.Q = torch.linalg.qr(randn(n, n, seed=5))[0]
        b, Q = self.rates.to(dtype), self.Q.to(dtype)

        def phi(y):
            u = (y @ Q).square()
            return (0.5 * b * u + 0.25 * (cubic * u) * u).sum(-1)

        def gradient(y):
            x = y @ Q
            return ((b + cubic * x.square()) * x) @ Q.mT

        super().__init__(n, phi, gradient)

    def at(self, ts, y0):
        """Return the states at ts, (T, n), in float64."""
        t = torch.as_tensor(ts, dtype=torch.float64)[:, None]
        t = t - t[0]
        x0 = y0.double() @ self.Q
        b = self.rates
        safe = torch.where(b == 0, torch.ones_like(b), b)
        integral = torch.where(b == 0, 2 * t, -torch.expm1(-2 * b * t) / safe)
        # Where e^{2bt} is small, numerator and denominator are multiplied by it: no overflow.
        below = torch.where(b < 0, torch.exp(2 * b * t), 1.0)
        up = torch.where(b < 0, 1.0, torch.exp(-b * t))
        return (x0 * up / (below + self.cubic * x0.square() * integral * below).sqrt()) @ self.Q.mT


def shifted(flow, by):
    """The same landscape about another origin."""
    moved = Potential(flow.size, lambda y: flow.phi(y - by), lambda y: flow.gradient(y - by))
    moved.at = lambda ts, y0: flow.at(ts, y0 - by) + by
    return moved


def mild():
    """Non-linear, coupled, not stiff; its start."""
    flow = Bernoulli([0.0, 0.3, 1.0, 3.0])
    return flow, times(1.0, -0.5, 0.8, 0.3)


def stiff(largest=2000.0):
    """Rates from 0.1 to `largest`."""
    flow = Bernoulli(torch.logspace(-1, torch.tensor(largest).log10().item(), 12))
    return flow, torch.linspace(1.0, -0.6, 12, dtype=torch.float64)


def solve(flow, y0, ts, method, rtol, atol=None, max_evals=20_000, **options):
    """Call gflow.integrate with a budget of evaluations."""
    atol = 1e-3 * rtol if atol is None else atol
    return gflow.integrate(flow, y0, ts, method, rtol, atol, max_evals=max_evals, **options)


def verdict(flow, y0, ts, method, rtol, truth, within, **options):
    """Return 'right', 'flagged' or the reason of an error; a silent wrong answer fails the test."""
    stopped = None
    try:
        path = solve(flow, y0, ts, method, rtol, **options)
    except gflow.IntegrationError as error:
        stopped = error
    if stopped is not None:
        assert stopped.reason
        assert "\n" not in str(stopped)
        assert torch.isfinite(stopped.y).all()
        assert ts[0] <= stopped.t < ts[-1]
        return stopped.reason
    assert path.ts.tolist() == list(ts)
    if not path.certificate.holds:
        return "flagged"
    assert torch.equal(path.ys[0], y0)
    error = worst_relative(path.ys[1:].double(), truth[1:])
    assert error <= within, (error, path)
    return "right"
