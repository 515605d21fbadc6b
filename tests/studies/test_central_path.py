"""The path of a central flow against an adaptive solver and closed forms."""

import itertools

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import CentralFlow
from gflow.studies.central_path import central_path
from tests.helpers import relative
from tests.valleys import STEP, eigenvalues, valley


@pytest.mark.slow
def test_path_is_of_first_order():
    flow, y0 = valley((80.0, 70.0), (150.0, 120.0))
    central = CentralFlow(flow, STEP, rate=20.0)
    ts = [0.0, 0.3, 0.6]
    truth = gflow.integrate(central, y0, ts, "dopri5", 1e-10, 1e-10).ys
    errors = []
    for step in (0.02, 0.01, 0.005):
        path = central_path(central, y0, ts, step)
        errors.append(float((path.ys - truth).norm()))
    assert errors[-1] < 1e-2 * float(truth.norm())
    assert all(1.7 <= a / b <= 2.4 for a, b in itertools.pairwise(errors)), errors


def test_measurements_are_the_observables_of_the_states():
    flow, y0 = valley((80.0, 70.0), (150.0, 120.0))
    central = CentralFlow(flow, STEP)
    path = central_path(central, y0, [0.0, 0.5, 2.0])
    observables = central.observables(path.ys)
    assert relative(path.losses, observables["loss"]) <= 1e-14
    assert relative(path.variances, observables["variance"]) <= 1e-12
    assert relative(path.averaged_losses, observables["averaged_loss"]) <= 1e-12
    assert path.ranks.tolist() == [0, 1, 2]
    assert relative(path.sharpness, eigenvalues(path.ys).amax(1)) <= 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"y0": valley((101.0, 70.0))[1]},
            "sharpness at the start must be below the edge, 2/η = 100, got",
        ),
        ({"ts": [0.0, 1.0, 1.0]}, "ts must be strictly increasing"),
        ({"ts": []}, "ts must hold at least one number"),
        ({"step": 1.0}, "step must be positive and at most 1/rate = 0.04, got 1.0"),
        ({"y0": torch.stack([valley()[1]] * 2)}, "a central path takes one start"),
    ],
)
def test_input_errors(change, message):
    flow, y0 = valley()
    good = {"flow": CentralFlow(flow, STEP), "y0": y0, "ts": [0.0, 1.0]}
    with pytest.raises(InputError, match=message):
        central_path(**(good | change))
