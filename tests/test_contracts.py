"""The contracts of flows and solvers, checked on the example of every flow."""

import copy
import functools

import pytest
import torch
import torchdiffeq
from scipy.integrate import solve_ivp
from torch._subclasses import FakeTensorMode
from torch.func import jvp

import gflow
from gflow.errors import InputError
from gflow.flows import ModifiedFlow, TwoLayerFlow
from gflow.solvers import methods
from tests.helpers import (
    altered,
    flow_classes,
    relative,
    slow_except,
    starts_of,
    worst_relative,
)

FLOWS = flow_classes()
METHODS = sorted(methods())
FIXED = [m for m in METHODS if m in methods()[m].fixed_step]
CLOSED = ("exact", "krylov")  # for some flows or starts only
ADAPTIVE = [m for m in METHODS if m not in FIXED and m not in CLOSED]
every_flow = pytest.mark.parametrize("kind", FLOWS, ids=lambda c: c.__name__)
# Solves of these are left to `make slow`; their own tests have others.
SLOW = ("DiagonalDualFlow", "NormalisedFlow", "SpectralFlow")
every_solved_flow = pytest.mark.parametrize(
    "kind",
    slow_except(FLOWS, *(c for c in FLOWS if c.__name__ not in SLOW)),
    ids=lambda c: c.__name__,
)


def third_of_pairs(names):
    """Every flow with every method, a third of the pairs; the others are left to `make slow`."""
    pairs = [(kind, method) for kind in FLOWS for method in names]
    quick = [
        (kind, method)
        for kind, method in pairs
        if kind.__name__ not in SLOW and (FLOWS.index(kind) + names.index(method)) % 3 == 0
    ]
    ids = [f"{kind.__name__}-{method}" for kind, method in pairs]
    marked = [
        pytest.param(*pair, marks=() if pair in quick else pytest.mark.slow) for pair in pairs
    ]
    return pytest.mark.parametrize(("kind", "method"), marked, ids=ids)


@every_solved_flow
def test_no_number_goes_through_the_default_dtype_of_torch(kind):
    """It is float32: a scale or a time that is made a tensor by it loses half of its digits."""
    paths = []
    for default in (torch.float32, torch.float64):
        before = torch.get_default_dtype()
        torch.set_default_dtype(default)
        try:
            paths.append(gflow.integrate(*kind.example(), [0.0, 0.37], rtol=1e-6, atol=1e-9))
        finally:
            torch.set_default_dtype(before)
    assert torch.equal(paths[0].ys, paths[1].ys)
    assert torch.equal(paths[0].losses, paths[1].losses)


def test_all_flows_and_methods_are_discovered():
    assert {c.__name__ for c in FLOWS} >= {
        "EndToEndFlow",
        "FactorFlow",
        "KernelFlow",
        "LayerwiseFlow",
        "NetworkFlow",
        "ProductFlow",
    }
    assert {"exact", "dopri5", "rk4", "scipy:LSODA"} <= set(METHODS)


# -- the right-hand side ------------------------------------------------------------


@every_flow
def test_velocity_is_the_gradient_flow_of_its_loss(kind):
    flow, y0 = kind.example()
    assert relative(flow(0.0, y0), flow.reference(y0)) <= 1e-12
    ys = starts_of(flow, y0)
    assert relative(flow(0.0, ys), flow.reference(ys)) <= 1e-12


@every_flow
def test_a_call_changes_no_state(kind):
    flow, y0 = kind.example()
    before, attributes = y0.clone(), set(vars(flow))
    first = flow(0.0, y0)
    assert torch.equal(first, flow(7.0, y0))
    assert torch.equal(y0, before)
    assert first.shape == y0.shape
    assert first.dtype == y0.dtype
    assert set(vars(flow)) == attributes


@every_flow
def test_every_call_returns_a_new_tensor(kind):
    """A step stores the velocities of earlier calls, which later calls must not overwrite."""
    flow, y0 = kind.example()
    first, again = flow(0.0, y0), flow(0.0, y0)
    memory = {t.untyped_storage().data_ptr() for t in (y0, first, again)}
    assert len(memory) == 3


