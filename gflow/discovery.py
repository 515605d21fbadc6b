"""Discovery of the modules of a package, so that a new file needs no entry elsewhere."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import TypeVar, cast

_Class = TypeVar("_Class")


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


def concrete_classes(package: str, base: Callable[..., _Class]) -> list[type[_Class]]:
    """Return the classes in the modules of a package that can be made and have a base.

    Parameters
    ----------
    package : str
    base : type
        It may be abstract, which ``type[...]`` does not allow.

    Returns
    -------
    list of type
        Each once, in the order of `discover`.

    Examples
    --------
    >>> from gflow.loggers.base import Logger
    >>> sorted(kind.name for kind in concrete_classes("gflow.loggers", Logger))[:2]
    ['mlflow', 'tensorboard']
    """
    kind = cast("type[_Class]", base)
    found = (
        value
        for value in discover(package)
        if isinstance(value, type) and issubclass(value, kind) and not inspect.isabstract(value)
    )
    return list(dict.fromkeys(found))
