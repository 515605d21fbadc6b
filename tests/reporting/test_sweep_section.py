"""The report of a sweep: its runs, and what they say together."""

import warnings

import pytest

from gflow.errors import InputError
from gflow.reporting.report import write_report
from gflow.reporting.sweep_section import sweep_section
from tests.reporting.pages import Page
from tests.sweeping.conftest import small_plan
from tests.sweeping.test_dataset import execute_plan


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Return a sweep of which one run is missing and one is damaged, and its plan."""
    folder = tmp_path_factory.mktemp("sweep")
    plan = small_plan(("t_end", "1.0,2.0,3.0"), seeds=2)
    execute_plan(plan, folder, plan.members[:5])
    return folder, plan


def test_section_of_a_sweep(sweep):
    folder, plan = sweep
    section = sweep_section(folder)
    assert section.heading == "Sweep of kernel over t end, seed"
    assert section.verdict == "stopped"
    assert "5 of 6 runs are done; the certificate holds for 5 of them" in section.verdict_text
    assert dict(section.counts) == {"done": 5, "missing": 1}
    assert [run.name for run in section.runs] == [member.id for member in plan.members]
    assert [run.cells[:2] for run in section.runs[:2]] == [("1", "0"), ("1", "1")]
    assert all(len(run.cells) == len(section.headings) for run in section.runs)
    assert section.runs[5].cells[2:] == ("-",) * (len(section.headings) - 2)
    assert section.axes[0][2].startswith("length of the path in time")
    assert section.references[0].key == "gflow"
    assert any(figure.name == "final_loss-t_end" for figure in section.figures)


def test_page_of_a_sweep_links_the_reports_of_its_runs(sweep):
    folder, plan = sweep
    first = plan.members[0].id
    (folder / "runs" / first / "report.html").write_text("a report")
    summary = folder / "runs" / plan.members[1].id / "summary.json"
    good = summary.read_text()
    summary.write_text("{}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a damaged run is named in the page instead
        page = Page(write_report(folder).read_text(encoding="utf-8"))
    summary.write_text(good)
    links = [a["href"] for a in page.all("a") if a["href"].startswith("runs/")]
    assert links == [f"runs/{first}/report.html"]
    assert "damaged run at" in page.text
    assert f"seed = [ {'0, 1'}" in page.text or "0, 1" in page.text
    with pytest.raises(InputError, match="shows one sweep or several runs"):
        write_report([folder, folder / "runs" / first])


def test_a_sweep_without_a_completed_run_has_no_report(tmp_path):
    plan = small_plan(seeds=2)
    execute_plan(plan, tmp_path, [])
    with pytest.raises(InputError, match="needs a run that is done"):
        write_report(tmp_path)
