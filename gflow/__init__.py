"""gflow: gradient flow, the continuous-time limit of gradient descent.

The public names are those of ``__init__.pyi``, which editors and type checkers read. Each is
loaded when it is first used, so that ``import gflow`` costs nothing.
"""

import lazy_loader

from gflow._version import __version__

_load, _, _public = lazy_loader.attach_stub(__name__, __file__)
__all__ = [*_public, "__version__"]


def __getattr__(name: str) -> object:
    return _load(name)


def __dir__() -> list[str]:
    return sorted(__all__)
