"""Integrating a flow: `integrate`, and the solvers it finds in this folder."""

from gflow.solvers.integrate import integrate, methods
from gflow.solvers.scipy import to_scipy

__all__ = ["integrate", "methods", "to_scipy"]
