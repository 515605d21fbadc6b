"""Activations of the kernels: one file each, under the name that users choose it by.

A file defines ``ACTIVATION``, an instance of a class of `gflow.kernels.dual_maps`, with its
``function`` φ. It needs no entry elsewhere: kernels, scenarios and tests find it here.
"""

from gflow.discovery import import_modules
from gflow.kernels.dual_maps import Activation as Activation
from gflow.kernels.dual_maps import PiecewiseLinear as PiecewiseLinear
from gflow.kernels.dual_maps import Smooth as Smooth


def discover() -> dict[str, Activation]:
    """Return the activation of every file in this folder by its name."""
    return {name: module.ACTIVATION for name, module in import_modules(__name__).items()}


#: Each activation by its name.
ACTIVATIONS = discover()
