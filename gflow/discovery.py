"""Discovery of the modules of a package, so that a new file needs no entry elsewhere."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from types import ModuleType


def module_names(folders: Iterable[str]) -> list[str]:
    """Return the names of the modules in the folders of a package, without importing them.

    Examples
    --------
    >>> import gflow.results
    >>> module_names(gflow.results.__path__)[:2]
    ['arrays', 'base']
    """
    return sorted(info.name for info in pkgutil.iter_modules(list(folders)))


def import_modules(package: str) -> dict[str, ModuleType]:
    """Import the modules of a package and return them by name.

    Examples
    --------
    >>> list(import_modules("gflow.io"))[:2]
    ['atomic', 'locks']
    """
    folders = importlib.import_module(package).__path__
    return {name: importlib.import_module(f"{package}.{name}") for name in module_names(folders)}


def discover(package: str) -> Iterator[object]:
    """Import the modules of a package and yield the values of all names in them.

    A value that several modules import comes once from each.

    Yields
    ------
    object

    Examples
    --------
    >>> from gflow.solvers.bdf import BDF
    >>> BDF in discover("gflow.solvers")
    True
    """
    for module in import_modules(package).values():
        yield from vars(module).copy().values()
