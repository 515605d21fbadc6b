"""The pages of the reference, written from the code whenever the site is built.

Public is what users import: the names of ``gflow``, of the modules among them, and of every other
package of gflow that has ``__all__``. Nothing is listed here: a new name is documented by itself.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import command_pages
import scenario_pages
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import gflow

FOLDER = Path(__file__).parents[1] / "reference" / "generated"
#: Modules that users meet beside those: errors to catch, scenarios to load.
BESIDE = ("errors", "scenario", "trajectory")


def public_modules() -> dict[str, ModuleType]:
    """Return the modules that users import from, by name."""
    names = {name for name in gflow.__all__ if inspect.ismodule(getattr(gflow, name))}
    for info in pkgutil.iter_modules(gflow.__path__):
        if not info.name.startswith("_") and info.name not in names:
            module = importlib.import_module(f"gflow.{info.name}")
            if info.name in BESIDE or hasattr(module, "__all__"):
                names.add(info.name)
    return {f"gflow.{name}": importlib.import_module(f"gflow.{name}") for name in sorted(names)}


def public_names(module: ModuleType) -> list[str]:
    """Return the public classes, functions and constants of a module."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    again = _exported_again(module)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and (value.__module__ == module.__name__ or name in again)
    )


def _exported_again(module: ModuleType) -> set[str]:
    """Return the names that a module imports as themselves: ``from x import y as y``."""
    tree = ast.parse(inspect.getsource(module))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names if alias.name == alias.asname}


@functools.cache
def documented() -> dict[str, dict[str, str]]:
    """Return for every public module its names, and the full name under which each has a page."""
    top = {
        id(getattr(gflow, name)): f"gflow.{name}"
        for name in gflow.__all__
        if callable(getattr(gflow, name))
    }
    pages = {"gflow": {full.removeprefix("gflow."): full for full in top.values()}}
    first: dict[int, str] = dict(top)
    for full, module in public_modules().items():
        pages[full] = {}
        for name in public_names(module):
            value = getattr(module, name)
            pages[full][name] = first.setdefault(id(value), f"{full}.{name}")
    return pages


def _kind(full: str) -> str:
    module, _, name = full.rpartition(".")
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        return "Errors" if issubclass(value, BaseException) else "Classes"
    return "Functions" if callable(value) else "Constants"


def _table(names: list[str], of: str | None = None) -> list[str]:
    """Return a table of names; with ``of``, those of that module, with a page for each."""
    option = [] if of is None else ["   :toctree: api"]
    shown = [f"~{name}" if of is None else name.removeprefix(f"{of}.") for name in names]
    return [".. autosummary::", *option, "", *(f"   {name}" for name in shown), ""]


def module_page(full: str, names: dict[str, str]) -> str:
    """Return the page of a module: tables of its names, with a page for each."""
    lines = [full, "=" * len(full), "", f".. automodule:: {full}", ""]
    lines += [f".. currentmodule:: {full}", ""]
    for kind in ("Classes", "Functions", "Errors", "Constants"):
        chosen = [page for page in names.values() if _kind(page) == kind]
        if not chosen:
            continue
        lines += [kind, "-" * len(kind), ""]
        own = [page for page in chosen if page.rpartition(".")[0] == full]
        others = [page for page in chosen if page not in own]
        lines += _table(own, full) if own else []
        lines += ["Also in `gflow` itself:", "", *_table(others)] if own and others else []
        lines += _table(others) if others and not own else []
    return "\n".join(lines)


def write_pages(app: Sphinx, config: Config) -> None:
    """Write the pages of the modules, of the command line and of the scenarios' keys."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    pages = {f"{full}.rst": module_page(full, names) for full, names in documented().items()}
    pages |= command_pages.pages() | scenario_pages.pages()
    kept = {*pages, *(f"{full}.rst" for names in documented().values() for full in names.values())}
    for old in FOLDER.rglob("*.rst"):  # pages of names that are gone
        if old.name not in kept:
            old.unlink()
    for name, text in pages.items():
        file = FOLDER / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def escape_mathematics(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Escape what reStructuredText would take for markup: ``*state``, |x|, before numpydoc."""
    lines[:] = _escaped(lines)


def own_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """Return the signature of a class by its ``__init__``, not by a ``__new__`` of its base."""
    if what != "class" or not inspect.isfunction(vars(obj).get("__init__")):
        return None
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(bare)), returns


def append_background(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Append the head of its module, with equations and sources, to a flow or a study."""
    module = str(getattr(obj, "__module__", ""))
    is_flow = what == "class" and module.startswith("gflow.flows.")
    is_study = what == "function" and module == f"gflow.studies.{name.rpartition('.')[2]}"
    head = inspect.getdoc(inspect.getmodule(obj)) if is_flow or is_study else None
    if head:
        lines += ["", ".. rubric:: Background", "", *_escaped(head.splitlines()), ""]


def _escaped(lines: list[str]) -> list[str]:
    """Return lines of a docstring with mathematics escaped, except in examples."""
    lines = list(lines)
    example = False
    for i, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            parts = re.split(r"(``.+?``|`[^`]+`)", line)
            parts[::2] = [_MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
            lines[i] = "".join(parts)
    return lines


#: A single asterisk, a bar, and an underscore at the end of a name.
_MARKUP = re.compile(r"(?<![*\\])[*](?![*])|[|]|(?<=\w)_(?![\w{])")


def _value_of(target: str) -> Any:
    """Return what a dotted name stands for, or None."""
    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for name in parts[cut:]:
            value = getattr(value, name, None)
        return value
    return None


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """Link names that are documented under another one, such as ``gflow.flows.KernelFlow``."""
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"]).lstrip("~")
    value = _value_of(target if target.startswith("gflow") else f"gflow.{target}")
    if value is None:
        return None
    objects = env.get_domain("py").objects  # type: ignore[attr-defined]
    for names in documented().values():
        for full in names.values():
            if full in objects and _value_of(full) is value:
                found = objects[full]
                builder = app.builder
                return make_refnode(
                    builder, node["refdoc"], found.docname, found.node_id, content, full
                )
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the functions above."""
    app.connect("config-inited", write_pages)
    app.connect("autodoc-process-docstring", escape_mathematics, priority=400)
    app.connect("autodoc-process-docstring", append_background, priority=600)
    app.connect("autodoc-process-signature", own_signature)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
