"""Named criteria against torch's and against many digits, where torch's underflow."""

import math

import mpmath
import pytest
import torch
from torch.nn import functional

import gflow
from gflow.errors import InputError
from gflow.flows.objective.criteria import named_criterion
from tests.helpers import randn, relative

LABELS = torch.tensor([0, 1, 1, 0, 1])


def test_values_are_those_of_torch():
    z, classes = randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    entropy = named_criterion("cross-entropy", classes)
    assert relative(entropy(z, classes), functional.cross_entropy(z, classes)) <= 1e-14
    assert relative(entropy.log(z, classes), entropy(z, classes).log()) <= 1e-14
    truth = functional.binary_cross_entropy_with_logits(z[:, 0], LABELS.double())
    logistic, exponential = (named_criterion(n, LABELS) for n in ("logistic", "exponential"))
    for outputs in (z[:, 0], z[:, :1]):
        for labels in (LABELS, LABELS.double()[:, None]):
            assert relative(logistic(outputs, labels), truth) <= 1e-14
            assert relative(logistic.log(outputs, labels), truth.log()) <= 1e-14
    signed = (2 * LABELS - 1) * z[:, 0]
    assert relative(exponential(z[:, 0], LABELS), (-signed).exp().mean()) <= 1e-14
    assert torch.equal(logistic.margins(z[:, 0], LABELS), signed)
    own = z[torch.arange(5), classes]
    others = torch.stack(
        [z[i, [j for j in range(3) if j != c]].max() for i, c in enumerate(classes.tolist())]
    )
    assert relative(entropy.margins(z, classes), own - others) <= 1e-15


@pytest.mark.parametrize("size", [1.0, 20.0, 31.0, 700.0, 1e5])
def test_logarithms_and_slopes_do_not_underflow(size):
    """log φ and its gradient by 60 digits, at margins up to 1e5."""
    z = size * torch.tensor([1.0, 1.1, 1.5, 1.2, 1.3], dtype=torch.float64)
    outputs = ((2 * LABELS - 1) * z).requires_grad_()
    value = named_criterion("logistic", LABELS).log(outputs, LABELS)
    (slope,) = torch.autograd.grad(value, outputs)
    with mpmath.workdps(60):
        terms = [mpmath.log1p(mpmath.exp(-mpmath.mpf(x))) for x in z.tolist()]
        truth = mpmath.log(mpmath.fsum(terms) / 5)
        total = mpmath.fsum(terms)
        slopes = [
            (1 - 2 * y) * mpmath.exp(-mpmath.mpf(x)) / (1 + mpmath.exp(-mpmath.mpf(x))) / total
            for x, y in zip(z.tolist(), LABELS.tolist(), strict=True)
        ]
    assert value.item() == pytest.approx(float(truth), rel=1e-14)
    assert relative(slope, torch.tensor([float(s) for s in slopes], dtype=torch.float64)) <= 1e-12


def test_the_loss_itself_keeps_its_digits_to_the_smallest_numbers():
    module = torch.nn.Linear(1, 2, bias=False).double()
    X = torch.ones(1, 1, dtype=torch.float64)
    flow = gflow.NetworkFlow(module, "cross-entropy", X, torch.tensor([0]))
    state = torch.tensor([300.0, -300.0], dtype=torch.float64)
    assert float(flow.loss(state)) == pytest.approx(math.exp(-600), rel=1e-13)
    assert flow(0.0, state).tolist() == pytest.approx([math.exp(-600), -math.exp(-600)], rel=1e-12)
    ensemble = torch.stack([state, 0.5 * state])
    assert flow.loss(ensemble).log().tolist() == pytest.approx([-600.0, -300.0], rel=1e-13)


@pytest.mark.parametrize("name", ["logistic", "exponential"])
def test_the_smoothed_margin_is_that_of_one_sample(name):
    """With one sample it is the margin itself."""
    criterion, label = named_criterion(name, LABELS), torch.tensor([1])
    for margin in (0.3, 5.0, 29.0, 31.0, 900.0):
        z = torch.tensor([margin], dtype=torch.float64)
        smoothed = criterion.smoothed_margin(criterion.log(z, label), 1)
        assert float(smoothed) == pytest.approx(margin, rel=1e-10)


@pytest.mark.parametrize(
    ("criterion", "module", "targets", "message"),
    [
        ("crossentropy", 2, LABELS, "did you mean cross-entropy"),
        ("hinge", 2, LABELS, "one of cross-entropy, logistic, exponential, or a function"),
        ("logistic", 1, 2 * LABELS - 1, r"labels 0 and 1, got \[-1, 1\]; from ±1"),
        ("logistic", 2, LABELS, 'for several outputs use "cross-entropy"'),
        ("cross-entropy", 1, LABELS, 'for one output use "logistic"'),
        ("cross-entropy", 2, LABELS.double(), "classes as whole numbers"),
    ],
)
def test_names_and_shapes_are_checked(criterion, module, targets, message):
    linear = torch.nn.Linear(3, module).double()
    with pytest.raises(InputError, match=message):
        gflow.NetworkFlow(linear, criterion, randn(5, 3), targets)


@pytest.mark.parametrize("name", ["logistic", "cross-entropy"])
@pytest.mark.parametrize("samples", [1, 500, 10**3, 10**6])
def test_the_smoothed_margin_of_many_samples_is_right_at_large_losses(name, samples):
    criterion = named_criterion(name, torch.zeros(1, dtype=torch.int64))
    for loss in (1e-9, 1e-3, math.log(2), 1e2):
        x = samples * loss
        truth = x + math.log1p(-math.exp(-x)) if x > 1 else math.log(math.expm1(x))
        found = criterion.smoothed_margin(torch.tensor(loss, dtype=torch.float64).log(), samples)
        assert float(found) == pytest.approx(-truth, rel=1e-9, abs=1e-12)
