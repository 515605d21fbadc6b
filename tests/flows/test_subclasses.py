"""A subclass has a right-hand side of its own: solvers follow that, no formula of its base."""

import pytest

import gflow
from tests.helpers import flow_classes

FLOWS = {kind.__name__: kind for kind in flow_classes()}
TOLERANCES = {"rtol": 1e-7, "atol": 1e-10}


def twice_as_fast(kind):
    def rhs(self, t, y):
        return 2 * kind.__call__(self, t, y)

    return type("TwiceAsFast", (kind,), {"__call__": rhs})


@pytest.mark.parametrize("method", ["auto", "tsit5", "rock4"])
@pytest.mark.parametrize("name", FLOWS)
def test_the_right_hand_side_of_a_subclass_is_followed(name, method):
    flow, y0 = FLOWS[name].example()
    faster = object.__new__(twice_as_fast(type(flow)))
    faster.__dict__.update(flow.__dict__)
    truth = gflow.integrate(flow, y0, [0.0, 0.2], method, **TOLERANCES).ys[-1]
    found = gflow.integrate(faster, y0, [0.0, 0.1], method, **TOLERANCES).ys[-1]
    assert float((found - truth).norm()) <= 1e-4 * float((truth - y0).norm())


def test_a_closed_form_is_not_that_of_a_subclass():
    flow, y0 = gflow.KernelFlow.example()
    faster = twice_as_fast(gflow.KernelFlow)(flow.H, flow.targets)
    for method in ("exact", "krylov"):
        with pytest.raises(gflow.InputError, match=r"affine|closed form"):
            gflow.integrate(faster, y0, [0.0, 1.0], method)
