"""The page: complete, accessible, self-contained, and safe whatever a folder holds."""

import base64
import itertools
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from gflow import plots
from gflow.errors import InputError
from gflow.reporting.report import MARK, NAME, render, write_report
from gflow.runs import load_run
from tests.helpers import slow_except
from tests.reporting.pages import Page, two_runs

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\"' $\\frac{ {{ 7*7 }}"


@pytest.fixture(scope="module")
def runs():
    return two_runs()


@pytest.fixture
def copied(runs, tmp_path):
    """Return a copy of a run that a test may change."""
    return Path(shutil.copytree(runs[0], tmp_path / "run"))


@pytest.fixture(scope="module")
def page(runs):
    return Page(write_report(runs[0]).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pair(runs, tmp_path_factory):
    file = tmp_path_factory.mktemp("pair") / "pair.html"
    return Page(write_report(runs, file).read_text(encoding="utf-8"))


def test_report_is_in_the_folder_of_the_run(runs, page):
    text = (runs[0] / NAME).read_text(encoding="utf-8")
    assert text.startswith(MARK)
    assert len(text) < 5_000_000
    assert page.open == []
    summary = load_run(runs[0]).summary
    for words in (
        "deep-linear on synthetic",
        "The certificate holds",
        "depth = 2 , in the scenario as shipped 3: number of layers N",
        "energy identity",
        f"{summary['descent'][0]['largest_gap']:.4g}",
        "gflow run scenario.toml",
        "@inproceedings{arora2018optimization",
        "version = {0.1.0}",
    ):
        assert words in page.text, words


def test_every_column_and_result_has_its_meaning(page):
    terms = {"step size", "steps", "at t", "final loss", "largest gap"}
    assert {"dt"} <= {tag for tag, _ in page.elements}
    assert len(page.all("dt")) == len(page.all("dd")) == len(terms)
    assert all(term in page.text for term in terms)


@pytest.mark.parametrize("name", slow_except(["page", "pair"], "page"))
def test_page_loads_nothing_and_runs_nothing(name, request):
    shown = request.getfixturevalue(name)
    tags = {tag for tag, _ in shown.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "audio", "video"}
    for tag, attributes in shown.elements:
        assert not [key for key in attributes if key.startswith("on")]
        if tag != "a":
            for key in ("src", "href", "srcset", "poster", "data"):
                assert attributes.get(key, "data:").startswith("data:"), (tag, attributes)
    (policy,) = [m["content"] for m in shown.all("meta") if "http-equiv" in m]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


@pytest.mark.parametrize("name", slow_except(["page", "pair"], "page"))
def test_page_can_be_read_by_a_screen_reader(name, request):
    shown = request.getfixturevalue(name)
    assert shown.all("html") == [{"lang": "en"}]
    assert len(shown.all("h1")) == len(shown.all("main")) == len(shown.all("title")) == 1
    assert len(shown.all("caption")) == len(shown.all("table")) > 2
    assert all(a["scope"] in ("row", "col") for a in shown.all("th"))
    images = shown.all("img")
    assert len(images) == len(shown.all("figcaption")) > 1
    assert all(a["alt"].startswith("Plot of ") for a in images)
    ids = [a["id"] for _, a in shown.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in shown.all("a") if a["href"].startswith("#")}
    assert targets <= set(ids)
    levels = [int(tag[1]) for tag, _ in shown.elements if re.fullmatch(r"h[1-6]", tag)]
    assert max(b - a for a, b in itertools.pairwise(levels)) == 1
    regions = [a["aria-label"] for a in shown.all("div") if a.get("role") == "region"]
    assert len(regions) == len(set(regions))


def test_figures_are_the_same_as_those_of_the_run_and_vector_graphics(runs, page):
    images = [base64.b64decode(a["src"].partition(",")[2]) for a in page.all("img")]
    assert len(images) == len(plots.figures(load_run(runs[0]).result))
    for image in images:
        root = ElementTree.fromstring(image)
        assert root.tag.endswith("svg")
        assert not [e for e in root.iter() if e.tag.endswith(("image", "script"))]


@pytest.mark.slow
def test_reports_of_two_runs_show_what_differs(pair):
    for words in ("Comparison of 2 runs", "Keys of the scenario that differ", "depth 2 3"):
        assert words in pair.text
    assert any("loss" in a["alt"] and "Shown are: 2; 3." in a["alt"] for a in pair.all("img"))


def test_texts_of_others_are_escaped(copied):
    run = copied
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["scenario"] |= {"title": HOSTILE, "name": "<b>name $x$", "data": HOSTILE}
    manifest |= {"command": ["gflow", HOSTILE], "platform": HOSTILE, "gflow": HOSTILE}
    manifest["packages"] = {HOSTILE: HOSTILE}
    (run / "manifest.json").write_text(json.dumps(manifest))
    summary = json.loads((run / "summary.json").read_text())
    summary["certificate"] |= {"holds": False, "failures": [HOSTILE], "not_run": [HOSTILE]}
    summary["certificate"]["invariant_drift"] = {HOSTILE: 1.0}
    summary["cost"] |= {"method": HOSTILE, "reason": HOSTILE}
    (run / "summary.json").write_text(json.dumps(summary))
    text = write_report(run).read_text(encoding="utf-8")
    shown = Page(text)
    assert shown.open == []
    assert "script" not in {tag for tag, _ in shown.elements}
    assert all(a["src"].startswith("data:image/svg+xml;base64,") for a in shown.all("img"))
    assert not [key for _, a in shown.elements for key in a if key.startswith("on")]
    assert text.count("<b>") == len(shown.all("figcaption"))  # the page's own
    assert "{{ 7*7 }}" in shown.text
    assert "The certificate does not hold" in shown.text


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("summary.json", {"kind": "flow-and-descent", "descent": [], "certificate": {}}),
        ("summary.json", {"kind": "flow-and-descent", "descent": [{"steps": 3}]}),
        ("manifest.json", {"state": "done", "scenario": {"setting": "deep-linear"}}),
    ],
)
def test_damaged_runs_are_one_line(file, content, copied):
    (copied / NAME).unlink(missing_ok=True)
    (copied / file).write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        write_report(copied)
    assert "\n" not in str(error.value)
    assert not (copied / NAME).exists()


def test_only_older_reports_are_replaced(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("gflow.reporting.report._content", lambda folders: {})
    monkeypatch.setattr("gflow.reporting.report.render", lambda **content: f"{MARK} new")
    file = tmp_path / "mine.html"
    assert write_report(runs[0], file) == file
    assert write_report(runs[0], file).read_text() == f"{MARK} new"
    for make in (lambda: file.write_text("my notes"), lambda: file.symlink_to(tmp_path / "x")):
        file.unlink()
        make()
        with pytest.raises(InputError, match="exists and is no report of gflow"):
            write_report(runs[0], file)
    with pytest.raises(InputError, match=r"the folder of .* must exist"):
        write_report(runs[0], tmp_path / "no" / "such.html")


def test_without_jinja2_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"needs Jinja2; run: pip install 'gflow-ode\[report\]'"):
        render("title")


def test_no_run_at_all_is_refused(tmp_path):
    with pytest.raises(InputError, match="needs at least one run"):
        write_report([])
    with pytest.raises(InputError, match="no run at"):
        write_report(tmp_path)
