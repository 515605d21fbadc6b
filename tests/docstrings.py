"""Validate the docstrings of everything public with numpydoc.

Run: python tests/docstrings.py [gflow.solvers ...]

Every public function and class has a docstring in the imperative that ends with a period. Public
functions of two or more arguments have Parameters, Returns and an example; exported classes have
their Parameters or Attributes, and their methods of two or more arguments Parameters and Returns.
Exit status 1 where something is missing.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from numpydoc.validate import validate

import gflow

#: numpydoc's codes: form of every docstring; then of parameters and results.
FORM = {
    "GL03", "GL05", "GL06", "GL07", "GL08", "SS01", "SS03", "SS04", "SS06",
    "PR02", "PR03", "PR04", "PR05", "PR06", "PR10", "YD01",
}  # fmt: skip
ARGUMENTS = {"PR01", "RT01"}
FUNCTIONS = {"SS05", "EX01"}
#: Packages whose names users import from; the classes there are exported.
EXPORTS = (
    "gflow", "gflow.data", "gflow.distributed", "gflow.errors", "gflow.events", "gflow.flows",
    "gflow.kernels", "gflow.losses", "gflow.preparation", "gflow.runs", "gflow.solvers",
    "gflow.spectra", "gflow.studies",
)  # fmt: skip


def exported() -> set[Any]:
    """Return the classes and functions that users import."""
    return {
        value
        for name in EXPORTS
        for key, value in vars(importlib.import_module(name)).items()
        if not key.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value))
    } | {value for key in gflow.__all__ if callable(value := getattr(gflow, key))}


def arguments(function: Any) -> int:
    """Return how many arguments a function takes beside self or cls."""
    names = list(inspect.signature(function).parameters)
    return len([name for name in names if name not in ("self", "cls")])


def targets(prefixes: tuple[str, ...]) -> Iterator[tuple[str, set[str]]]:
    """Yield the full name of everything to validate, with the codes that apply."""
    public = exported()
    for info in pkgutil.walk_packages(gflow.__path__, "gflow."):
        if not info.name.startswith(prefixes) or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != info.name:
                continue
            full = f"{info.name}.{name}"
            if inspect.isfunction(value):
                yield full, FORM | (ARGUMENTS | FUNCTIONS if arguments(value) > 1 else set())
            elif inspect.isclass(value):
                yield full, FORM
                for key, member in vars(value).items():
                    function = getattr(member, "__func__", member)
                    if key.startswith("_") or not inspect.isfunction(function):
                        continue
                    long = value in public and arguments(function) > 1
                    if function.__doc__:  # else it is that of the base class
                        yield f"{full}.{key}", FORM | (ARGUMENTS if long else set())


def main(prefixes: tuple[str, ...]) -> int:
    """Print what is missing; return the exit status."""
    warnings.simplefilter("ignore")
    count = 0
    for name, codes in targets(prefixes or ("gflow.",)):
        for code, message in validate(name)["errors"]:
            if code in codes:
                count += 1
                print(f"{name}: {code} {message}")
    print(f"{count} docstring errors")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