@every_flow
def test_dissipation_is_the_rate_of_the_loss(kind):
    flow, y0 = kind.example()
    velocity = flow(0.0, y0)
    _, rate = jvp(flow.loss, (y0,), (velocity,))
    assert relative(flow.dissipation(y0, velocity), -rate) <= 1e-12
    assert rate < 0


@every_flow
def test_jvp_is_the_derivative(kind):
    flow, y0 = kind.example()
    v = torch.sin(1 + torch.arange(y0.numel(), dtype=y0.dtype)).reshape(y0.shape)
    h = 1e-3
    f = lambda s: flow(0.0, y0 + s * h * v)  # noqa: E731
    stencil = (-f(2) + 8 * f(1) - 8 * f(-1) + f(-2)) / (12 * h)
    assert relative(flow.jvp(y0, v), stencil) <= 1e-8


@every_flow
def test_parameter_jacobian_is_symmetric(kind):
    flow, y0 = kind.example()
    inner, theta = flow.parameter_flow, flow.lift(y0)
    u, v = torch.randn_like(theta), torch.randn_like(theta)
    left, right = (u * inner.jvp(theta, v)).sum(), (v * inner.jvp(theta, u)).sum()
    assert abs(float(left - right)) <= 1e-12 * float(u.norm() * inner.jvp(theta, v).norm())


@every_flow
def test_ensemble_equals_a_loop_over_members(kind):
    flow, y0 = kind.example()
    ys = starts_of(flow, y0)
    members = list(ys.reshape(6, *y0.shape))
    assert flow.batch_shape(ys) == (2, 3)
    functions = {
        "velocity": lambda y: flow(0.0, y),
        "loss": flow.loss,
        "dissipation": lambda y: flow.dissipation(y, flow(0.0, y)),
        "reference": flow.reference,
        "norm": flow.norm,
        "lift and project": lambda y: flow.project(flow.lift(y)),
        "end_to_end": flow.end_to_end,
        "jvp": lambda y: flow.jvp(y, torch.ones_like(y)),
        **{f"observable {k}": lambda y, k=k: flow.observables(y)[k] for k in flow.observables(y0)},
        **{f"invariant {k}": lambda y, k=k: flow.invariants(y)[k] for k in flow.invariants(y0)},
        **{
            f"scale {k}": lambda y, k=k: flow.invariant_scales(y)[k]
            for k in flow.invariant_scales(y0)
        },
    }
    for name, function in functions.items():
        batched = function(ys)
        single = torch.stack([function(y) for y in members])
        assert batched.shape == (2, 3, *single.shape[1:]), name
        gap = (batched.reshape(single.shape) - single).abs().max()
        assert float(gap) <= 1e-13 * float(single.abs().max().clamp_min(1.0)), name


@every_flow
def test_lift_and_project_are_inverse(kind):
    flow, y0 = kind.example()
    assert relative(flow.project(flow.lift(y0)), y0) <= 1e-14
    inner = flow.parameter_flow
    assert relative(inner.loss(flow.lift(y0)), flow.loss(y0)) <= 1e-13
    # The reduced velocity is the pushforward of the parameters'.
    theta = flow.lift(y0)
    _, pushed = jvp(flow.project, (theta,), (inner(0.0, theta),))
    assert relative(flow(0.0, y0), pushed) <= 1e-12


@every_flow
def test_invariants_are_conserved(kind):
    flow, y0 = kind.example()
    assert set(flow.invariants(y0)) == set(flow.invariant_scales(y0))
    for name in flow.invariants(y0):
        # Smooth at this start: the rate of each along the flow is zero, or that of its decay.
        value, rate = jvp(lambda y, n=name: flow.invariants(y)[n], (y0,), (flow(0.0, y0),))
        scale = float(flow.invariant_scales(y0)[name]) * float(flow(0.0, y0).norm())
        rate = rate + flow.invariant_rates().get(name, 0.0) * value
        assert float(rate.norm()) <= 1e-13 * scale, name


