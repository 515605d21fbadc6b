"""Who may import whom, read off the source; and what ``import gflow`` loads."""

import ast
import configparser
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import gflow
from tests.helpers import slow_except

ROOT = Path(gflow.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

#: The rooms from the top floor to the ground, with the rooms that each may import beside itself
#: and the ground.
GROUND = {"_version", "errors", "text", "checks", "callbacks", "discovery", "display"}
TABLE = {
    "__main__": {"cli"},
    "cli": {
        "reporting",
        "sweeping",
        "runs",
        "scenario",
        "settings",
        "results",
        "trajectory",
        "distributed",
        "plots",
        "execution",
        "io",
    },
    "reporting": {
        "sweeping",
        "runs",
        "scenario",
        "settings",
        "results",
        "solvers",
        "plots",
        "io",
    },
    "sweeping": {
        "runs",
        "views",
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
        "loggers",
        "views",
        "scenario",
        "settings",
        "results",
        "studies",
        "trajectory",
        "io",
        "plots",
        "execution",
    },
    "views": {"results", "studies", "descent", "trajectory", "plots", "io"},
    "scenario": {"settings", "io"},
    "settings": {
        "results",
        "studies",
        "solvers",
        "kernels",
        "flows",
        "losses",
        "networks",
        "preparation",
        "data",
        "distributed",
        "execution",
    },
    "results": {"studies", "descent", "trajectory", "flows", "measures", "linalg"},
    "studies": {
        "baselines",
        "solvers",
        "descent",
        "trajectory",
        "events",
        "kernels",
        "flows",
        "losses",
        "laws",
        "linalg",
        "execution",
    },
    "baselines": {"solvers", "events", "flows", "losses"},
    "solvers": {"trajectory", "events", "flows", "linalg", "execution"},
    "spectra": {"flows", "linalg"},
    "descent": {"flows", "linalg", "execution"},
    "trajectory": {"flows", "linalg", "execution"},
    "events": {"flows"},
    "flows": {"losses", "distributed", "laws", "measures", "kernels", "linalg"},
    "measures": {"linalg"},
    "kernels": {"linalg"},
    "laws": {"networks", "linalg"},
    "preparation": {"data"},
    "data": {"io"},
    "losses": {"linalg"},
    "networks": set(),
    "plots": set(),
    "distributed": {"execution"},
    "execution": set(),
    "linalg": set(),
    "loggers": set(),
    "io": set(),
}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Return the nodes of a file's syntax tree that have to do with imports, and assertions."""
    kinds = (ast.If, ast.Import, ast.ImportFrom, ast.Assert)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


@functools.cache
def imports(path: Path, types: bool = False) -> frozenset[str]:
    """Return all modules that a file imports, also in functions; with ``types``, for types too."""
    for_types: set[ast.AST] = set()
    for node in nodes(path):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not types:
            for_types |= {inner for statement in node.body for inner in ast.walk(statement)}
    modules: set[str] = set()
    for node in nodes(path):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            modules |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(modules)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dotted(path: Path) -> str:
    return ".".join(("gflow", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    )


MODULES = {dotted(path): path for path in FILES}


def imported_modules(path: Path, types: bool = False) -> set[str]:
    """Return the full names of the modules of gflow that a file imports."""
    names = {m for m in imports(path, types) if m in MODULES}
    # ``from package import module`` also names the package: drop it.
    return {m for m in names if not any(other.startswith(m + ".") for other in names)}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "gflow"


def importers_of(module: str) -> set[str]:
    return {
        name(path)
        for path in FILES
        if any(m == module or m.startswith(module + ".") for m in imports(path))
    }


def test_every_package_is_in_the_table():
    rooms = {room(module) for module in MODULES} - GROUND - {"gflow"}
    assert rooms == set(TABLE)


def test_every_package_is_installed():
    """setup.cfg lists the packages, as scenarios/ stands elsewhere."""
    config = configparser.ConfigParser()
    config.read(ROOT.parent / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {dotted(path) for path in FILES if path.name == "__init__.py"}
    assert listed == folders | {"gflow", "gflow.scenarios"}


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
def test_packages_import_only_what_the_table_allows(types):
    wrong = sorted(
        (name(path), target)
        for module, path in MODULES.items()
        for target in imported_modules(path, types)
        if room(module) != "gflow"
        and room(target) not in {room(module), "gflow"} | GROUND | TABLE.get(room(module), set())
    )
    assert wrong == []


def test_every_import_in_the_table_is_used():
    used = {
        (room(module), room(target))
        for module, path in MODULES.items()
        for target in imported_modules(path, True)
    }
    assert [(a, b) for a in TABLE for b in sorted(TABLE[a]) if (a, b) not in used] == []


@pytest.mark.parametrize("types", [False, True], ids=["run", "types"])
def test_imports_have_no_cycle(types):
    graph = {m: imported_modules(path, types) - {m} for m, path in MODULES.items()}
    while leaves := {m for m, imported in graph.items() if not imported & graph.keys()}:
        graph = {m: imported for m, imported in graph.items() if m not in leaves}
    # The remaining modules import one another: remove those that only lead to a cycle.
    while roots := graph.keys() - set().union(*graph.values()):
        graph = {m: imported for m, imported in graph.items() if m not in roots}
    assert sorted(graph) == []


def test_number_of_files_in_the_top_folder():
    assert len([path for path in ROOT.iterdir() if path.is_file()]) <= 16


def test_only_the_command_line_imports_click():
    importers = importers_of("click")
    assert not [f for f in importers if not f.startswith("cli/")]


def test_only_plots_and_figures_of_reports_import_matplotlib():
    importers = importers_of("matplotlib")
    assert not [f for f in importers if not f.startswith(("plots/", "reporting/figures.py"))]


def test_only_the_adapters_import_the_integrators():
    assert importers_of("torchdiffeq") == {"solvers/torchdiffeq.py"}
    assert importers_of("scipy.integrate") == {"solvers/scipy.py"}


def test_no_user_input_is_checked_by_assert():
    with_assert = [
        name(path) for path in FILES if any(isinstance(node, ast.Assert) for node in nodes(path))
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


@pytest.mark.parametrize(
    "flow",
    [
        "NetworkFlow",
        *slow_except(["KernelFlow", "EndToEndFlow", "FactorFlow", "LayerwiseFlow", "TwoLayerFlow"]),
    ],
)
def test_a_first_answer_waits_for_no_package_that_it_does_not_use(flow):
    """Jacobian products of torch.autograd.grad import SymPy; fits of studies import SciPy.

    The compiler of torch takes two seconds; forward mode and torch.func.grad load it."""
    solve = f"flow, y0 = gflow.flows.{flow}.example(); gflow.integrate(flow, y0, [0.0, 1.0])"
    loaded = loaded_after(f"import gflow, gflow.studies; {solve}")
    unused = {"sympy", "scipy", "sklearn", "pandas", "xarray", "matplotlib", "torch._dynamo"}
    assert "torch" in loaded
    assert not (unused | {"click", "pydantic"}) & loaded


def test_public_names_exist():
    for public in gflow.__all__:
        assert getattr(gflow, public) is not None
    assert set(gflow.__all__) <= set(dir(gflow))
    with pytest.raises(AttributeError, match="No gflow attribute nothing"):
        _ = gflow.nothing
