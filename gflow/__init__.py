"""gflow: gradient flow, the continuous-time limit of gradient descent.

The public names, loaded when first used so that ``import gflow`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from gflow._version import __version__

if TYPE_CHECKING:
    from gflow.descent import Descent as Descent
    from gflow.descent import descend as descend
    from gflow.errors import GflowError as GflowError
    from gflow.errors import InputError as InputError
    from gflow.flows import EndToEndFlow as EndToEndFlow
    from gflow.flows import FactorFlow as FactorFlow
    from gflow.flows import KernelFlow as KernelFlow
    from gflow.flows import LayerwiseFlow as LayerwiseFlow
    from gflow.flows import ModifiedFlow as ModifiedFlow
    from gflow.flows import NetworkFlow as NetworkFlow
    from gflow.flows import ProductFlow as ProductFlow
    from gflow.runs.reading import load_run as load_run
    from gflow.solvers import integrate as integrate
    from gflow.solvers import to_scipy as to_scipy
    from gflow.studies import compare as compare
    from gflow.studies import step_size_study as step_size_study
    from gflow.sweeping.dataset import load_sweep as load_sweep
    from gflow.trajectory import Certificate as Certificate
    from gflow.trajectory import IntegrationError as IntegrationError
    from gflow.trajectory import Trajectory as Trajectory


_HOME = {
    "Certificate": "gflow.trajectory",
    "Descent": "gflow.descent",
    "EndToEndFlow": "gflow.flows",
    "FactorFlow": "gflow.flows",
    "GflowError": "gflow.errors",
    "InputError": "gflow.errors",
    "IntegrationError": "gflow.trajectory",
    "KernelFlow": "gflow.flows",
    "LayerwiseFlow": "gflow.flows",
    "ModifiedFlow": "gflow.flows",
    "NetworkFlow": "gflow.flows",
    "ProductFlow": "gflow.flows",
    "Trajectory": "gflow.trajectory",
    "compare": "gflow.studies",
    "descend": "gflow.descent",
    "integrate": "gflow.solvers",
    "load_run": "gflow.runs.reading",
    "load_sweep": "gflow.sweeping.dataset",
    "step_size_study": "gflow.studies",
    "to_scipy": "gflow.solvers",
}
_PACKAGES = ("flows", "kernels", "losses", "solvers", "studies")

__all__ = [*_HOME, *_PACKAGES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"gflow.{name}")
    raise AttributeError(f"module 'gflow' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
