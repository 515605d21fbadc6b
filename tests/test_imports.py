"""Who may import whom, read off the source; and what ``import gflow`` loads."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import gflow

ROOT = Path(gflow.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


@functools.cache
def imports(path: Path) -> set[str]:
    """Every module a file imports when it runs, inside functions too; not for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def those_that_import(module: str) -> set[str]:
    return {
        name(path)
        for path in FILES
        if any(m == module or m.startswith(module + ".") for m in imports(path))
    }


def test_only_the_command_line_imports_click():
    importers = those_that_import("click")
    assert {f for f in importers if not f.startswith("cli")} <= {"__main__.py"}


def test_only_plots_and_report_import_matplotlib():
    importers = those_that_import("matplotlib")
    assert {f for f in importers if not f.startswith("plots/")} <= {"report.py"}


def test_only_the_adapters_import_the_integrators():
    assert those_that_import("torchdiffeq") == {"solvers/torchdiffeq.py"}
    assert those_that_import("scipy.integrate") == {"solvers/scipy.py"}


def test_nothing_imports_the_command_line():
    assert those_that_import("gflow.cli") <= {"__main__.py"}


@pytest.mark.parametrize("below", ["flows", "losses", "kernels", "spectra", "errors"])
@pytest.mark.parametrize(
    "above", ["solvers", "studies", "descent", "scenario", "store", "plots", "settings", "data"]
)
def test_direction(below, above):
    importers = those_that_import(f"gflow.{above}")
    assert not [f for f in importers if f == f"{below}.py" or f.startswith(f"{below}/")]


@pytest.mark.parametrize("package", ["solvers", "studies", "trajectory", "descent"])
def test_the_numerics_know_no_files_and_no_pictures(package):
    for above in ("scenario", "store", "plots", "settings", "data", "cli"):
        importers = those_that_import(f"gflow.{above}")
        assert not [f for f in importers if f == f"{package}.py" or f.startswith(f"{package}/")]


def test_solvers_know_no_studies():
    assert not [f for f in those_that_import("gflow.studies") if f.startswith("solvers/")]


def test_no_user_input_is_checked_by_assert():
    with_assert = [
        name(path)
        for path in FILES
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(path.read_text())))
    ]
    assert with_assert == []


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_gflow_loads_nothing_heavy():
    heavy = {"torch", "matplotlib", "click", "pydantic", "sklearn", "scipy", "numpy", "xarray"}
    assert not heavy & loaded_after("import gflow")


def test_flows_load_no_interface():
    loaded = loaded_after("import gflow.flows, gflow.solvers, gflow.studies")
    assert "torch" in loaded
    assert not {"matplotlib", "click", "pydantic", "sklearn"} & loaded


def test_public_names_exist():
    for public in gflow.__all__:
        assert getattr(gflow, public) is not None
    assert set(gflow.__all__) <= set(dir(gflow))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gflow.nothing