@every_flow
def test_observables_have_the_declared_dimensions(kind):
    flow, y0 = kind.example()
    ys = starts_of(flow, y0)
    for name, value in flow.observables(ys).items():
        assert value.ndim == 2 + len(flow.observable_dims.get(name, ())), name
        assert torch.isfinite(value).all(), name
    assert torch.equal(flow.observables(y0)["loss"], flow.loss(y0))


@every_flow
@pytest.mark.parametrize("bad", ["nan", "int", "shape", "list"])
def test_states_are_checked(kind, bad):
    flow, y0 = kind.example()
    broken = {
        "nan": torch.full_like(y0, float("nan")),
        "int": y0.long(),
        "shape": torch.zeros(*y0.shape[:-2], *(n + 1 for n in y0.shape[-2:]), dtype=y0.dtype),
        "list": y0.tolist(),
    }[bad]
    with pytest.raises(InputError, match="state"):
        gflow.integrate(flow, broken, [0.0, 1.0])


# -- integrating --------------------------------------------------------------------

TIMES = [0.0, 0.05, 0.1, 0.3, 0.5, 1.0]


@functools.cache
def reference_states(kind):
    """Return the states of the flow's example at TIMES, by a tight tolerance."""
    flow, y0 = kind.example()
    return gflow.integrate(flow, y0, TIMES, "dopri8", 1e-12, 1e-14).ys


def reference_at(kind, *times):
    return reference_states(kind)[[TIMES.index(t) for t in times]]


@every_solved_flow
@pytest.mark.parametrize("rtol", slow_except([1e-3, 1e-6, 1e-10], 1e-3, 1e-10))
def test_certificate_of_the_right_flow_holds(kind, rtol):
    flow, y0 = kind.example()
    method = "dopri8" if rtol < 1e-8 else "dopri5"
    path = gflow.integrate(flow, y0, [0.0, 0.5, 2.0, 8.0], method, rtol, 1e-3 * rtol)
    assert path.certificate.holds, path.certificate
    assert path.ts.tolist() == [0.0, 0.5, 2.0, 8.0]
    assert path.certificate.velocity_error <= 1e-10
    if rtol < 1e-8:
        assert max(path.certificate.invariant_drift.values(), default=0.0) <= 1e-9
        assert path.certificate.loss_increase == 0


WRONG = {
    "sign": lambda flow, t, y: -flow(t, y),
    "factor 2": lambda flow, t, y: 2 * flow(t, y),
    "one per cent": lambda flow, t, y: 1.01 * flow(t, y),
    "one entry": lambda flow, t, y: flow(t, y) * _all_but_first(flow, y),
}


def _all_but_first(flow, y):
    mask = torch.ones(y.shape[y.ndim - flow.state_ndim :], dtype=y.dtype)
    mask.view(-1)[0] = 0.0
    return mask


@every_solved_flow
@pytest.mark.parametrize("rtol", slow_except([1e-3, 1e-6, 1e-10], 1e-6))
@pytest.mark.parametrize("fault", WRONG)
def test_certificate_catches_a_wrong_right_hand_side(kind, fault, rtol):
    flow, y0 = kind.example()
    wrong = altered(flow, WRONG[fault])
    method = "dopri8" if rtol < 1e-8 else "dopri5"
    try:
        path = gflow.integrate(
            wrong, y0, [0.0, 0.2, 0.5], method, rtol, 1e-3 * rtol, max_evals=1000
        )
    except gflow.IntegrationError as error:
        path = error.trajectory  # up a gradient the flow may explode
    if rtol == 1e-3 and fault == "one per cent":
        return  # below the bound of so loose a tolerance
    assert not path.certificate.holds
    assert "DOES NOT HOLD" in repr(path)


