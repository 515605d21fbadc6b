import math

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.losses import SquaredDistance
from tests.helpers import altered, randn, relative, times, worst_relative


def kernel(n, rank=None, seed=0):
    """A smooth kernel with quickly falling eigenvalues, or one of the given rank."""
    x = torch.linspace(0.0, 1.0, n, dtype=torch.float64)
    H = n * torch.exp(-3 * (x[:, None] - x).abs())
    if rank is None:
        return H
    J = randn(n, rank, seed=seed)
    return J @ J.mT


class Affine(KernelFlow):
    """A kernel flow without a known fixed point, and with the generic product."""

    stationary_state = None

    def jvp(self, y, v):
        return super(KernelFlow, self).jvp(y, v)


@pytest.mark.parametrize("kind", [KernelFlow, Affine])
@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("shape", [(60,), (60, 3)])
@pytest.mark.parametrize("rank", [None, 7])
def test_error_is_within_the_tolerance_at_every_time(kind, rtol, shape, rank):
    flow = kind(kernel(60, rank), randn(*shape, seed=1))
    u0 = randn(*shape, seed=2)
    ts = times(2.0, 2.0 + 1e-6, 2.1, 5.0, 12.0)
    path = gflow.integrate(flow, u0, ts, "krylov", rtol, 0.0)
    exact = flow.exact(ts - 2, u0)
    assert worst_relative(path.ys, exact) <= 2 * rtol  # ‖u₀‖ or ‖u(T)‖, not each ‖u(t)‖
    assert path.ts.tolist() == ts.tolist()
    assert path.stats.method == "krylov"
    assert path.stats.accepted == 4
    assert path.certificate.holds, path.certificate
    assert path.certificate.energy_residual <= rtol


def test_products_are_counted_and_few():
    calls = []
    H = 4 * kernel(400)
    flow = KernelFlow(lambda v: calls.append(v.shape) or H @ v, randn(400, seed=1))
    calls.clear()
    path = gflow.integrate(flow, torch.zeros(400).double(), [0.0, 100.0], "krylov", 1e-8, 1e-11)
    exact = KernelFlow(H, flow.targets).exact(times(0.0, 100.0), path.ys[0])
    assert worst_relative(path.ys[1:], exact[1:]) <= 1e-8
    single = [s for s in calls if s == (400,)]
    # Products are evaluated one by one; then a dozen states for the energy.
    # The certificate's products, for the round-off of late times, are not counted.
    assert len(single) - 12 <= path.stats.rhs_evals <= len(single) + 12
    assert len(single) <= 150


@pytest.mark.slow
def test_no_decomposition_is_made(monkeypatch):
    sizes = []
    for name in ("eigh", "eigvalsh", "svd"):
        inner = getattr(torch.linalg, name)

        def watched(A, *args, inner=inner, **options):
            sizes.append(A.shape[-1])
            return inner(A, *args, **options)

        monkeypatch.setattr(torch.linalg, name, watched)
    flow = KernelFlow(kernel(1200), randn(1200, seed=1))
    for method in ("krylov", "rkc2"):
        path = gflow.integrate(flow, torch.zeros(1200).double(), [0.0, 0.01], method)
        assert path.certificate.holds
        assert path.certificate.invariant_drift == {}
    assert max(sizes) < 300


def test_ensembles_are_their_members():
    flow = KernelFlow(kernel(50), randn(50, 2, seed=1))
    starts = randn(2, 3, 50, 2, seed=2) * times(1.0, 0.1, 10.0)[:, None, None]
    path = gflow.integrate(flow, starts, [0.0, 0.1, 3.0], "krylov", 1e-9, 0.0)
    assert path.certificate.holds, path.certificate
    assert path.losses.shape == (3, 2, 3)
    for i in range(2):
        for j in range(3):
            exact = flow.exact(times(0.0, 0.1, 3.0), starts[i, j])
            assert worst_relative(path.ys[:, i, j], exact) <= 2e-9


