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

#: The rooms from the top floor to the ground, with the rooms that each may import beside itself
#: and the ground.
GROUND = {"_version", "errors", "text", "checks", "callbacks"}
TABLE = {
    "__main__": {"cli"},
    "cli": {
        "sweeping",
        "runs",
        "scenario",
        "settings",
        "results",
        "trajectory",
        "distributed",
        "plots",
        "execution",
    },
    "sweeping": {
        "runs",
        "scenario",
        "settings",
        "results",
        "solvers",
        "descent",
        "flows",
        "losses",
        "io",
        "execution",
    },
    "runs": {
        "scenario",
        "settings",
        "results",
        "studies",
        "trajectory",
        "io",
        "plots",
        "execution",
    },
    "scenario": {"settings", "io"},
    "settings": {
        "results",
        "studies",
        "solvers",
        "kernels",
        "flows",
        "losses",
        "preparation",
        "data",
        "distributed",
        "execution",
    },
    "results": {"studies", "trajectory", "flows", "linalg"},
    "studies": {"solvers", "descent", "trajectory", "kernels", "flows", "linalg", "execution"},
    "solvers": {"trajectory", "events", "flows", "linalg", "execution"},
    "spectra": {"flows", "linalg"},
    "descent": {"flows", "linalg", "execution"},
    "trajectory": {"flows", "linalg", "execution"},
    "events": {"flows"},
    "kernels": {"flows", "linalg"},
    "flows": {"losses", "distributed", "linalg"},
    "preparation": {"data"},
    "data": {"io"},
    "losses": set(),
    "plots": set(),
    "distributed": {"execution"},
    "execution": set(),
    "linalg": set(),
    "io": set(),
}


@functools.cache
def imports(path: Path, types: bool = False) -> frozenset[str]:
    """Every module a file imports when it runs, inside functions too; for types alone if asked."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types:
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    return ".".join(("gflow", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    )


MODULES = {dotted(path): path for path in FILES}


def imported_modules(path: Path, types: bool = False) -> set[str]:
    """The modules of gflow that a file imports, each by its full name."""
    found = {m for m in imports(path, types) if m in MODULES}
    # ``from package import module`` names the package, too: it is the module that is meant.
    return {m for m in found if not any(other.startswith(m + ".") for other in found)}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "gflow"


def those_that_import(module: str) -> set[str]:
    return {
        name(path)
        for path in FILES
        if any(m == module or m.startswith(module + ".") for m in imports(path))
    }


def test_every_room_is_in_the_table():
    rooms = {room(module) for module in MODULES} - GROUND - {"gflow"}
    assert rooms == set(TABLE)


def test_the_table_runs_downwards():
    order = list(TABLE)
    upwards = [
        (above, below)
        for above in TABLE
        for below in TABLE[above]
        if order.index(below) <= order.index(above)
    ]
    assert upwards == []


@pytest.mark.parametrize("types", [False, True], ids=["run", "types"])
def test_rooms_import_what_the_table_says(types):
    wrong = sorted(
        (name(path), other)
        for module, path in MODULES.items()
        for other in imported_modules(path, types)
        if room(module) != "gflow"
        and room(other) not in {room(module), "gflow"} | GROUND | TABLE.get(room(module), set())
    )
    assert wrong == []


def test_the_table_names_no_import_that_is_not_used():
    used = {
        (room(module), room(other))
        for module, path in MODULES.items()
        for other in imported_modules(path, True)
    }
    assert [(a, b) for a in TABLE for b in sorted(TABLE[a]) if (a, b) not in used] == []


@pytest.mark.parametrize("types", [False, True], ids=["run", "types"])
def test_no_import_circle(types):
    graph = {m: imported_modules(path, types) - {m} for m, path in MODULES.items()}
    while leaves := {m for m, others in graph.items() if not others & graph.keys()}:
        graph = {m: others for m, others in graph.items() if m not in leaves}
    # What is left imports another that is left: take away what only leads into a circle.
    while roots := graph.keys() - set().union(*graph.values()):
        graph = {m: others for m, others in graph.items() if m not in roots}
    assert sorted(graph) == []


def test_few_files_on_top():
    assert len([path for path in ROOT.iterdir() if path.is_file()]) <= 16


def test_only_the_command_line_imports_click():
    importers = those_that_import("click")
    assert not [f for f in importers if not f.startswith("cli/")]


def test_only_plots_import_matplotlib():
    importers = those_that_import("matplotlib")
    assert not [f for f in importers if not f.startswith("plots/")]


def test_only_the_adapters_import_the_integrators():
    assert those_that_import("torchdiffeq") == {"solvers/torchdiffeq.py"}
    assert those_that_import("scipy.integrate") == {"solvers/scipy.py"}


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
    with pytest.raises(AttributeError, match="No gflow attribute nothing"):
        _ = gflow.nothing