@third_of_pairs(ADAPTIVE)
def test_every_adaptive_method_solves_every_flow(kind, method):
    flow, y0 = kind.example()
    ts = [0.0, 0.05, 0.3]
    low_order = method in ("adaptive_heun", "fehlberg2", "rkc2", "bosh3", "scipy:RK23")
    rtol = 1e-5 if low_order else 1e-7
    path = gflow.integrate(flow, y0, ts, method, rtol, 1e-3 * rtol)
    assert path.ts.tolist() == ts
    assert path.stats.method == method
    assert path.stats.rhs_evals > 0
    assert path.certificate.holds, path.certificate
    assert worst_relative(path.ys, reference_at(kind, *ts)) <= 100 * rtol


# Steps as large as the bound allows: one evaluation of some flows is expensive.
STEP_SIZES = {"euler": 1e-3, "heun2": 1e-3, "midpoint": 1e-3, "explicit_adams": 2.5e-3}


@third_of_pairs(FIXED)
def test_every_fixed_method_solves_every_flow(kind, method):
    flow, y0 = kind.example()
    ts = [0.0, 0.05, 0.1]
    path = gflow.integrate(flow, y0, ts, method, step_size=STEP_SIZES.get(method, 5e-3))
    assert path.ts.tolist() == ts
    assert worst_relative(path.ys, reference_at(kind, *ts)) <= (5e-3 if method == "euler" else 1e-5)


@every_solved_flow
def test_closed_form_agrees_with_the_integrator(kind):
    flow, y0 = kind.example()
    if flow.closed_form(y0) is None:
        with pytest.raises(InputError, match="closed form"):
            flow.exact(torch.tensor([0.0, 1.0]), y0)
        with pytest.raises(InputError, match="closed form"):
            gflow.integrate(flow, y0, [0.0, 1.0], "exact")
        return
    path = gflow.integrate(flow, y0, [0.0, 0.1, 1.0, 5.0], "dopri8", 1e-12, 1e-14)
    assert path.certificate.error_estimate <= 1e-10
    exact = gflow.integrate(flow, y0, path.ts)
    assert exact.stats.method == "exact"
    assert "auto" in exact.stats.reason
    assert exact.certificate.holds, exact.certificate
    assert worst_relative(exact.ys, path.ys) <= 1e-10


@every_solved_flow
def test_ensemble_solve_equals_solves_of_its_members(kind):
    flow, y0 = kind.example()
    ys = starts_of(flow, y0)[0, :2]
    ts = [0.0, 0.1, 0.3]
    batched = gflow.integrate(flow, ys, ts, "dopri8", 1e-11, 1e-14)
    assert batched.certificate.holds
    assert batched.losses.shape == (3, 2)
    for i, y in enumerate(ys):
        single = gflow.integrate(flow, y, ts, "dopri8", 1e-11, 1e-14)
        assert worst_relative(batched.ys[:, i], single.ys) <= 1e-9


@every_solved_flow
def test_float32_is_used_on_request(kind):
    flow, y0 = kind.example()
    single = _to(flow, torch.float32)
    path = gflow.integrate(single, y0.float(), [0.0, 0.5, 1.0], "dopri5", 1e-4, 1e-6)
    assert path.ys.dtype == torch.float32
    assert path.certificate.holds, path.certificate
    assert worst_relative(path.ys.double(), reference_at(kind, 0.0, 0.5, 1.0)) <= 1e-3
    with pytest.raises(InputError, match="float32 cannot reach rtol = 1e-09"):
        gflow.integrate(single, y0.float(), [0.0, 1.0], rtol=1e-9)


@every_solved_flow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_solves_on_cuda_agree_with_the_cpu(kind):
    flow, y0 = kind.example()
    flow_on_cuda = _to(flow, torch.device("cuda"))
    path = gflow.integrate(flow_on_cuda, y0.cuda(), [0.0, 0.5, 1.0], "dopri8", 1e-10, 1e-13)
    reference = gflow.integrate(flow, y0, [0.0, 0.5, 1.0], "dopri8", 1e-10, 1e-13)
    assert path.ys.is_cuda
    assert path.certificate.holds
    assert worst_relative(path.ys.cpu(), reference.ys) <= 1e-9


