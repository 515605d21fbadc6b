"""Activations of the kernels: one file each, under the name that users choose it by.

A file defines ``ACTIVATION``, an instance of a class of `gflow.kernels.dual_maps`, with its
``function`` φ. It needs no entry elsewhere: kernels, scenarios and tests find it here.
"""

import importlib
import pkgutil

from gflow.kernels.dual_maps import Activation as Activation
from gflow.kernels.dual_maps import PiecewiseLinear as PiecewiseLinear
from gflow.kernels.dual_maps import Smooth as Smooth


def discover() -> dict[str, Activation]:
    """Return the activation of every file in this folder by its name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").ACTIVATION for name in names}


#: Each activation by its name.
ACTIVATIONS = discover()
