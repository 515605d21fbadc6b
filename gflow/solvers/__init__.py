"""Integrate a flow: `integrate`, and the solvers in this folder."""

from gflow.solvers.integrate import integrate
from gflow.solvers.options import SolveOptions
from gflow.solvers.scipy import to_scipy
from gflow.solvers.selection import methods

__all__ = ["SolveOptions", "integrate", "methods", "to_scipy"]