@pytest.mark.parametrize(
    "kind",
    [
        c
        for c in FLOWS
        if c.__name__ not in ("CentralFlow", "LossFlow", "NetworkFlow", "NormalisedFlow")
    ],
    ids=lambda c: c.__name__,
)
def test_right_hand_side_stays_on_the_device(kind):
    """With made-up CUDA tensors, so that it is checked without a GPU too.

    Not for a network or a loss: autograd needs the device; so does the modified flow, unless its
    inner flow has a product of its own. Nor for the central flow: which eigenvalues are at the
    edge is a branch on values."""
    flow, y0 = (TwoLayerFlow if kind is ModifiedFlow else kind).example()
    if kind is ModifiedFlow:
        flow = ModifiedFlow(flow, 0.05)
    with FakeTensorMode(allow_non_fake_inputs=True):
        flow_on_cuda = _to(flow, torch.device("cuda"))
        y = torch.empty(y0.shape, dtype=y0.dtype, device="cuda")
        for value in (
            flow_on_cuda(0.0, y),
            flow_on_cuda.loss(y),
            flow_on_cuda.dissipation(y, y),
            flow_on_cuda.norm(y),
            flow_on_cuda.end_to_end(y),
        ):
            assert value.device.type == "cuda"


def _to(thing, where):
    """Return a copy of a flow or loss with all tensors (and modules) in a dtype or on a device.

    A parameter that changes its dtype stays one object, in its module and in the flow's list.
    """
    return _moved(copy.deepcopy(thing) if isinstance(where, torch.dtype) else thing, where)


def _moved(thing, where):
    if isinstance(thing, torch.nn.Parameter) and isinstance(where, torch.dtype):
        thing.data = _moved(thing.data, where)
        return thing
    if isinstance(thing, torch.Tensor):
        if where == torch.device("cuda") and not torch.cuda.is_available():
            return torch.empty(thing.shape, dtype=thing.dtype, device=where)  # within a fake mode
        return thing.to(where) if torch.is_floating_point(thing) else thing
    if isinstance(thing, torch.nn.Module):
        return (thing if isinstance(where, torch.dtype) else copy.deepcopy(thing)).to(where)
    if isinstance(thing, list):
        return [_moved(v, where) for v in thing]
    if isinstance(thing, dict):
        return {k: _moved(v, where) for k, v in thing.items()}
    if isinstance(thing, tuple) and hasattr(thing, "_fields"):
        return type(thing)(*(_moved(v, where) for v in thing))
    if type(thing).__module__.startswith("gflow"):
        copied = copy.copy(thing)
        copied.__dict__ = _moved(vars(thing), where)
        return copied
    return thing


# -- other libraries ----------------------------------------------------------------


@every_solved_flow
def test_flow_is_a_right_hand_side_for_torchdiffeq(kind):
    flow, y0 = kind.example()
    ts = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    with torch.no_grad():
        ys = torchdiffeq.odeint(flow, y0, ts, rtol=1e-10, atol=1e-12)
    assert worst_relative(ys, reference_at(kind, 0.0, 0.5, 1.0)) <= 1e-8


@every_solved_flow
def test_flow_is_a_right_hand_side_for_scipy(kind):
    flow, y0 = kind.example()
    fun, start = gflow.to_scipy(flow, y0)
    solution = solve_ivp(fun, (0, 1), start, rtol=1e-10, atol=1e-12)
    (truth,) = reference_at(kind, 1.0)
    assert relative(torch.tensor(solution.y[:, -1]).reshape(y0.shape), truth) <= 1e-8


@every_solved_flow
def test_descent_approaches_the_flow(kind):
    flow, y0 = kind.example()
    path = gflow.integrate(flow, y0, [0.0, 0.5, 1.0], "dopri8", 1e-11, 1e-14)
    gaps = []
    for steps in (100, 200):
        gd = gflow.descend(flow, y0, step_size=1 / steps, steps=steps, save_every=steps // 2)
        gaps.append(gflow.compare(path, gd).largest)
    assert 1.9 <= gaps[0] / gaps[1] <= 2.1
