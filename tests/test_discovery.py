"""Discovery of the modules of a package and of what they define."""

import sys

import pytest

from gflow.discovery import discover, import_modules, module_names


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make a package of two modules; the second imports from the first."""
    folder = tmp_path / "toy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("OUTSIDE = 'of the package, not of a module'\n")
    (folder / "b.py").write_text("from toy_package.a import FIRST\n_SECOND = 'second'\n")
    (folder / "a.py").write_text("FIRST = 'first'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in ("toy_package", "toy_package.a", "toy_package.b"):
        sys.modules.pop(name, None)


def test_names_are_sorted_and_nothing_is_imported(package):
    assert module_names([str(package)]) == ["a", "b"]
    assert "toy_package" not in sys.modules


def test_modules_are_imported_by_name(package):
    modules = import_modules("toy_package")
    assert list(modules) == ["a", "b"]
    assert modules["b"] is sys.modules["toy_package.b"]


def test_values_of_all_modules_are_yielded(package):
    texts = [v for v in discover("toy_package") if v in ("first", "second") or "package," in str(v)]
    assert texts == ["first", "first", "second"]


def test_a_new_file_is_discovered(package):
    import_modules("toy_package")
    (package / "c.py").write_text("THIRD = 'third'\n")
    assert "third" in discover("toy_package")
    sys.modules.pop("toy_package.c")


def test_a_module_with_an_error_is_not_skipped(package):
    (package / "c.py").write_text("raise ValueError('damaged')\n")
    with pytest.raises(ValueError, match="damaged"):
        list(discover("toy_package"))