def test_singular_kernels_over_long_times():
    H = kernel(40, rank=5)
    y, u0 = randn(40, seed=1), randn(40, seed=2)
    flow = KernelFlow(H, y)
    path = gflow.integrate(flow, u0, [0.0, 1e12], "krylov", 1e-9, 0.0)
    Q = torch.linalg.qr(H[:, :5])[0]
    limit = u0 + Q @ (Q.mT @ (y - u0))
    assert relative(path.ys[-1], limit) <= 1e-9
    # From its products, a null space is known to be one until about t = tolerance/(eps·λ_max).
    (reason,) = path.certificate.failures()
    assert reason.startswith("round_off")
    path = gflow.integrate(flow, u0, [0.0, 1e3], "krylov", 1e-9, 0.0)
    assert path.certificate.holds, path.certificate


@pytest.mark.parametrize("start", ["rest", "null", "eigenvector"])
def test_starts_in_an_invariant_subspace(start):
    H = torch.diag(times(5.0, 2.0, 1.0, *[0.0] * 30))
    y = randn(33, seed=1)
    u0 = y.clone()
    u0[{"rest": slice(0), "null": 20, "eigenvector": 1}[start]] += 1.0
    path = gflow.integrate(KernelFlow(H, y), u0, [0.0, 1.0, 1e6], "krylov")
    assert relative(path.ys, KernelFlow(H, y).exact(times(0.0, 1.0, 1e6), u0)) <= 1e-12
    assert path.certificate.holds, path.certificate
    assert path.stats.rhs_evals <= 8 + 12


def test_little_memory(monkeypatch):
    from gflow.linalg.exponential import exponential

    small = {**exponential.__kwdefaults__, "memory": 12 * 60}
    monkeypatch.setattr(exponential, "__kwdefaults__", small)
    flow = KernelFlow(kernel(60), randn(60, seed=1))
    ts = torch.linspace(0.0, 2.0, 9, dtype=torch.float64)
    path = gflow.integrate(flow, torch.zeros(60).double(), ts, "krylov", 1e-7, 1e-10)
    assert worst_relative(path.ys[1:], flow.exact(ts, path.ys[0])[1:]) <= 1e-5
    assert float((path.ys - flow.exact(ts, path.ys[0])).norm(dim=1).max()) <= 1e-7 * 8
    assert path.stats.rhs_evals > 24 + 12
    assert path.certificate.holds, path.certificate


def test_when_the_budget_runs_out_the_states_so_far_are_returned():
    flow = KernelFlow(kernel(200), randn(200, seed=1))
    ts = [0.0, 1e-3, 1e-2, 50.0]
    with pytest.raises(gflow.IntegrationError, match="budget of 40 evaluations ran out") as caught:
        gflow.integrate(flow, torch.zeros(200).double(), ts, "krylov", max_evals=40)
    path = caught.value.trajectory
    assert path.stats.rhs_evals <= 40
    assert 2 <= len(path.ts) < 4
    exact = flow.exact(path.ts, path.ys[0])
    assert float((path.ys - exact).norm(dim=1).max()) <= 1e-6 * float(flow.targets.norm())


WRONG = {
    "unsymmetric": lambda H: H + 0.002 * torch.triu(H, 1),
    "a part per hundred": lambda H: 1.01 * H,
}


@pytest.mark.parametrize("fault", WRONG)
def test_products_that_are_not_the_flow_do_not_close_the_energy_balance(fault):
    """The Krylov space relies on its products; the energy is measured with the flow itself."""
    H = kernel(50)
    flow = KernelFlow(H, randn(50, seed=1))
    bad = altered(flow, lambda inner, t, y: inner(t, y))
    type(bad).jvp = lambda self, y, v: -(WRONG[fault](H) @ v)
    path = gflow.integrate(bad, torch.zeros(50).double(), [0.0, 0.1, 1.0], "krylov")
    assert not path.certificate.holds
    assert path.certificate.energy_residual > 1e-4


def test_wrong_right_hand_side_is_caught():
    flow = KernelFlow(kernel(50), randn(50, seed=1))
    wrong = altered(flow, lambda inner, t, y: 2 * inner(t, y))
    path = gflow.integrate(wrong, torch.zeros(50).double(), [0.0, 0.1, 1.0], "krylov")
    assert not path.certificate.holds


