"""Calls as people write them: they work, or one line says what to write.

Each row is a function, its arguments, and a word of the message; of other errors than InputError
none passes.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import gflow
from gflow import events, kernels, losses, spectra, studies
from gflow.data import load
from gflow.errors import InputError
from gflow.preparation import one_hot, standardise, subset
from gflow.studies import central_path, edge_of_stability, flow_and_descent, width_study
from tests.helpers import randn, relative, times

FLOW, U = gflow.FactorFlow.example()
LINE = gflow.KernelFlow(torch.eye(1).double(), torch.ones(1).double())
X, Y, M = randn(6, 3), randn(6, 2), torch.eye(2).double()
LOSS = losses.SquaredDistance(M)
PATH, GD = gflow.integrate(FLOW, U, [0.0, 0.1]), gflow.descend(FLOW, U, 0.1, 1)
CENTRAL = gflow.CentralFlow(FLOW, 0.01)
STUDY = gflow.step_size_study

REFUSED = [
    # swapped arguments
    (gflow.integrate, (U, FLOW, [0.0, 1.0]), "write gflow.integrate(flow, y0, ts)"),
    (gflow.integrate, (FLOW, [0.0, 1.0], U), "ts must have one dimension"),
    (gflow.descend, (U, FLOW, 0.1, 3), "write gflow.descend(flow, y0, step_size, steps)"),
    (gflow.descend, (FLOW, U, 10, 0.1), "steps must be a whole number of at least 0, got 0.1"),
    (gflow.compare, (GD, PATH), "write gflow.compare(gflow.integrate(...), gflow.descend(...))"),
    (gflow.compare, (PATH, FLOW), "got Trajectory and FactorFlow"),
    (STUDY, (FLOW, U, [0.1, 0.2], 1.0), "step_sizes must be a sequence of numbers, got 1.0"),
    # numbers where sequences are needed, and the reverse
    (
        gflow.integrate,
        (FLOW, U, 5.0),
        "ts must be a sequence of numbers, got 5.0; write [0.0, 5.0]",
    ),
    (gflow.integrate, (FLOW, U, np.ones((2, 2))), "an array of shape (2, 2); flatten it"),
    (gflow.integrate, (FLOW, U, "0 1"), "ts must be a sequence of numbers, got '0 1'"),
    (gflow.integrate, (FLOW, U, [0.0, "1"]), "each of ts must be a number, got '1'"),
    (gflow.integrate, (FLOW, U, []), "ts must hold at least one number"),
    (gflow.descend, (FLOW, U, [0.1], 3), "step_size must be a positive number, got [0.1]"),
    (STUDY, (FLOW, U, 1.0, 0.1), "step_sizes must be a sequence of numbers, got 0.1; write [0.1]"),
    (studies.oscillating_descent, (FLOW, U, 0.1, 4), "steps must be a sequence of numbers"),
    (central_path, (CENTRAL, U, 1.0), "write [0.0, 1.0]"),
    (width_study, (X, Y, 4, [0], 2), "widths must be a sequence of numbers, got 4; write [4]"),
    (gflow.LayerwiseFlow, (LOSS, 2), "write [d_0, ..., d_N], such as [3, 2, 1]"),
    (LINE.predict, (1.0, torch.zeros(1).double()), "write [0.0, 1.0]"),
    (LINE.exact, (1.0, torch.zeros(1).double()), "write [0.0, 1.0]"),
    (LINE.exact_descent, (3, torch.zeros(1).double(), 0.1), "write [3]"),
    # numbers that are none
    (
        gflow.descend,
        (FLOW, U, 0.1, math.nan),
        "steps must be a whole number of at least 0, got nan",
    ),
    (gflow.descend, (FLOW, U, 0.1, 10**12), "take too much memory; save at most 1e+07 of them, by"),
    (gflow.descend, (FLOW, U, 0.1, 10**12, 10**9), "steps must be at most 1e+08 where descent has"),
    (gflow.descend, (LINE, torch.zeros(1).double(), 0.1, 10**30), "steps must be at most 2^53, go"),
    (gflow.descend, (FLOW, U, True, 3), "step_size must be a positive number, got True"),
    (gflow.descend, (FLOW, U, "0.1", 3), "step_size must be a positive number, got '0.1'"),
    (gflow.descend, (FLOW, U, 0.1, None), "steps must be a whole number of at least 0, got None"),
    (STUDY, (FLOW, U, math.inf, [0.1, 0.2]), "t_end must be a positive number, got inf"),
    (STUDY, (FLOW, U, None, [0.1, 0.2]), "t_end must be a positive number, got None"),
    (edge_of_stability, (FLOW, U, -1.0), "t_end must be a positive number, got -1.0"),
    (flow_and_descent, (FLOW, U, 1.0, [0.1, "a"]), "each of step_sizes must be a number, got 'a'"),
    (gflow.EndToEndFlow, (LOSS, 2.5), "depth must be a whole number of at least 1, got 2.5"),
    (
        gflow.EndToEndFlow,
        (LOSS, 2, "full"),
        "rank must be a whole number of at least 0, got 'full'",
    ),
    (gflow.ModifiedFlow, (FLOW, None), "step_size must be a positive number, got None"),
    (events.loss_reaches, (FLOW, "low"), "value must be a number, got 'low'"),
    (events.rank_reaches, (FLOW, 0, 0.1), "rank must be a whole number of at least 1, got 0"),
    (spectra.sharpness, (FLOW, U, 0), "k must be a whole number of at least 1, got 0"),
    # tensors
    (
        gflow.integrate,
        (FLOW, U.tolist(), [0, 1]),
        "a state must be a floating-point tensor, got li",
    ),
    (gflow.integrate, (FLOW, U.long(), [0, 1]), "got torch.int64; use x.double()"),
    (gflow.integrate, (FLOW, U.long().numpy(), [0, 1]), "got int64; use x.astype(float)"),
    (gflow.integrate, (FLOW, U.float().numpy(), [0, 1]), "must have the dtype and device of"),
    (gflow.integrate, (FLOW, U.to_sparse(), [0, 1]), "got a sparse one; use x.to_dense()"),
    (
        gflow.integrate,
        (FLOW, None, [0, 1]),
        "a state must be a floating-point tensor, got NoneType",
    ),
    (losses.LinearRegression, (X.float(), Y), "targets must have the dtype and device of inputs"),
    (losses.LinearRegression, (X, Y[:, 0]), "reshape it, one column by targets[:, None]"),
    (losses.LinearRegression, (X, Y[:3]), "one row a sample, got 6 and 3 rows"),
    (
        losses.MatrixSensing,
        (M[None], torch.ones(1)),
        "values must have the dtype and device of meas",
    ),
    (losses.MatrixCompletion, (M, [[1, 1], [1, 1]]), "mask must be a tensor of numbers"),
    (losses.SquaredDistance, (M.long(),), "target must be a floating-point tensor"),
    (gflow.KernelFlow, (torch.ones(3, 4), torch.ones(3)), "H must be a square matrix, got (3, 4)"),
    (gflow.KernelFlow, (torch.nn.Linear(3, 3), torch.ones(3)), "use gflow.kernels.empirical_ntk"),
    (gflow.KernelFlow, (lambda v: v[:1], torch.ones(3)), "H v of the same shape"),
    (
        gflow.TwoLayerFlow,
        (X, Y, torch.ones(4, 2)),
        "signs must have the dtype and device of inputs",
    ),
    (spectra.sharpness, (FLOW, torch.stack([U, U])), "takes one start, got an ensemble"),
    (spectra.sharpness_along, (FLOW, U), "a state of FactorFlow has shape"),
    (spectra.effective_rank, ([1.0, 2.0],), "singular values must be a floating-point tensor"),
    (kernels.ntk, (X.tolist(),), "x1 must be a floating-point tensor, got list"),
    (kernels.ntk, (X[0],), "x1 must have shape (n, d), got (3,)"),
    (kernels.conv_ntk, (X,), "x1 must have shape (n, C, H, W), got (6, 3)"),
    (kernels.two_layer_relu_gram, (X, X.float()), "x1 and x2 must share dtype and device"),
    (kernels.empirical_ntk, (FLOW, X), "module must be a torch.nn.Module, got FactorFlow"),
    (kernels.empirical_ntk, (torch.nn.Linear(2, 1).double(), X), "cannot be called on the points"),
    (gflow.integrate, (FLOW, U.to("meta"), [0, 1]), "a state must have values, got a tensor on"),
    (
        gflow.integrate,
        (FLOW, np.ma.masked_less(U.numpy(), 0), [0, 1]),
        "an array with 6 masked ones; fill",
    ),
    (gflow.integrate, (FLOW, U, torch.ones(2, device="meta")), "got one on the device meta"),
    (gflow.integrate, (FLOW, U, torch.arange(2.0).to_sparse()), "got a sparse one; convert it"),
    (gflow.descend, (FLOW, U.to("meta"), 0.1, 3), "a state must have values, got a tensor on"),
    (losses.SquaredDistance, (M.to("meta"),), "target must have values, got a tensor on"),
    (kernels.ntk, (X.to("meta"),), "x1 must have values, got a tensor on the device meta"),
    (events.loss_reaches, (FLOW, math.nan), "value must be a number that can be reached, got NaN"),
    (gflow.flow_from_loss, (lambda w, x: w,), "called as loss_function(y), but missing a required"),
    (
        gflow.flow_from_loss,
        (abs, {"a": lambda: 0}),
        "as function(y), but too many positional",
    ),
    # names, data and paths
    (central_path, (FLOW, U, [0.0, 1.0]), "write CentralFlow(flow, step_size)"),
    (load, (3,), "data must be a name or a path, got int"),
    (subset, ("iris",), "data must be a data set, got 'iris'; load one by gflow.data.load(name)"),
    (one_hot, (Y,), "data must be a data set, got a tensor of shape (6, 2)"),
    (standardise, (X,), "must be a NumPy array of numbers, got Tensor"),
    (gflow.load_run, (3,), "a path must be a string or a pathlib.Path, got int"),
    (gflow.load_run, ("",), "a path must not be empty"),
    (gflow.load_sweep, (None,), "a path must be a string or a pathlib.Path, got NoneType"),
    (gflow.load_run, (Path("no/such/run"),), "no run at no/such/run"),
]


@pytest.mark.parametrize(("function", "arguments", "word"), REFUSED)
def test_a_call_that_cannot_work_is_refused_in_one_line(function, arguments, word):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "word"),
    [
        (U.tolist(), "a state must be a floating-point tensor, got list; use torch.tensor"),
        (U.numpy(), "a state must be a tensor, got an array of shape (4, 3); use torch.from_numpy"),
        (None, "a state must be a floating-point tensor, got NoneType"),
        (U.long(), "got torch.int64; use x.double()"),
        (U[:3], "a state of FactorFlow has shape (..., 4, any), got (3, 3)"),
    ],
)
@pytest.mark.parametrize("method", ["reference", "jvp", "observables"])
def test_methods_of_what_is_no_state_say_so(method, y, word):
    arguments = (y, y) if method == "jvp" else (y,)
    with pytest.raises(InputError) as caught:
        getattr(FLOW, method)(*arguments)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_failures_at_a_state_are_the_methods_own():
    class Broken(gflow.flows.ParameterFlow):
        state_shape = (1,)

        def loss(self, y):
            return y.nothing

        def __call__(self, t, y):
            raise ValueError("not today")

    with pytest.raises(AttributeError, match="nothing"):
        Broken().loss(torch.ones(1))
    with pytest.raises(ValueError, match="not today"):
        Broken()(0.0, torch.ones(1))


class Careless(gflow.flows.ParameterFlow):
    """Its loss changes the state."""

    state_shape = (2,)

    def loss(self, y):
        return y.mul_(2).square().sum(-1)

    def __call__(self, t, y):
        return -8 * y


def test_a_state_that_a_loss_or_an_event_changes_is_refused():
    with pytest.raises(InputError, match=r"loss\(y\) .* must not change y"):
        gflow.integrate(Careless(), torch.ones(2), [0.0, 1.0])
    start = U.clone()
    with pytest.raises(InputError, match=r"until\(y\) must not change y"):
        gflow.integrate(FLOW, start, [0.0, 1.0], until=lambda y: y.mul_(2).square().sum())
    assert torch.equal(start, U)


@pytest.mark.parametrize(
    ("keywords", "word"),
    [
        ({"rtol": "1e-6"}, "rtol must be a number, got '1e-6'"),
        ({"rtol": math.nan}, "rtol must be positive and atol at least 0"),
        ({"method": 5}, "method must be a name, such as 'auto', got 5"),
        ({"method": "RK45"}, "got 'RK45'; did you mean 'scipy:RK45'?"),
        ({"method": "DOPRI5"}, "got 'DOPRI5'; did you mean 'dopri5'?"),
        ({"options": {"rtol": 1e-3}}, "options must be SolveOptions"),
        ({"max_evals": None, "step_size": -1}, "step_size must be a positive number, got -1"),
        ({"estimate_error": "yes"}, "estimate_error must be True or False, got 'yes'"),
        ({"dense": 1}, "dense must be True or False, got 1"),
        ({"progress": 3}, "progress must be a function, called as progress(t, loss), got 3"),
        ({"sharpness": -1}, "sharpness must be a whole number of at least 0, got -1"),
        ({"until": 0.1}, "until must be a function, called as until(y), got 0.1"),
        (
            {"until": lambda y: y},
            "until(y) must return a floating-point tensor, one number for each",
        ),
        ({"until": lambda y: float(y.sum())}, "until(y) must return a floating-point tensor"),
        ({"until": lambda y: y.sum() > 0}, "got False of torch.bool; it is positive until"),
        ({"until": lambda y: y.sum() * math.nan}, "got nan of torch.float64; it is positive until"),
        ({"checkpoint_every": math.nan}, "checkpoint_every must be at least 0 seconds, got nan"),
        ({"until": lambda: 0}, "called as until(y), but too many positional arguments; change its"),
        (
            {"progress": lambda t: 0},
            "called as progress(t, loss), but too many positional",
        ),
        (
            {"checkpoint": lambda: 0},
            "called as checkpoint(state), but too many positional",
        ),
        ({"resume": "checkpoint.pt"}, "resume must be a Checkpoint, got 'checkpoint.pt'"),
        ({"checkpoint_every": "60"}, "checkpoint_every must be a number, got '60'"),
    ],
)
def test_keywords_of_a_solve_are_checked(keywords, word):
    with pytest.raises(InputError) as caught:
        gflow.integrate(FLOW, U, [0.0, 0.1], **keywords)
    assert word in str(caught.value)


def test_numbers_of_numpy_and_tensors_of_one_number_work():
    options = {"rtol": np.float64(1e-6), "atol": torch.tensor(1e-9), "max_evals": np.int64(10**5)}
    path = gflow.integrate(FLOW, U.numpy(), np.array([0, 0.1]), sharpness=np.int64(1), **options)
    assert relative(path.ys, gflow.integrate(FLOW, U, [0.0, 0.1], sharpness=1).ys) <= 1e-14
    gd = gflow.descend(FLOW, U.numpy(), np.float64(0.1), np.int32(4), save_every=torch.tensor(2))
    assert gd.steps.tolist() == [0, 2, 4]
    assert gflow.descend(FLOW, U, 1e-1, 1e1).steps[-1] == 10
    assert gflow.EndToEndFlow(LOSS, np.int64(3)).depth == 3
    assert gflow.LayerwiseFlow(LOSS, np.array([2, 3, 2])).layer_dims == (2, 3, 2)
    study = STUDY(LINE, np.zeros(1), np.float64(1), np.array([0.1, 0.05, 0.025]), points=5)
    assert study.step_sizes == (0.1, 0.05, 0.025)


def test_arrays_of_numpy_work_as_data():
    loss = losses.LinearRegression(X.numpy(), Y.numpy())
    assert torch.equal(loss(Y.mT @ X), losses.LinearRegression(X, Y)(Y.mT @ X))
    mask = losses.MatrixCompletion(M.numpy(), np.array([[True, False], [False, True]]))
    assert mask.observed_count == 2
    H, y = (X @ X.mT).numpy(), Y[:, 0].numpy()
    flow = gflow.KernelFlow(H, y, H_test=H[:1])
    assert flow.predict(np.array([0.0, 1.0]), 0 * y, 0 * y[:1]).test.shape == (2, 1)
    assert relative(kernels.ntk(X.numpy()), kernels.ntk(X)) == 0
    start, fun = gflow.to_scipy(FLOW, U.numpy())[::-1]
    assert fun(0.0, start).shape == (U.numel(),)


VALLEY = torch.tensor([2.0, 0.1]).double()
OTHER = torch.ones(2).double().requires_grad_()


def straight_through(w):
    return ((w.round() - w).detach() + w).square().sum()


@pytest.mark.parametrize(
    ("loss", "word"),
    [
        (straight_through, "autograd gives 4 and differences of the loss 0; remove what cuts"),
        (lambda w: (w * w.detach()).sum(), "the gradient must be the slope of the loss"),
        (lambda w: w.sum() * w.sum().item(), "the gradient must be the slope of the loss"),
        (lambda w: (w.data * w).sum(), "the gradient must be the slope of the loss"),
        (lambda w: OTHER.square().sum(), "its result does not depend on the state"),
        (lambda w: torch.ones(()).double(), "its result does not depend on the state"),
        (lambda w: (w > 0).sum(), "must return the dtype and device of the state"),
        (lambda w: w.numpy().sum(), "loss_function at the start fails: RuntimeError"),
    ],
)
def test_losses_that_are_no_loss_are_refused(loss, word):
    for run in (gflow.integrate, lambda *args: gflow.descend(*args[:2], 0.1, 3)):
        with pytest.raises(InputError) as caught:
            run(gflow.flow_from_loss(loss), VALLEY, [0.0, 1.0])
        assert word in str(caught.value)


def test_a_loss_with_features_far_below_its_state_is_not_refused():
    flow = gflow.flow_from_loss(lambda w: torch.cos(1e3 * w[1]) + 0 * w[0])
    gflow.descend(flow, torch.tensor([1e2, 1e-3]).double(), 1e-7, 2)


@pytest.mark.parametrize(
    ("invariant", "word"),
    [
        (lambda w: w[1] > 0.3, "must return a tensor of the state's torch.float64, got torch.bool"),
        (lambda w: w[0] * torch.randn(()), "must depend on the state alone, but two calls differ"),
        (lambda w: 1.0, "must return a tensor of the state's torch.float64, got 1.0"),
    ],
)
def test_invariants_that_are_none_are_refused(invariant, word):
    flow = gflow.flow_from_loss(lambda w: w.square().sum(), {"a": invariant})
    with pytest.raises(InputError) as caught:
        gflow.integrate(flow, VALLEY, [0.0, 1.0])
    assert word in str(caught.value)


def test_a_stack_of_starts_without_a_shape_is_explained():
    flow = gflow.flow_from_loss(lambda w: (w[0] * w[1] - 1) ** 2)
    with pytest.raises(InputError, match=r"or pass shape= to gflow\.flow_from_loss if the start"):
        gflow.integrate(flow, torch.stack([VALLEY, 2 * VALLEY]), [0.0, 1.0])


class Bowl(gflow.flows.ParameterFlow):
    state_shape = (2,)

    def loss(self, y):
        return 0.5 * y.square().sum(-1)

    def __call__(self, t, y):
        return -y


class OwnProduct(Bowl):
    def jvp(self, y, v):
        return -v


class WrongProduct(Bowl):
    def jvp(self, y, v):
        return v


class Differentiates(Bowl):
    def __call__(self, t, y):
        y = y.detach().requires_grad_()
        return -torch.autograd.grad(self.loss(y).sum(), y)[0]


def test_products_of_flows_of_ones_own_are_checked():
    path = gflow.integrate(OwnProduct(), VALLEY, [0.0, 1.0], sharpness=1)
    assert relative(path.sharpness, torch.ones_like(path.sharpness)) <= 1e-9
    with pytest.raises(InputError, match=r"jvp\(y, v\) must be the derivative of the velocity"):
        gflow.integrate(WrongProduct(), VALLEY, [0.0, 1.0])
    with pytest.raises(InputError, match=r"do so within torch\.enable_grad\(\)"):
        gflow.integrate(Differentiates(), VALLEY, [0.0, 1.0])


def test_paths_from_different_starts_are_reported():
    path = gflow.integrate(LINE, torch.zeros(1).double(), [0.0, 0.5])
    with pytest.warns(UserWarning, match="start at different states, 1 apart; the gap includes"):
        gflow.compare(path, gflow.descend(LINE, torch.ones(1).double(), 0.5, 1))


def test_effective_rank_of_what_is_no_spectrum_is_nan():
    sigma = torch.tensor([[1.0, math.nan], [1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    assert relative(spectra.effective_rank(sigma)[2:], torch.tensor([0.0, 2.0])) <= 1e-6
    assert spectra.effective_rank(sigma)[:2].isnan().all()


def test_progress_true_prints_to_standard_error(capsys):
    gflow.integrate(FLOW, U, [0.0, 0.1], progress=True)
    gflow.descend(FLOW, U, 0.1, 2, progress=True)
    kernels.ntk(X, progress=True)
    assert capsys.readouterr().out == ""


def test_times_of_single_precision_are_those_of_descent():
    gd = gflow.descend(LINE, torch.zeros(1).double(), step_size=0.3, steps=10)
    for ts in (
        torch.arange(11) * 0.3,
        torch.linspace(0, 3, 11),
        np.float32(0.3) * np.arange(11, dtype=np.float32),
    ):
        path = gflow.integrate(LINE, torch.zeros(1).double(), ts)
        gap = gflow.compare(path, gd)
        assert len(gap.ts) == 11
        truth = (torch.exp(-gd.ts) - 0.7**gd.steps).abs()
        assert float((gap.end_to_end - truth).abs().max()) <= 1e-6


def test_few_shared_times_are_said():
    start = torch.zeros(1).double()
    gd = gflow.descend(LINE, start, step_size=0.3, steps=10)
    with pytest.warns(UserWarning, match="share only 2 times, of 14 and 11"):
        gap = gflow.compare(gflow.integrate(LINE, start, torch.linspace(0, 3, 14)), gd)
    assert gap.ts.tolist() == [0.0, 3.0]
    with pytest.raises(InputError, match="but have only the start itself"):
        gflow.compare(gflow.integrate(LINE, start, [0.0, 1.0, 2.0]), gd)
    nearest = gflow.compare(gflow.integrate(LINE, start, times(0.0, 0.3 - 1e-9, 0.3, 3.0)), gd)
    assert nearest.ts.tolist() == [0.0, 0.3, 3.0]


@pytest.mark.parametrize("state", [3, "y", None, [], torch.ones(2, dtype=torch.int64)])
def test_parameters_of_what_is_no_state_are_refused(state):
    flow, _ = gflow.NetworkFlow.example()
    with pytest.raises(gflow.InputError, match="a state must be a"):
        flow.parameters_dict(state)


@pytest.mark.parametrize("team", [3, "two", True, [], torch.ones(2)])
def test_what_is_no_team_is_refused(team):
    X, y = torch.eye(3, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    module = torch.nn.Linear(3, 1).double()
    message = "team must be a Team, got .*; take that of gflow.distributed.processes"
    with pytest.raises(gflow.InputError, match=message):
        gflow.NetworkFlow(module, torch.nn.functional.mse_loss, X, y, team=team)
    with pytest.raises(gflow.InputError, match=message):
        gflow.KernelFlow.from_kernel(gflow.kernels.two_layer_relu_gram, X, y, team=team)
