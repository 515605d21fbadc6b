"""The public names: present, documented, and of the installed version."""

import importlib
import importlib.metadata
import inspect

import pytest

import gflow

PACKAGES = [
    "gflow",
    "gflow.flows",
    "gflow.kernels",
    "gflow.losses",
    "gflow.solvers",
    "gflow.studies",
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_exists_and_is_documented(package):
    module = importlib.import_module(package)
    assert module.__doc__
    defined = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == package]
    defined = [n for n in defined if not n.startswith("_")]
    names = getattr(module, "__all__", defined)
    assert len(set(names)) == len(names) > 0
    for name in names:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        assert inspect.getdoc(value), f"{package}.{name}"
        if inspect.isclass(value):
            for member, attribute in vars(value).items():
                if inspect.isfunction(attribute) and not member.startswith("_"):
                    assert inspect.getdoc(getattr(value, member)), f"{package}.{name}.{member}"


def test_dir_lists_the_public_names():
    assert set(dir(gflow)) == set(gflow.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No gflow attribute nothing"):
        _ = gflow.nothing


def test_version_is_that_of_the_distribution():
    assert importlib.metadata.version("gflow-ode") == gflow.__version__


def test_command_is_installed():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="gflow")
    assert entry.load() is importlib.import_module("gflow.cli.main").main


def test_errors_have_a_common_base():
    for error in (gflow.InputError, gflow.IntegrationError):
        assert issubclass(error, gflow.GflowError)
    assert issubclass(gflow.InputError, ValueError)
    assert issubclass(gflow.IntegrationError, RuntimeError)