def test_float32():
    flow = KernelFlow(kernel(60).float(), randn(60, seed=1).float())
    path = gflow.integrate(flow, torch.zeros(60), [0.0, 1.0, 10.0], "krylov", 1e-4, 1e-6)
    exact = KernelFlow(kernel(60), flow.targets.double()).exact(path.ts, torch.zeros(60).double())
    assert path.ys.dtype == torch.float32
    assert worst_relative(path.ys.double()[1:], exact[1:]) <= 2e-4
    assert path.certificate.holds, path.certificate


def test_flows_that_krylov_cannot_integrate():
    flow = EndToEndFlow(SquaredDistance(randn(2, 2)), 3)
    with pytest.raises(InputError, match=r"affine in its state.*EndToEndFlow is not.*rkc2"):
        gflow.integrate(flow, torch.eye(2).double(), [0.0, 1.0], "krylov")
    explodes = KernelFlow(torch.diag(times(1.0, -0.5, 0.3)), times(1.0, 2.0, 3.0))
    with pytest.raises(InputError, match=r"positive semidefinite.*-0.5"):
        gflow.integrate(explodes, torch.zeros(3).double(), [0.0, 1.0], "krylov")


@pytest.fixture
def decompositions(monkeypatch):
    """List the sizes of the matrices that are decomposed, but for those of Krylov spaces."""
    sizes, eigh = [], torch.linalg.eigh

    def listed(A, *args, **keywords):
        sizes.append(len(A))
        return eigh(A, *args, **keywords)

    monkeypatch.setattr(torch.linalg, "eigh", listed)
    return sizes


@pytest.mark.parametrize("outputs", [None, 5])
def test_auto_takes_krylov_where_it_costs_less_than_a_decomposition(decompositions, outputs):
    n = 400
    targets = randn(n, *(() if outputs is None else (outputs,)), seed=1)
    flow, u0, ts = KernelFlow(kernel(n), targets), torch.zeros_like(targets), times(0.0, 0.01, 0.05)
    path = gflow.integrate(flow, u0, ts, rtol=1e-8)
    assert path.stats.method == "krylov"
    assert path.certificate.holds
    assert path.stats.rhs_evals < n / (1 + targets[0].numel())
    assert n not in decompositions
    exact = flow.exact(ts, u0)
    assert worst_relative(path.ys[1:], exact[1:]) <= 1e-7
    assert n in decompositions
    # Now that H is decomposed, the closed form costs less.
    assert gflow.integrate(flow, u0, ts).stats.method == "exact"


def test_auto_takes_the_closed_form_where_krylov_takes_too_many_products(decompositions):
    n = 320
    H = torch.diag(torch.linspace(1e-3, 1.0, n, dtype=torch.float64)) + kernel(n, 2) / n
    flow = KernelFlow(H, randn(n, 3, seed=1))
    u0, ts = torch.zeros(n, 3).double(), times(0.0, 10.0, 1e4)
    path = gflow.integrate(flow, u0, ts, rtol=1e-10)
    assert path.stats.method == "exact"
    assert path.certificate.holds
    assert "krylov takes more than 80 products, so the solve takes the closed form" in (
        path.stats.reason
    )
    assert decompositions.count(n) == 1
    assert relative(path.ys, flow.exact(ts, u0)) <= 1e-14
    assert gflow.integrate(flow, u0, ts, max_evals=20).stats.method == "exact"


def test_auto_takes_the_closed_form_where_round_off_of_a_krylov_space_decides():
    n = 320
    lam = torch.cat([torch.ones(n - 1, dtype=torch.float64), times(1e-12)])
    flow = KernelFlow(torch.diag(lam), torch.ones(n).double())
    path = gflow.integrate(flow, torch.zeros(n).double(), times(0.0, 1.0, 1e12))
    assert path.stats.method == "exact"
    assert "krylov loses the slowest modes to round-off" in path.stats.reason
    assert path.certificate.holds
    assert float(path.ys[-1, -1]) == pytest.approx(1 - math.exp(-1), rel=1e-9)


@pytest.mark.parametrize("n", [100, 300])
def test_auto_decomposes_small_kernels(n):
    flow = KernelFlow(kernel(n), torch.ones(n).double())
    path = gflow.integrate(flow, torch.zeros(n).double(), times(0.0, 0.05))
    assert path.stats.method == "exact"
    assert "krylov" not in path.stats.reason
