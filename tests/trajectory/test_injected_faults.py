"""Faults injected into the right-hand side of every flow, and into a solver: none is certified."""

import pytest

import gflow
from gflow.flows import EndToEndFlow, LayerwiseFlow
from tests.helpers import altered, alternate, ensemble_of, flow_classes, slow_except
from tests.truths.faults import (
    OF_ENSEMBLES,
    OF_MATRICES,
    RIGHT_HAND_SIDES,
    SOLVERS,
    FaultySolver,
    certificate,
    faulty_flow,
    plateaus,
)

FLOWS = {kind.__name__: kind for kind in flow_classes()}
PLATEAUS = plateaus()
SLOW = ("CentralFlow", "ModifiedFlow")  # wrappers, whose evaluations take long
TS = [0.0, 0.3, 1.0]
#: Uphill, where flows explode: `tests/test_contracts.py` has the sign.
UPHILL = ("sign", "transpose")
FAULTS = [fault for fault in RIGHT_HAND_SIDES if fault not in UPHILL]


@pytest.mark.parametrize(("fault", "name"), alternate(FAULTS, FLOWS))
def test_a_faulty_right_hand_side_is_not_certified(fault, name):
    flow, y0 = FLOWS[name].example()
    try:
        path = gflow.integrate(
            faulty_flow(flow, fault), y0, TS, "dopri5", 1e-4, 1e-7, max_evals=100
        )
    except gflow.InputError:
        return  # refused before the first step
    except gflow.IntegrationError as stopped:
        path = stopped.trajectory
    assert not path.certificate.holds


@pytest.mark.parametrize("fault", ["frozen", "late"])
@pytest.mark.parametrize("name", PLATEAUS)
def test_a_plateau_that_is_left_late_or_never_is_not_certified(name, fault):
    plateau = PLATEAUS[name]
    flow = altered(plateau.flow, getattr(plateau, fault))
    try:
        path = gflow.integrate(flow, plateau.y0, plateau.ts, "tsit5", atol=1e-12, max_evals=400)
    except gflow.IntegrationError as stopped:
        path = stopped.trajectory
    assert path.certificate.velocity_error > 0.1


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("part", slow_except(range(3), 0))
def test_a_faulty_solver_is_not_certified(name, part):
    flow, y0 = FLOWS[name].example()
    if name in SLOW:
        assert not certificate(flow, y0, TS, SOLVERS["late exit"](), 1e-6).holds
        return
    assert certificate(flow, y0, TS, FaultySolver(), 1e-6).holds  # without a fault
    faults = [fault for fault in SOLVERS if fault not in UPHILL]
    some = faults[(list(FLOWS).index(name) + part) % 3 :: 3]
    assert [f for f in some if certificate(flow, y0, TS, SOLVERS[f](), 1e-6).holds] == []


@pytest.mark.parametrize("kind", [EndToEndFlow, LayerwiseFlow], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("fault", OF_MATRICES)
def test_a_lost_rank_or_sign_is_not_certified(kind, fault):
    flow, y0 = kind.example()
    assert not certificate(flow, y0, TS, OF_MATRICES[fault](), 1e-6).holds


@pytest.mark.parametrize("name", [name for name in FLOWS if name not in SLOW])
def test_swapped_members_are_not_certified(name):
    flow, y0 = FLOWS[name].example()
    starts = ensemble_of(y0 if y0.any() else y0 + 1)[0]
    swapped = OF_ENSEMBLES["swapped members"]()
    assert not certificate(flow, starts, TS, swapped, 1e-6).holds
