"""The site: its pages, its gallery and its reference, checked without building it; and a build."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gflow

ROOT = Path(gflow.__file__).parents[1]
DOCS = ROOT / "docs"
GALLERY = sorted((DOCS / "gallery").glob("plot_*.py"))
#: Folders that a build of the site writes.
WRITTEN = ("_build", "auto_gallery", "benchmarks", "reference/generated")
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="an installed package has no docs/")


def is_written(path: Path) -> bool:
    return path.relative_to(DOCS).as_posix().startswith(WRITTEN)


def pages() -> list[Path]:
    return [path for path in sorted(DOCS.rglob("*.md")) if not is_written(path)]


def toctree_entries(page: Path) -> list[Path]:
    """Return the pages that the toctrees of a page name."""
    entries = []
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.splitlines():
            if line and not line.startswith(":"):
                name = re.sub(r".*<(.+)>$", r"\1", line)
                entries.append((page.parent / f"{name}.md").resolve())
    return entries


def test_every_page_is_in_a_toctree():
    reached, new = set(), {(DOCS / "index.md").resolve()}
    while new:
        page = new.pop()
        reached.add(page)
        new |= {entry for entry in toctree_entries(page) if entry.exists()} - reached
    assert [page for page in pages() if page.resolve() not in reached] == []


def test_toctrees_name_pages_that_exist():
    missing = [
        (page.name, entry.name)
        for page in pages()
        for entry in toctree_entries(page)
        if not entry.exists() and not is_written(entry)
    ]
    assert missing == []


def source_of(page: Path, link: str) -> Path:
    """Return the file in the repository behind a link, also to a page that a build writes."""
    path = (page.parent / link).resolve()
    if path.parent == DOCS / "auto_gallery":
        return (
            DOCS / "gallery" / (f"{path.name}.py" if path.name != "index" else "GALLERY_HEADER.rst")
        )
    if (DOCS / "reference" / "generated") in path.parents:
        return DOCS / "_extensions" / "reference_pages.py"
    return path


@pytest.mark.parametrize(
    "page",
    [*pages(), ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"],
    ids=lambda page: page.stem,
)
def test_links_to_files_of_the_repository_exist(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not source_of(page, link).exists()] == []


def test_gallery_has_ten_examples():
    assert len(GALLERY) >= 10


@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_gallery_scripts_compile_and_begin_with_a_title(script):
    tree = ast.parse(script.read_text())
    title, line = (ast.get_docstring(tree) or "\n").splitlines()[:2]
    assert line == "=" * len(title)
    assert "plt.show()" in script.read_text()


def test_every_public_name_is_in_the_reference(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    from reference_pages import documented, module_page

    names = documented()
    modules = {name for name in gflow.__all__ if f"gflow.{name}" in names}
    assert set(names["gflow"]) | modules | {"__version__"} == set(gflow.__all__)
    assert set(names["gflow.flows"]) == set(gflow.flows.__all__)
    assert names["gflow.solvers"]["integrate"] == "gflow.integrate"
    assert "   Flow\n" in module_page("gflow.flows", names["gflow.flows"])


def test_every_key_of_every_setting_is_in_the_reference(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    from scenario_pages import pages as scenario_pages

    from gflow.scenario import setting_models

    text = scenario_pages()["scenario-keys.rst"]
    keys = {key for model in setting_models().values() for key in model.model_fields}
    assert [key for key in keys if f"* - ``{key}``\n" not in text] == []


def test_link_checker_finds_what_is_missing_and_what_comes_from_elsewhere(tmp_path):
    page = '<p id="a"></p><a href="#a">a</a><a href="#b">b</a><a href="c.html">c</a>'
    (tmp_path / "index.html").write_text(f'{page}<script src="https://example.org/x.js"></script>')
    command = [sys.executable, DOCS / "check_links.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "index.html: no anchor #b",
        "index.html: no file c.html",
        "index.html: loads https://example.org/x.js",
        "1 pages, 3 local links, 3 faults",
    ]


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path):
    for module in ("myst_parser", "pydata_sphinx_theme", "sphinx_click", "sphinx_gallery"):
        pytest.importorskip(module)
    site = tmp_path / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "-b", "html", "-d", tmp_path / "trees", DOCS]
    subprocess.run([*command, site], check=True, capture_output=True)
    assert len(list((site / "auto_gallery").glob("plot_*.html"))) == len(GALLERY)
    subprocess.run([sys.executable, DOCS / "check_links.py", site], check=True)
