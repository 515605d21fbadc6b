"""The distributions: built from the source, complete, and working where they are installed."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import gflow
from gflow.reporting.citations import software

ROOT = Path(gflow.__file__).parent.parent
RUN = "--data synthetic --samples 20 --inputs 3 --points 4 --t-end 2 --no-figures -q -o run"


def test_the_version_stands_in_one_place():
    assert "version = attr: gflow._version.__version__" in (ROOT / "setup.cfg").read_text()
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text()).get("project", {})
    cited = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", cited, re.MULTILINE) == [gflow.__version__]
    assert re.findall(r'^title: "(.*)"$', cited, re.MULTILINE) == [software().field("title")]


def build(kind, source, target):
    """Build a distribution with the backend of pyproject.toml; return its path."""
    code = f"from setuptools import build_meta as b; print(b.build_{kind}({str(target)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Return the sdist of a clean copy of the source, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("distributions")
    copy = folder / "copy"
    copy.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if tracked.returncode:
        pytest.skip("the source is no checkout")
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    sdist = build("sdist", copy, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return sdist, build("wheel", unpacked, folder)


@pytest.mark.slow
def test_the_wheel_has_every_module_and_every_file_that_they_read(distributions):
    with zipfile.ZipFile(distributions[1]) as archive:
        names = set(archive.namelist())
    package = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "gflow").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    scenarios = {f"gflow/scenarios/{file.name}" for file in (ROOT / "scenarios").glob("*.toml")}
    assert package | scenarios <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


@pytest.mark.slow
def test_an_installed_wheel_runs_and_reports(distributions, tmp_path):
    """The environment is new; only the packages that gflow needs are those of this one."""
    place = tmp_path / "environment"
    venv.create(place, with_pip=False)
    python = place / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install"]
    install += ["--no-deps", "--no-index", str(distributions[1])]
    subprocess.run(install, check=True)
    (site,) = place.glob("lib/python*/site-packages")
    # A path in a file is not searched for files of its own: an editable gflow is not found there.
    (site / "needs.pth").write_text(sysconfig.get_path("purelib"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

    def call(*arguments):
        done = subprocess.run(
            [str(python.with_name("gflow")), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [str(python), "-c", "import gflow; print(gflow.__file__)"]
    found = subprocess.check_output(where, cwd=tmp_path, env=environment, text=True)
    assert found.startswith(str(site))
    assert call("--version") == f"gflow, version {gflow.__version__}\n"
    assert len(json.loads(call("list", "--json"))) >= 9
    assert call("deep-linear", *RUN.split()) == "run\n"
    assert "The certificate holds" in Path(tmp_path, call("report", "run").strip()).read_text(
        "utf-8"
    )
    assert call("cite", "run").startswith("@software{gflow,")
