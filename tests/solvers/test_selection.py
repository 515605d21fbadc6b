"""Solvers by name, and the choice of ``auto``."""

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.flows import EndToEndFlow, KernelFlow
from gflow.solvers import methods
from gflow.solvers.base import Solver
from gflow.solvers.problem import Problem
from gflow.solvers.selection import choose_solver
from tests.helpers import make_loss, randn, times

FLOW = EndToEndFlow(make_loss("completion", 2, 3), 2)
START = 0.5 * randn(2, 3)


def test_methods_are_found_by_name():
    known = methods()
    assert {"dopri5", "dopri8", "rk4", "exact", "scipy:LSODA", "scipy:BDF", "scipy:Radau"} <= set(
        known
    )
    for name, solver in known.items():
        assert isinstance(solver, Solver)
        assert name in solver.names


@pytest.mark.parametrize(
    ("method", "nearest"),
    [
        ("dorpi5", "dopri5"),
        ("dopri", "dopri8|dopri5"),
        ("scipy:LSODE", "scipy:LSODA"),
        ("rk5", "rk4"),
    ],
)
def test_unknown_method_names_the_nearest(method, nearest):
    with pytest.raises(InputError, match=f"got '{method}'; did you mean '({nearest})'"):
        gflow.integrate(FLOW, START, [0.0, 1.0], method)
    with pytest.raises(InputError, match=r"got 'qqq'$"):
        gflow.integrate(FLOW, START, [0.0, 1.0], "qqq")


def choice(flow, y0, steps=False, rtol=1e-6):
    return choose_solver(Problem(flow, y0, [0.0, 1.0], rtol=rtol, atol=1e-9), "auto", steps)[1:]


def test_automatic_choice():
    kernel, zero = KernelFlow(torch.eye(2).double(), times(1.0, 2.0)), torch.zeros(2).double()
    assert choice(kernel, zero) == ("exact", "auto: closed form (eigendecomposition of H)")
    name, reason = choice(kernel, zero, steps=True)
    assert name == "tsit5"
    assert "the solve needs steps" in reason
    name, reason = choice(FLOW, START, rtol=1e-9)
    assert name == "dop853"
    assert "no closed form from this start" in reason


@pytest.mark.parametrize("method", ["auto", "tsit5", "bdf", "exact", "dopri5", "scipy:LSODA"])
def test_a_step_size_that_would_be_ignored_is_refused(method):
    flow, y0 = gflow.FactorFlow.example()
    message = rf"methods with fixed steps, .*euler.*, got it with method '{method}'.* max_step"
    with pytest.raises(gflow.InputError, match=message):
        gflow.integrate(flow, y0, [0.0, 0.1], method, step_size=0.01)
