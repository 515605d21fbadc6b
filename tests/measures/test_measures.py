"""Every measure against an independent computation."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

import gflow
from gflow.errors import InputError
from gflow.measures import measures
from tests.helpers import randn, relative

CLASSES = torch.tensor([0, 1, 2, 2, 1, 0, 1])
X, X_TEST, CLASSES_TEST = randn(7, 3, seed=1), randn(5, 3, seed=2), torch.tensor([0, 2, 2, 1, 0])
ALL = ["kernel_distance", "kernel_velocity", "kernel_alignment", "kernel_start_alignment",
       "hessian_eigenvalues:3", "eigenvalues_above:0.02", "effective_ranks"]  # fmt: skip


def module_of(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)).double()


def classifier(**keywords):
    test = (X_TEST, CLASSES_TEST)
    return gflow.NetworkFlow(
        module_of(), nn.functional.cross_entropy, X, CLASSES, test=test, **keywords
    )


def outputs_at(flow, y, inputs=X):
    return functional_call(flow.module, flow.parameters_dict(y), (inputs,))


def jacobian(flow, y):
    """∂u/∂θ, (n, k, p), from autograd alone."""
    return torch.autograd.functional.jacobian(lambda s: outputs_at(flow, s), y)


def share_correct(outputs, classes):
    rows = zip(outputs.tolist(), classes.tolist(), strict=True)
    return sum(max(row) == row[c] for row, c in rows) / len(classes)


@pytest.fixture(scope="module")
def flow():
    return classifier(measure=ALL, weight_decay=0.1)


@pytest.fixture(scope="module")
def states(flow):
    return torch.stack([flow.pack(), flow.pack() + 0.3 * randn(31, seed=5)])


@pytest.fixture(scope="module")
def seen(flow, states):
    return flow.observables(states)


def test_losses_and_accuracies_are_those_of_plain_torch(flow, states, seen):
    for i, y in enumerate(states):
        u, v = outputs_at(flow, y), outputs_at(flow, y, X_TEST)
        expected = {
            "criterion_loss": nn.functional.cross_entropy(u, CLASSES),
            "loss": nn.functional.cross_entropy(u, CLASSES) + 0.05 * y @ y,
            "test_loss": nn.functional.cross_entropy(v, CLASSES_TEST),
            "accuracy": share_correct(u, CLASSES),
            "test_accuracy": share_correct(v, CLASSES_TEST),
            "margin": min(
                float(u[i, c] - max(u[i, j] for j in range(3) if j != c))
                for i, c in enumerate(CLASSES.tolist())
            ),
            "distance": ((y - flow.pack()) ** 2).sum().sqrt(),
        }
        for name, value in expected.items():
            assert float(seen[name][i]) == pytest.approx(float(value), rel=1e-12, abs=1e-14), name


def test_norms_and_ranks_of_layers(flow, states, seen):
    for i, y in enumerate(states):
        named = flow.parameters_dict(y)
        norms = [float((p**2).sum() ** 0.5) for p in named.values()]
        assert seen["layer_norms"][i].tolist() == pytest.approx(norms, rel=1e-13)
        weights = named["0.weight"], named["2.weight"]
        for W, rank in zip(weights, seen["effective_ranks"][i], strict=True):
            shares = torch.linalg.eigvalsh(W @ W.mT).clamp_min(0).sqrt()
            shares = shares[shares > 1e-7] / shares.sum()
            assert float(rank) == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())))


def test_gradient_norm_and_hessian_are_those_of_autograd(flow, states, seen):
    for i, y in enumerate(states):

        def loss(s):
            return nn.functional.cross_entropy(outputs_at(flow, s), CLASSES) + 0.05 * s @ s

        gradient = torch.autograd.functional.jacobian(loss, y)
        assert float(seen["gradient_norm"][i]) == pytest.approx(float(gradient.norm()), rel=1e-12)
        full = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, y)).flip(0)
        assert relative(seen["hessian_eigenvalues"][i], full[:3]) <= 1e-10
        above = seen["eigenvalues_above"][i]
        expected = full[full > 0.02][:20]
        assert relative(above[: len(expected)], expected) <= 1e-10
        assert torch.isnan(above[len(expected) :]).all()


def test_spectral_density_has_the_moments_of_the_full_hessian(states):
    flow = classifier(measure=["spectral_density:6"])
    seen = flow.observables(states)["spectral_density"]
    assert seen.shape == (len(states), 2, 10, 6)
    noise = torch.Generator().manual_seed(0)
    probes = torch.randn(10, states.shape[1], generator=noise, dtype=torch.float64)
    probes = probes / probes.norm(dim=1, keepdim=True)
    for y, (nodes, weights) in zip(states, seen, strict=True):
        H = torch.autograd.functional.hessian(flow.loss, y)
        for power in range(1, 12):  # 2m − 1
            moved = probes @ torch.linalg.matrix_power(H, power)
            expected = (moved * probes).sum(1)
            assert relative((weights * nodes**power).sum(1), expected) <= 1e-10


def test_a_network_smaller_than_the_steps_has_all_of_its_spectrum():
    module = nn.Linear(2, 1, bias=False).double()
    X, Y = torch.eye(2).double(), torch.zeros(2, 1).double()
    flow = gflow.NetworkFlow(module, nn.functional.mse_loss, X, Y, measure="spectral_density")
    nodes, weights = flow.observables(flow.pack())["spectral_density"]  # H = 1
    assert nodes.shape == (10, 2)
    assert torch.allclose(nodes[:, 0], torch.ones(10).double())
    assert torch.isnan(nodes[:, 1]).all()
    assert weights.tolist() == [[1.0, 0.0]] * 10


def test_kernel_measures_are_those_of_the_full_jacobian(flow, states, seen):
    Y = nn.functional.one_hot(CLASSES).double()
    for suffix in ("", ":full"):
        J = [jacobian(flow, y) for y in states]
        if suffix:
            H = [j.flatten(0, 1) @ j.flatten(0, 1).mT for j in J]
            target = Y.flatten()[:, None] @ Y.flatten()[None]
            names = [f"kernel_{what}{suffix}" for what in ("distance", "alignment")]
            measured = classifier(measure=[*names, "kernel_start_alignment:full"])
            found = measured.observables(states)
        else:
            H = [torch.einsum("iop,jop->ij", j, j) / 3 for j in J]
            target, found = Y @ Y.mT, seen
        for i in range(2):
            expected = {
                "kernel_distance": (H[i] - H[0]).norm() / H[0].norm(),
                "kernel_alignment": (H[i] * target).sum() / (H[i].norm() * target.norm()),
                "kernel_start_alignment": (H[i] * H[0]).sum() / (H[i].norm() * H[0].norm()),
            }
            for name, value in expected.items():
                assert float(found[name][i]) == pytest.approx(float(value), rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("suffix", ["", ":full"])
def test_velocity_of_the_kernel_is_that_of_the_full_second_derivative(states, suffix):
    rates = {"0": 4.0}
    flow = classifier(
        measure=f"kernel_velocity{suffix}", weight_decay=0.1, rates=rates,
        penalty=lambda q: q["2.weight"].square().sum() ** 2,
    )  # fmt: skip
    for y in states:
        J, moves = jacobian(flow, y), torch.zeros(7, 3, 31, dtype=torch.float64)
        for i in range(7):
            for o in range(3):
                H = torch.autograd.functional.hessian(
                    lambda s, i=i, o=o: outputs_at(flow, s)[i, o], y
                )
                moves[i, o] = H @ flow(0.0, y)
        rows, changes = (x.flatten(0, 1) if suffix else x.flatten(1) for x in (J, moves))
        expected = (changes @ rows.mT + rows @ changes.mT).norm() / (rows @ rows.mT).norm()
        found = flow.observables(y)["kernel_velocity"]
        assert float(found) == pytest.approx(float(expected), rel=1e-10)


def test_chunks_and_ensembles_measure_the_same(flow, states, seen):
    split = classifier(measure=ALL, weight_decay=0.1, chunk=3).observables(states[None])
    for name, value in seen.items():
        assert split[name].shape == (1, *value.shape)
        assert torch.allclose(split[name][0], value, rtol=1e-9, atol=1e-12, equal_nan=True), name


def test_time_scales_are_in_the_eigenvalues_and_not_in_the_gradient():
    scaled, plain = (
        classifier(rates=rates, measure="hessian_eigenvalues:2") for rates in ({"0": 4.0}, None)
    )
    y = plain.pack()
    found, other = scaled.observables(y), plain.observables(y)
    assert float(found["gradient_norm"]) == pytest.approx(float(other["gradient_norm"]), rel=1e-13)
    H = -torch.autograd.functional.jacobian(lambda s: plain(0.0, s), y)
    size = scaled.parameter_rates.sqrt()
    expected = torch.linalg.eigvalsh(size[:, None] * H * size).flip(0)[:2]
    assert relative(found["hessian_eigenvalues"], expected) <= 1e-10


def test_users_own_measures_are_functions_of_one_state():
    def largest_weight(flow, y):
        return y.abs().max()

    flow = classifier(measure=[largest_weight, {"pair": lambda flow, y: y[:2]}, "kernel-distance"])
    path = gflow.integrate(flow, flow.pack(), [0.0, 1.0])
    seen = path.observables()
    assert torch.equal(seen["largest_weight"], path.ys.abs().amax(1))
    assert torch.equal(seen["pair"], path.ys[:, :2])
    assert float(seen["kernel_distance"][0]) == 0 < float(seen["kernel_distance"][1])
    ds = path.to_dataset()
    assert ds["layer_norms"].dims == ("time", "parameter")
    assert ds["parameter"].values.tolist() == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert ds["pair"].dims == ("time", "pair_entry")


def test_descent_and_central_flow_are_measured_alike():
    flow = classifier(measure="kernel_distance")
    descent = gflow.descend(flow, flow.pack(), 0.1, 2)
    seen = flow.observables(descent.ys)
    for values in (descent.observables(), gflow.CentralFlow(flow, 0.1).observables(descent.ys)):
        assert seen.keys() <= values.keys()
        assert all(torch.equal(seen[name], values[name]) for name in seen)


@pytest.mark.parametrize(
    ("targets", "outputs", "criterion", "expected"),
    [
        (torch.tensor([1.0, 0, 1, 1, 0, 0, 1]), 1, "logistic", "binary"),
        (2 * torch.tensor([[1.0], [0], [1], [1], [0], [0], [1]]).double() - 1, 1, None, "sign"),
        (nn.functional.one_hot(CLASSES).double(), 3, None, "one-hot"),
        (randn(7, 3, seed=3), 3, None, None),
        (randn(7, 1, seed=3), 1, None, None),
    ],
)
def test_which_targets_are_classes(targets, outputs, criterion, expected):
    criterion = criterion or nn.functional.mse_loss
    flow = gflow.NetworkFlow(module_of(outputs), criterion, X, targets)
    seen = flow.observables(flow.pack())
    if expected is None:
        assert flow.classes is None
        assert not {"accuracy", "margin"} & seen.keys()
        return
    assert flow.classes.kind == expected
    u = outputs_at(flow, flow.pack())
    if outputs == 1:
        side = (
            u.flatten() * targets.flatten().sign()
            if expected == "sign"
            else (u.flatten() * (2 * targets - 1))
        )
        assert float(seen["accuracy"]) == float((side > 0).double().mean())
        assert float(seen["margin"]) == pytest.approx(float(side.min()), rel=1e-14)
    else:
        assert float(seen["accuracy"]) == float((u.argmax(1) == CLASSES).double().mean())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"measure": "kernel_distanc"}, "did you mean kernel_distance"),
        ({"measure": [lambda f, y: 1, lambda f, y: 2]}, "its own name, got two of 'lambda'"),
        ({"measure": {"loss": lambda f, y: 1}}, "a name of its own, got 'loss'"),
        ({"measure": {"margin": lambda f, y: 1}}, "a name of its own, got 'margin'"),
        ({"measure": {"mine": 3}}, "must be a name, or a function"),
        ({"measure": "x"}, "there is no measure 'x'; take one of accuracy"),
        ({"measure": 3}, "measure must be names of measures, or functions, got 3"),
        ({"measure": [3]}, "must be a name, or a function"),
        ({"measure": "distance:2"}, "distance takes nothing behind its name"),
        ({"measure": "kernel_distance:2"}, "kernel_distance takes :full behind its name"),
        ({"measure": "hessian_eigenvalues:0"}, "k of hessian_eigenvalues must be a whole number"),
        ({"measure": "eigenvalues_above"}, "needs a threshold"),
        ({"measure": "eigenvalues_above:much"}, "must be a number, got 'much'"),
        ({"measure": "eigenvalues_above:nan"}, "must be finite, got NaN"),
        ({"measure": "criterion_loss"}, "needs weight decay or a penalty"),
        ({"test": X_TEST}, "test must be a pair"),
        ({"test": (X_TEST[:, :2], CLASSES_TEST)}, "of the held-out data: module.inputs. fails"),
        ({"test": (X_TEST, CLASSES_TEST[:2])}, "of the held-out data: inputs and targets must"),
        ({"test": (X_TEST.numpy(), CLASSES_TEST)}, "test inputs must be a tensor"),
    ],
)
def test_what_cannot_be_measured_is_refused_where_the_flow_is_made(keywords, message):
    with pytest.raises(InputError, match=message):
        gflow.NetworkFlow(module_of(), nn.functional.cross_entropy, X, CLASSES, **keywords)


def test_a_measure_has_one_shape():
    flow = classifier(measure={"positive": lambda flow, y: y[y > 0]})
    states = torch.stack([torch.ones(31), torch.zeros(31)]).double()
    with pytest.raises(
        InputError, match=r"positive must return the same shape .* \(0,\) and \(31,\)"
    ):
        flow.observables(states)


def test_samples_that_the_criterion_leaves_out_make_no_accuracy():
    targets = torch.where(CLASSES == 2, -100, CLASSES)
    flow = gflow.NetworkFlow(module_of(), nn.functional.cross_entropy, X, targets)
    assert not {"accuracy", "margin"} & flow.observables(flow.pack()).keys()


def test_a_loss_of_the_parameters_alone_has_observables():
    class Bowl(nn.Module):
        def __init__(self):
            super().__init__()
            self.at = nn.Parameter(torch.ones(2).double())

        def forward(self, x):
            return (self.at**2).sum()

    flow = gflow.NetworkFlow(Bowl(), lambda u, t: u, X, X)
    seen = flow.observables(flow.pack())
    assert float(seen["loss"]) == 2.0
    assert set(seen) == {"loss", "gradient_norm", "distance", "layer_norms"}


def test_held_out_data_are_needed_for_their_measures():
    with pytest.raises(InputError, match=r"measure test_loss needs held-out data"):
        gflow.NetworkFlow(module_of(), nn.functional.cross_entropy, X, CLASSES, measure="test_loss")


def test_every_measure_says_what_it_is_and_what_it_costs():
    for name, kind in measures().items():
        assert name == kind.name == name.lower()
        assert kind.long_name
        assert kind.price


def test_eigenvalues_that_are_equal_are_all_found():
    """Of ½ tr(WᵀWC) with C = XᵀX/n each eigenvalue of C is there once for each row of W."""
    module = nn.Linear(3, 6, bias=False).double()
    criterion = lambda u, t: 0.5 * u.square().sum(1).mean()  # noqa: E731
    values = torch.linalg.eigvalsh(X.mT @ X / len(X)).flip(0)
    between = float(values[1:].mean())
    measure = ["hessian_eigenvalues:14", f"eigenvalues_above:{between}"]
    flow = gflow.NetworkFlow(module, criterion, X, X, measure=measure)
    seen = flow.observables(torch.stack([flow.pack(), 0.5 * flow.pack()]))
    every = values.repeat_interleave(6)
    for i in range(2):
        assert relative(seen["hessian_eigenvalues"][i], every[:14]) <= 1e-9
        above = seen["eigenvalues_above"][i]
        assert int((~torch.isnan(above)).sum()) == 12
        assert relative(above[:12], every[:12]) <= 1e-9
